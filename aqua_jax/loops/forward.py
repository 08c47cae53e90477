"""Rows through a decoder, tile by tile, so that a row's bits do not depend on its company.

Knows: the model protocol, tiles of rows, layers.
Does not know: sessions, lanes, sampling, programs.

XLA picks another matmul kernel for another number of rows, so the same token
gets other bits in a prefill chunk than in a decode step. Here every program
runs the same loop body on tiles of a fixed number of rows, and only the number
of turns, an operand, differs. Keys, values and logits are then equal bit for
bit in float32, and empty tiles cost nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from aqua_jax.loops import attention

TENSOR_AXIS = "tensor"  # the mesh axis over which weights and pool are sharded


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the loop must know of a model's shape, over all shards."""

    name: str
    layers: int
    hidden: int
    kv_heads: int
    group: int  # query heads per KV head
    head_dim: int
    vocab: int
    dtype: Any  # of hidden states, keys and values
    context_tokens: int = 0  # positions that it was trained for; 0: nobody says
    windows: tuple[int, ...] = ()  # of each layer: a row attends to so many positions; 0: to all
    score_scale: float = 0.0  # of attention's scores; 0: head_dim ** -0.5
    score_softcap: float = 0.0  # scores s become softcap * tanh(s / softcap); 0: they stay

    @property
    def window(self) -> int:
        """Positions back that any layer attends to; 0: all."""
        return 0 if 0 in self.windows else max(self.windows, default=0)


class Span(NamedTuple):
    """Rows that are computed together.

    What a model makes of rows from `live` on is not used: they need not be computed.
    """

    positions: jax.Array  # [rows] int32
    live: jax.Array  # int32, at most rows


class CausalModel(Protocol):
    """A decoder as pure functions of `params`, each row by itself.

    All but `specs` and `linear` are called inside `shard_map` over the mesh axis `TENSOR_AXIS`
    with this shard's parameters; `x`, ids and logits are whole on every shard. Weights
    `[in, out]` of linear layers are applied by `linear.apply` alone, so that they may be kept in
    another layout.
    """

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def params(self) -> Any:
        """A pytree of arrays. Raises InternalError once they were taken."""
        ...

    def take_params(self) -> Any:
        """The same; from now on the model keeps none of them."""
        ...

    def specs(self, shards: int) -> Any:
        """PartitionSpecs of `params`. Raises ConfigError when `shards` cannot divide the model."""
        ...

    @property
    def linear(self) -> Any:
        """A tree like `params`: what each leaf is for `linear.py`, `WEIGHTS`, `TABLE` or ""."""
        ...

    def layer(self, params: Any, index: jax.Array) -> Any:
        """Layer `index` out of the leaves stacked `[layers, ...]`: what `project` takes."""
        ...

    def embed(self, params: Any, ids: jax.Array, span: Span) -> jax.Array:
        """`[rows]` token ids -> x `[rows, hidden]`."""
        ...

    def project(
        self, layer: Any, x: jax.Array, span: Span
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries `[rows, kv_heads, group, head_dim]`, keys and values without the group axis."""
        ...

    def combine(self, layer: Any, x: jax.Array, attended: jax.Array, span: Span) -> jax.Array:
        """The rest of the layer after attention, residual sums included: `[rows, hidden]`."""
        ...

    def logits(self, params: Any, x: jax.Array, span: Span) -> jax.Array:
        """X after the last layer -> float32 `[rows, vocab]`. Of `span` only `live` holds."""
        ...


def run_rows(
    model: CausalModel,
    params: Any,
    pool: jax.Array,
    rows: attention.Rows,
    *,
    attend: attention.Step,
    count: jax.Array,
    tile_rows: int,
) -> tuple[jax.Array, jax.Array]:
    """Runs the first `count` rows through all layers; returns the pool and x `[rows, hidden]`.

    Rows of one session stand in order of position: a row attends to those
    before it, of the same call and of earlier ones.
    """
    windows = jnp.asarray(model.facts.windows, jnp.int32) if model.facts.windows else None

    def run_layer(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> Any:
        window = None if windows is None else windows[index]
        which, layer = attention.Layer(index, window), model.layer(params, index)

        def run_tile(tile: jax.Array, carry: tuple[jax.Array, jax.Array]) -> Any:
            pool, x = carry
            cut = _cutter(tile, tile_rows)
            part, own = cut(x), attention.Rows(*map(cut, rows))
            span = Span(own.positions, jnp.minimum(count - tile * tile_rows, tile_rows))
            queries, keys, values = model.project(layer, part, span)
            pool, attended = attend(pool, which, own, queries, keys, values)
            part = model.combine(layer, part, attended, span)
            return pool, lax.dynamic_update_slice_in_dim(x, part, tile * tile_rows, axis=0)

        if is_whole:
            pool, x = carry
            span = Span(rows.positions, count)
            queries, keys, values = model.project(layer, x, span)
            pool, attended = attend(pool, which, rows, queries, keys, values)
            return pool, model.combine(layer, x, attended, span)
        return lax.fori_loop(0, tiles, run_tile, carry)

    tiles, is_whole = _tiles(count, tile_rows), rows.tokens.shape[0] == tile_rows
    x = model.embed(params, rows.tokens, Span(rows.positions, count))
    return lax.fori_loop(0, model.facts.layers, run_layer, (pool, x))


def choose(
    model: CausalModel,
    params: Any,
    x: jax.Array,
    pick: Callable[[jax.Array, Callable[[jax.Array], jax.Array]], Any],
    *,
    start: Any,
    count: jax.Array,
    tile_rows: int,
) -> Any:
    """`pick(logits, cut)` over the tiles of the first `count` rows, `start` for the rows after.

    What is picked, as `start`, is a pytree of arrays `[rows, ...]`.
    `cut` takes the tile's part of any `[rows, ...]` array.
    """

    def run_tile(tile: jax.Array, chosen: Any) -> Any:
        cut = _cutter(tile, tile_rows)
        left = jnp.minimum(count - tile * tile_rows, tile_rows)
        nowhere = jnp.zeros(tile_rows, jnp.int32)
        part = pick(model.logits(params, cut(x), Span(nowhere, left)), cut)

        def put(whole: jax.Array, rows: jax.Array) -> jax.Array:
            return lax.dynamic_update_slice_in_dim(whole, rows, tile * tile_rows, axis=0)

        return jax.tree.map(put, chosen, part)

    if x.shape[0] == tile_rows:
        logits = model.logits(params, x, Span(jnp.zeros(tile_rows, jnp.int32), count))
        return pick(logits, lambda array: array)
    return lax.fori_loop(0, _tiles(count, tile_rows), run_tile, start)


def _tiles(count: jax.Array, tile_rows: int) -> jax.Array:
    return (count + tile_rows - 1) // tile_rows


def _cutter(tile: jax.Array, tile_rows: int) -> Callable[[jax.Array], jax.Array]:
    return lambda array: lax.dynamic_slice_in_dim(array, tile * tile_rows, tile_rows, axis=0)
