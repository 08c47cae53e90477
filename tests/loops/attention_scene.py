"""Attention in miniature: pools, rows with pages of their own, and what is to come out.

Knows: the layout of pages, both implementations. Decides nothing: each test says which rows
attend, to what.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.loops import attention, native_attention
from aqua_jax.memory import native
from tests.memory import parts

# Gathered by XLA, and native: with the widest vectors, which serve, and with each width.
KINDS = ("xla", "native", "native 4", "native 8", "native 16")
LAYERS, LAYER = 2, 1
ROWS = 16  # of every call: XLA computes other bits for other numbers


class Shape(NamedTuple):
    """Sizes of a page and of what attends to it."""

    kv_heads: int = 2
    group: int = 3
    head_dim: int = 32
    page_tokens: int = 16
    dtype: str = "float32"


class Scene(NamedTuple):
    """A pool and rows; `pool` lacks the rows' own keys and values, `written` has them."""

    pool: np.ndarray
    positions: np.ndarray
    tables: np.ndarray
    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    written: np.ndarray


PLAIN = Shape()


def scene(positions: Sequence[int], shape: Shape = PLAIN, *, one_session: bool = False) -> Scene:
    """Random operands: a row at each position, with pages of its own or all of one session."""
    rng = np.random.default_rng(len(positions))
    tokens, count = shape.page_tokens, len(positions)
    needed = [position // tokens + 1 for position in positions]
    pages = rng.permutation(np.arange(1, (max(needed) if one_session else sum(needed)) + 1))
    block = attention.block_pages(tokens)
    tables = np.zeros((count, -(-max(needed) // block) * block), np.int32)
    first = 0
    for row, length in enumerate(needed):
        tables[row, :length] = pages[first : first + length]
        first += 0 if one_session else length
    if one_session:
        tables[:] = tables[np.argmax(needed)]

    def draw(*sizes: int) -> np.ndarray:
        return rng.normal(size=sizes).astype(jnp.dtype(shape.dtype))

    pool = draw(len(pages) + 1, LAYERS, 2, tokens, shape.kv_heads, shape.head_dim)
    queries = draw(count, shape.kv_heads, shape.group, shape.head_dim)
    keys, values = (draw(count, shape.kv_heads, shape.head_dim) for _ in range(2))
    written = pool.copy()
    for row, position in enumerate(positions):
        page = written[tables[row, position // tokens], LAYER]
        page[0, position % tokens], page[1, position % tokens] = keys[row], values[row]
    return Scene(pool, np.array(positions, np.int32), tables, queries, keys, values, written)


def dense(given: Scene, row: int, *, window: int = 0, softcap: float = 0.0) -> np.ndarray:
    """What a row is to get: `[kv_heads, group, head_dim]`, in float64."""
    end = int(given.positions[row]) + 1
    seen = slice(max(0, end - window) if window else 0, end)
    pages = given.written[given.tables[row], LAYER].astype(np.float64)
    keys, values = (np.concatenate(pages[:, side])[seen] for side in (0, 1))
    scores = np.einsum("kgd,tkd->kgt", given.queries[row].astype(np.float64), keys)
    scores /= np.sqrt(keys.shape[-1])
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("kgt,tkd->kgd", weights / weights.sum(-1, keepdims=True), values)


def attend(
    kind: str,
    given: Scene,
    rows: Sequence[int] | None = None,
    *,
    mode: str = "decode",
    window: int = 0,
    softcap: float = 0.0,
    pool: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(attended, the pool afterwards) of some rows, all by default; masked ones fill the call.

    pool: instead of that of the scene.
    """
    head_dim = given.queries.shape[-1]
    if kind.startswith("native ") and head_dim % _lanes(kind):
        pytest.skip(f"vectors of {_lanes(kind)} floats do not divide head_dim {head_dim}")
    chosen = list(range(len(given.positions)) if rows is None else rows)
    filled = [_filled(field[chosen]) for field in given[1:-1]]
    operands = jnp.array(given.pool if pool is None else pool), *filled
    mode = "decode" if kind == "xla" else mode
    after, attended = program(kind, mode, window, softcap)(*operands)
    return np.asarray(attended)[: len(chosen)], np.asarray(after)


@functools.cache
def program(kind: str, mode: str, window: int = 0, softcap: float = 0.0) -> jax.stages.Wrapped:
    """(pool, positions, tables, queries, keys, values) -> (pool, attended). Donates the pool."""
    step = getattr(implementation(kind, softcap), mode)

    def call(pool, positions, tables, queries, keys, values):
        rows = attention.Rows(jnp.zeros_like(positions), positions, tables)
        return step(
            pool,
            attention.Layer(jnp.int32(LAYER), jnp.int32(window) if window else None),
            rows,
            queries,
            keys,
            values,
        )

    return jax.jit(call, donate_argnums=0)


def implementation(kind: str, softcap: float = 0.0) -> attention.Attention:
    """Skips the test where this machine cannot run it."""
    if kind == "xla":
        return attention.GatherAttention(softcap=softcap)
    if parts.NO_COMPILER:
        pytest.skip(parts.NO_COMPILER)
    native.load()
    lanes = _lanes(kind)
    if lanes > widest_lanes():
        pytest.skip(f"this machine has no vectors of {lanes} floats")
    return native_attention.NativeAttention(softcap=softcap, lanes=lanes)


@functools.cache
def widest_lanes() -> int:
    """Floats in the widest vector that the library can use here."""
    given = scene([0])
    rows = attention.Rows(jnp.zeros(1, jnp.int32), given.positions, given.tables)
    for lanes in (16, 8):
        step = native_attention.NativeAttention(lanes=lanes).decode
        try:
            jax.block_until_ready(
                step(jnp.array(given.pool), attention.Layer(jnp.int32(0)), rows, *given[3:6])
            )
        except jax.errors.JaxRuntimeError as error:
            if "vectors of" not in str(error):
                raise
        else:
            return lanes
    return 4


def bits(array: np.ndarray) -> np.ndarray:
    """For comparisons in which a NaN equals itself and 0 differs from -0."""
    return array.view(np.uint32 if array.itemsize == 4 else np.uint16)


def _lanes(kind: str) -> int:
    return int(kind.removeprefix("native") or 0)


def _filled(field: np.ndarray) -> np.ndarray:
    rest = np.zeros((ROWS - len(field), *field.shape[1:]), field.dtype)
    return np.concatenate([field, rest])
