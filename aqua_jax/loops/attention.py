"""Attention of rows over their pages: writing keys and values, reading them back.

Knows: the pool's layout and each row's page table. Does not know: which session
a row is of, how keys and values came about. `GatherAttention` is written in jax: it runs
everywhere and is what others are compared with.

A row's result depends on its own table and position only, to the bit: not on
the other rows nor on how many blocks the longest of them makes the loop visit.

Letters: pool `[pages, layers, 2, page_tokens, kv_heads, head_dim]`, keys at
index 0 of the third axis and values at 1.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

# Tokens that one turn of the loop reads. Measured on 2 cores (32 rows, 4 layers, 128-float keys):
# 32 to 128 are alike, 256 reads too much of short contexts.
BLOCK_TOKENS = 128


class Rows(NamedTuple):
    """Tokens to compute, of any sessions in any order. A masked row has position 0 and table 0."""

    tokens: jax.Array  # [rows]
    positions: jax.Array  # [rows]
    tables: jax.Array  # [rows, table_pages], a multiple of `block_pages`


class Layer(NamedTuple):
    """One layer of the model, as attention sees it.

    window: how many positions a row attends to, the last of them its own; 0: all from
    position 0. None where no layer of the model has one.
    """

    number: jax.Array  # int32
    window: jax.Array | None = None  # int32


class Step(Protocol):
    """Writes the rows' keys and values into their pages, then attends; in place.

    Returns the pool and, for `[rows, kv_heads, group, head_dim]` queries, as
    many attended. keys, values: `[rows, kv_heads, head_dim]`. A row attends to
    the positions from 0, or from the first of the layer's window, to its own.
    """

    def __call__(
        self,
        pool: jax.Array,
        layer: Layer,
        rows: Rows,
        queries: jax.Array,
        keys: jax.Array,
        values: jax.Array,
    ) -> tuple[jax.Array, jax.Array]: ...


class Attention(Protocol):
    """Both steps compute the same bits for the same row; they differ in what they are fast at."""

    @property
    def prefill(self) -> Step:
        """For many rows of few sessions, those of one session next to one another."""
        ...

    @property
    def decode(self) -> Step:
        """For one row of each of many sessions."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class GatherAttention:
    """Scatters, then gathers pages: any device, any head_dim.

    scale: of scores; 0: head_dim ** -0.5. softcap: scores s become softcap * tanh(s / softcap)
    (Gemma 2, arXiv 2408.00118, section 2); 0: they stay.
    """

    scale: float = 0.0
    softcap: float = 0.0

    def decode(
        self,
        pool: jax.Array,
        layer: Layer,
        rows: Rows,
        queries: jax.Array,
        keys: jax.Array,
        values: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        pool = write(pool, layer.number, rows, keys, values)
        return pool, attend(pool, layer, rows, queries, scale=self.scale, softcap=self.softcap)

    prefill = decode


def block_pages(page_tokens: int) -> int:
    """Pages that one turn of the loop reads; page tables are as wide as a multiple of it."""
    return max(1, BLOCK_TOKENS // page_tokens)


def write(
    pool: jax.Array, layer: jax.Array, rows: Rows, keys: jax.Array, values: jax.Array
) -> jax.Array:
    """The pool with the rows' `[rows, kv_heads, head_dim]` keys and values written, in place.

    Masked rows write to page 0, which nobody reads: choosing between the old
    pool and the new one would copy it.
    """
    page_tokens = pool.shape[3]
    ordinals = (rows.positions // page_tokens)[:, None]
    pages = jnp.take_along_axis(rows.tables, ordinals, axis=1)[:, 0]
    slots = rows.positions % page_tokens
    pool = pool.at[pages, layer, 0, slots].set(keys)
    return pool.at[pages, layer, 1, slots].set(values)


def attend(
    pool: jax.Array,
    layer: Layer,
    rows: Rows,
    queries: jax.Array,
    *,
    scale: float = 0.0,
    softcap: float = 0.0,
) -> jax.Array:
    """`[rows, kv_heads, group, head_dim]` queries over positions up to their row's own.

    scale, softcap: as of `GatherAttention`.

    Softmax is kept as a running maximum, sum and weighted sum over blocks of
    pages in order (arXiv 1805.02867). A block that a row does not see changes
    nothing to the bit: its maximum does not rise, its weights are exact zeros.
    """
    count, kv_heads, group, head_dim = queries.shape
    block_tokens = block_pages(pool.shape[3]) * pool.shape[3]
    queries = queries.astype(jnp.float32) * (scale or head_dim**-0.5)
    start = (
        jnp.full((count, kv_heads, group), -jnp.inf, jnp.float32),
        jnp.zeros((count, kv_heads, group), jnp.float32),
        jnp.zeros((count, kv_heads, group, head_dim), jnp.float32),
    )
    firsts = _firsts(layer, rows)
    visit = functools.partial(
        _visit_block, pool, layer.number, rows, firsts, queries, softcap=softcap
    )
    begin = jnp.min(firsts) // block_tokens if firsts is not None else 0
    end = jnp.max(rows.positions) // block_tokens + 1
    _, total, weighted = lax.fori_loop(begin, end, visit, start)
    return (weighted / total[..., None]).astype(pool.dtype)


def _firsts(layer: Layer, rows: Rows) -> jax.Array | None:
    """The first position that each row attends to; None: it is 0 in every layer."""
    if layer.window is None:
        return None
    back = jnp.where(layer.window > 0, layer.window - 1, jnp.iinfo(jnp.int32).max)
    return jnp.maximum(rows.positions - back, 0)


def _visit_block(
    pool: jax.Array,
    layer: jax.Array,
    rows: Rows,
    firsts: jax.Array | None,
    queries: jax.Array,
    block: jax.Array,
    carry: tuple[jax.Array, jax.Array, jax.Array],
    *,
    softcap: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    maximum, total, weighted = carry
    page_tokens, kv_heads, head_dim = pool.shape[3:]
    width = block_pages(page_tokens)
    pages = lax.dynamic_slice_in_dim(rows.tables, block * width, width, axis=1)
    flat = (pages.shape[0], width * page_tokens, kv_heads, head_dim)
    keys = pool[pages, layer, 0].reshape(flat)
    values = pool[pages, layer, 1].reshape(flat)

    positions = block * width * page_tokens + jnp.arange(flat[1])
    seen = positions[None] <= rows.positions[:, None]
    if firsts is not None:
        seen &= positions[None] >= firsts[:, None]
    # A page's tail may hold what another session left there; even a NaN must not get through.
    values = jnp.where(seen[:, :, None, None], values, jnp.zeros_like(values))
    scores = jnp.einsum("rkgd,rtkd->rkgt", queries, keys.astype(jnp.float32))
    if softcap:
        scores = softcap * jnp.tanh(scores / softcap)
    scores = jnp.where(seen[:, None, None], scores, -jnp.inf)

    risen = jnp.maximum(maximum, scores.max(-1))
    # Before a row's window nothing has been seen: the difference of infinities would be NaN.
    base = risen if firsts is None else jnp.where(risen == -jnp.inf, 0.0, risen)
    fade = jnp.exp(maximum - base)
    weights = jnp.exp(scores - base[..., None])
    added = jnp.einsum("rkgt,rtkd->rkgd", weights, values.astype(jnp.float32))
    return risen, total * fade + weights.sum(-1), weighted * fade[..., None] + added
