"""Paged attention against a dense one, and what a row must not notice."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.loops import attention

LAYERS, PAGE_TOKENS, KV_HEADS, GROUP, HEAD_DIM = 2, 16, 2, 3, 8
PAGES, TABLE_PAGES = 64, 24
LAYER = 1

_attend = jax.jit(lambda pool, rows, queries: attention.attend(pool, LAYER, rows, queries))
_write = jax.jit(lambda pool, rows, keys, values: attention.write(pool, 1, rows, keys, values))


def scene(positions: list[int]) -> tuple[np.ndarray, attention.Rows, np.ndarray]:
    """A random pool, a row per position with pages of its own, and queries."""
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(PAGES, LAYERS, 2, PAGE_TOKENS, KV_HEADS, HEAD_DIM))
    queries = rng.normal(size=(len(positions), KV_HEADS, GROUP, HEAD_DIM))
    tables = np.zeros((len(positions), TABLE_PAGES), np.int32)
    pages = rng.permutation(np.arange(1, PAGES))
    for row, position in enumerate(positions):
        needed = position // PAGE_TOKENS + 1
        tables[row, :needed], pages = pages[:needed], pages[needed:]
    rows = attention.Rows(
        jnp.zeros(len(positions), jnp.int32), jnp.asarray(positions, jnp.int32), jnp.asarray(tables)
    )
    return pool.astype(np.float32), rows, queries.astype(np.float32)


def dense(pool: np.ndarray, table: np.ndarray, position: int, queries: np.ndarray) -> np.ndarray:
    """One row: `[kv_heads, group, head_dim]`."""
    keys, values = (
        np.concatenate(pool[table, LAYER, side])[: position + 1].astype(np.float64)
        for side in (0, 1)
    )
    scores = np.einsum("kgd,tkd->kgt", queries, keys) / np.sqrt(HEAD_DIM)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("kgt,tkd->kgd", weights / weights.sum(-1, keepdims=True), values)


def test_rows_attend_to_their_own_past():
    # A lone token, edges of pages and of blocks, and more than two blocks.
    pool, rows, queries = scene([0, 15, 16, 127, 128, 300])
    found = _attend(pool, rows, queries)
    for row, (table, position) in enumerate(zip(rows.tables, rows.positions, strict=True)):
        expected = dense(pool, np.asarray(table), int(position), queries[row])
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_a_long_row_changes_no_bit_of_a_short_one():
    pool, rows, queries = scene([3, 100, 40, 300])
    found = np.asarray(_attend(pool, rows, queries))
    short = rows._replace(positions=rows.positions.at[3].set(0))
    np.testing.assert_array_equal(np.asarray(_attend(pool, short, queries))[:3], found[:3])


def test_what_lies_past_a_rows_position_is_not_read():
    pool, rows, queries = scene([20, 130])
    found = np.asarray(_attend(pool, rows, queries))
    for row, position in ((0, 20), (1, 130)):
        last = int(rows.tables[row, position // PAGE_TOKENS])
        pool[last, :, :, position % PAGE_TOKENS + 1 :] = np.nan
    pool[0] = np.nan
    np.testing.assert_array_equal(np.asarray(_attend(pool, rows, queries)), found)


def test_writing_touches_one_slot_a_row():
    pool, rows, _ = scene([0, 15, 40])
    keys = np.full((3, KV_HEADS, HEAD_DIM), 7.0, np.float32)
    expected = pool.copy()
    for row, position in enumerate((0, 15, 40)):
        page = int(rows.tables[row, position // PAGE_TOKENS])
        expected[page, 1, 0, position % PAGE_TOKENS] = 7.0
        expected[page, 1, 1, position % PAGE_TOKENS] = -7.0
    np.testing.assert_array_equal(_write(pool, rows, keys, -keys), expected)


def test_blocks_are_whole_pages():
    assert [attention.block_pages(tokens) for tokens in (16, 32, 128, 256)] == [8, 4, 1, 1]
