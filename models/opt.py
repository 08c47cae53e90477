"""OPT (arXiv 2205.01068): learned positions, LayerNorm, ReLU, a bias wherever there are weights.

Knows: weights and the arithmetic of single rows (tokens). Does not know: files, pages, lanes,
schedules, other rows. Attention itself is the loop's, between `project` and `combine`.

Letters of shapes: `[rows]` tokens of any sessions in any order; under tensor parallelism `heads`,
`ffn` and `vocab` are this shard's share.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from aqua_jax.control import errors
from aqua_jax.loops import forward, linear
from models import decoder, parts

# Of the table of positions, the rows that no position uses: position p has row p + 2.
POSITION_OFFSET = 2
_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OptShape:
    """One decoder: `heads` of hidden / heads each, an FFN of width `ffn`.

    norm_first: LayerNorm before attention and FFN rather than after their sums (all but OPT 350M).
    last_norm: another one after the last layer.
    """

    name: str
    source: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    vocab: int
    context_tokens: int
    norm_first: bool = True
    last_norm: bool = True
    tied_embeddings: bool = True

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise errors.ConfigError(
                f"shape {self.name!r} has {self.heads} heads in a hidden size of {self.hidden}: "
                "hidden must be a multiple of heads"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


def causal(
    shape: OptShape,
    *,
    seed: int = 0,
    dtype: DTypeLike = jnp.float32,
    params: Any = None,
) -> decoder.CausalDecoder:
    """A model of `shape`, its weights `params` or drawn from `seed`: same seed, same weights."""
    facts = forward.ModelFacts(
        name=shape.name,
        layers=shape.layers,
        hidden=shape.hidden,
        kv_heads=shape.heads,
        group=1,
        head_dim=shape.head_dim,
        vocab=shape.vocab,
        dtype=jnp.dtype(dtype),
        context_tokens=shape.context_tokens,
    )
    return decoder.CausalDecoder(
        facts,
        lambda rngs: Opt(shape, rngs=rngs, dtype=dtype),
        divides={"heads": shape.heads, "ffn": shape.ffn, "vocab": shape.vocab},
        seed=seed,
        params=params,
    )


class Norm(nnx.Module):
    """LayerNorm of `[rows, size]`."""

    def __init__(self, size: int, *, dtype: DTypeLike) -> None:
        self.scale = nnx.Param(jnp.ones(size, dtype))
        self.bias = nnx.Param(jnp.zeros(size, dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        return parts.layer_norm(x, self.scale[...], self.bias[...], _EPSILON)


class Opt(nnx.Module):
    """The weights: `ends` (embedding, positions, last norm, head) and `blocks`, stacked."""

    def __init__(self, shape: OptShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.ends = Ends(shape, rngs=rngs, dtype=dtype)
        self.blocks = decoder.stack(
            lambda rngs: Block(shape, rngs=rngs, dtype=dtype), shape.layers, rngs
        )


class Ends(nnx.Module):
    """What comes before the first layer and after the last. Tokens are sharded, positions whole."""

    def __init__(self, shape: OptShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        sizes, tied = (shape.vocab, shape.hidden), shape.tied_embeddings
        self.embedding = parts.table(rngs, sizes, dtype=dtype, is_head=tied)
        sizes = (shape.context_tokens + POSITION_OFFSET, shape.hidden)
        positions = jax.random.normal(rngs.params(), sizes, jnp.float32) * shape.hidden**-0.5
        self.positions = nnx.Param(
            positions.astype(dtype), out_sharding=(None, None), eager_sharding=False
        )
        self.norm = nnx.data(Norm(shape.hidden, dtype=dtype) if shape.last_norm else None)
        self.head = nnx.data(None)
        if not shape.tied_embeddings:
            sizes = (shape.hidden, shape.vocab)
            self.head = parts.column_parallel(rngs, sizes, dtype=dtype)

    def embed(self, ids: jax.Array, span: forward.Span) -> jax.Array:
        where = self.positions[...][span.positions + POSITION_OFFSET]
        return parts.look_up(self.embedding[...], ids) + where

    def logits(self, x: jax.Array, span: forward.Span) -> jax.Array:
        """`[rows, hidden]` -> float32 `[rows, vocab]`, the whole vocabulary on every shard."""
        head = linear.transposed(self.embedding[...]) if self.head is None else self.head[...]
        x = x if self.norm is None else self.norm(x)
        local = linear.apply(x, head, span.live, dtype=jnp.float32)
        return lax.all_gather(local, forward.TENSOR_AXIS, axis=1, tiled=True)


class Block(nnx.Module):
    """One layer. Column-parallel in, row-parallel out: one sum over shards after each half.

    qkv's columns stand as in `hf_leaves.qkv`. What row-parallel weights make gets its bias once,
    after the sum.
    """

    def __init__(self, shape: OptShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        hidden, ffn = shape.hidden, shape.ffn
        self.norm_first = shape.norm_first
        self.head_dim = shape.head_dim
        self.attention_norm = Norm(hidden, dtype=dtype)
        self.ffn_norm = Norm(hidden, dtype=dtype)
        self.qkv = parts.column_parallel(rngs, (hidden, 3 * hidden), dtype=dtype)
        self.qkv_bias = parts.bias(rngs, 3 * hidden, of=hidden, sharded=True, dtype=dtype)
        self.out = parts.row_parallel(rngs, (hidden, hidden), dtype=dtype)
        self.out_bias = parts.bias(rngs, hidden, of=hidden, sharded=False, dtype=dtype)
        self.up = parts.column_parallel(rngs, (hidden, ffn), dtype=dtype)
        self.up_bias = parts.bias(rngs, ffn, of=hidden, sharded=True, dtype=dtype)
        self.down = parts.row_parallel(rngs, (ffn, hidden), dtype=dtype)
        self.down_bias = parts.bias(rngs, hidden, of=ffn, sharded=False, dtype=dtype)

    def project(self, x: jax.Array, span: forward.Span) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries `[rows, heads, 1, head_dim]`, keys and values without the third axis."""
        h = self.attention_norm(x) if self.norm_first else x
        qkv = linear.apply(h, self.qkv[...], span.live) + self.qkv_bias[...][None]
        qkv = qkv.reshape(x.shape[0], -1, 3, self.head_dim)
        return qkv[:, :, :1], qkv[:, :, 1], qkv[:, :, 2]

    def combine(self, x: jax.Array, attended: jax.Array, span: forward.Span) -> jax.Array:
        """The rest of the layer, given `attended` `[rows, heads, 1, head_dim]`."""
        attended = attended.reshape(x.shape[0], -1)
        made = parts.sum_shards(linear.apply(attended, self.out[...], span.live))
        x = x + (made + self.out_bias[...][None])
        x = x if self.norm_first else self.attention_norm(x)
        h = self.ffn_norm(x) if self.norm_first else x
        h = jax.nn.relu(linear.apply(h, self.up[...], span.live) + self.up_bias[...][None])
        made = parts.sum_shards(linear.apply(h, self.down[...], span.live))
        x = x + (made + self.down_bias[...][None])
        return x if self.norm_first else self.ffn_norm(x)
