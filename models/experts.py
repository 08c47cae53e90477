"""A mixture of experts in place of a layer's FFN: each row by the few that a router chooses.

Mixtral (arXiv 2401.04088), Qwen3-MoE (arXiv 2505.09388). Knows: weights and the arithmetic of
single rows (tokens). Does not know: attention, files, sessions.

A row's result is of its own experts alone, in the order of their numbers: no capacity, nothing
dropped, the same bits in any company. Experts that no live row has chosen are not read.

Letters of shapes: `[rows]` tokens of any sessions; under tensor parallelism `ffn` is this shard's
share of every expert.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from aqua_jax.loops import linear
from models import parts, shapes


class Mixture(nnx.Module):
    """SwiGLUs of width `ffn` and what chooses among them, whole on every shard."""

    def __init__(
        self, shape: shapes.Experts, hidden: int, ffn: int, *, rngs: nnx.Rngs, dtype: DTypeLike
    ) -> None:
        self.active = shape.active
        self.is_sum_one = shape.is_sum_one
        count = shape.count
        self.router = parts.whole(rngs, (hidden, count), dtype=dtype)
        self.gate = parts.column_parallel(rngs, (hidden, ffn), dtype=dtype, experts=count)
        self.up = parts.column_parallel(rngs, (hidden, ffn), dtype=dtype, experts=count)
        self.down = parts.row_parallel(rngs, (ffn, hidden), dtype=dtype, experts=count)

    def __call__(self, x: jax.Array, live: jax.Array) -> jax.Array:
        """`[rows, hidden]` -> the same, summed over shards. Rows from `live` on are not computed.

        Each turn of the loop is one expert that a live row has chosen, with those rows in front.
        """
        shares = self._shares(x, live)
        chosen = shares > 0
        order, turns = called(chosen)

        def run_expert(turn: jax.Array, total: jax.Array) -> jax.Array:
            index = order[turn]
            mine = chosen[:, index]
            front = jnp.argsort(~mine, stable=True)
            made = self._expert(index, x[front], mine.sum(dtype=jnp.int32))[jnp.argsort(front)]
            added = total + made * shares[:, index, None]
            return jnp.where(mine[:, None], added, total)

        start = jnp.zeros(x.shape, jnp.float32)
        total = lax.fori_loop(0, turns, run_expert, start)
        return parts.sum_shards(total).astype(x.dtype)

    def _shares(self, x: jax.Array, live: jax.Array) -> jax.Array:
        """Float32 `[rows, experts]`, above 0 at most for the `active` most likely of a live row."""
        logits = linear.apply(x, self.router[...], live)
        likely, which = lax.top_k(jax.nn.softmax(logits.astype(jnp.float32)), self.active)
        if self.is_sum_one:
            likely = likely / likely.sum(-1, keepdims=True)
        rows = jnp.arange(x.shape[0])[:, None]
        shares = jnp.zeros(logits.shape, jnp.float32).at[rows, which].set(likely)
        return jnp.where(rows < live, shares, 0.0)

    def _expert(self, index: jax.Array, x: jax.Array, live: jax.Array) -> jax.Array:
        """Float32 `[rows, hidden]`, this shard's part of the sum."""
        gate, up, down = (
            linear.expert(weights.get_value(), index) for weights in (self.gate, self.up, self.down)
        )
        h = jax.nn.silu(linear.apply(x, gate, live)) * linear.apply(x, up, live)
        return linear.apply(h, down, live, dtype=jnp.float32)


def called(chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Bools `[rows, experts]` -> the experts that any row has chosen, in order, and how many."""
    is_called = chosen.any(0)
    (order,) = jnp.nonzero(is_called, size=is_called.size, fill_value=0)
    return order, is_called.sum(dtype=jnp.int32)
