"""Attention by the library: right to float64, the same bits in any company, in place."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.loops import attention, native_attention
from tests.device import place as places
from tests.device.place import DEVICE, HOST, POOL

LAYERS, LAYER, PAGE_TOKENS, KV_HEADS = 2, 1, 16, 2
LIMITS = {"float32": 1e-5, "bfloat16": 1e-2}  # relative to the row's largest value


class Rows(NamedTuple):
    """Operands, without the pool."""

    positions: np.ndarray
    tables: np.ndarray
    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray

    def take(self, rows: Sequence[int]) -> Rows:
        return Rows(*(field[list(rows)] for field in self))


def check_rows_are_right(place: places.Place) -> None:
    """Of every type, head_dim, group and window, in decode and in prefill."""
    lengths = [1, 17, 130] if place.tiny else [1, 16, 17, 129, 700, 1500]
    cases = [(128, 4, 0), (64, 1, 50), (32, 12, 0)]
    cases += [] if place.tiny else [(256, 8, 0), (96, 3, 200), (16, 2, 0), (8, 1, 0)]
    for head_dim, group, window in cases:
        for dtype, limit in LIMITS.items():
            rows, pages = _rows(lengths, head_dim, group, dtype)
            expected = None
            for mode in ("decode", "prefill"):
                attended, after = _attend(pages, rows, mode, window=window)
                written = _written(pages, rows)
                assert np.array_equal(_bits(after), _bits(written)), "other pages were written"
                expected = _dense(written, rows, window) if expected is None else expected
                worst = _difference(attended, expected)
                assert worst < limit, (mode, dtype, head_dim, group, window, worst)


def check_bits_do_not_depend_on_company(place: places.Place) -> None:
    """Alone, in a batch, in decode and in prefill: the same row is the same to the bit."""
    lengths = [40, 130, 90] if place.tiny else [40, 1290, 300, 511, 512, 513, 128, 129]
    for dtype in LIMITS:
        rows, pages = _rows(lengths, 64, 4, dtype)
        whole, _ = _attend(pages, rows, "decode")
        prefilled, _ = _attend(pages, rows, "prefill")
        assert np.array_equal(_bits(whole), _bits(prefilled)), "prefill has other bits than decode"
        for row in range(len(lengths)):
            for mode in ("decode", "prefill"):
                alone, _ = _attend(pages, rows.take([row]), mode)
                assert np.array_equal(_bits(alone[0]), _bits(whole[row])), (dtype, row, mode)


def check_a_chunk_of_one_session(place: places.Place) -> None:
    """Rows that share a table and attend to one another: as if they came one after another."""
    first, count = (30, 9) if place.tiny else (500, 45)
    for dtype, limit in LIMITS.items():
        rows, pages = _rows(range(first, first + count), 64, 4, dtype, shared=True)
        prefilled, after = _attend(pages, rows, "prefill")
        written = _written(pages, rows)
        assert np.array_equal(_bits(after), _bits(written))
        assert _difference(prefilled, _dense(written, rows, 0)) < limit
        decoded, _ = _attend(written, rows, "decode")
        assert np.array_equal(_bits(prefilled), _bits(decoded))


def check_pages_are_attended_where_they_are(place: places.Place) -> None:
    """Pages of arenas, by their slots, give the bits that they would give in the pool.

    Rows of two sessions and of one, of every type, in decode and in prefill, with a window too.
    """
    chunk = range(240, 246) if place.tiny else range(1200, 1230)
    for positions, shared, head_dim, window in (
        ([100, 250], False, 64, 0),
        ([100, 250], False, 128, 90),
        (chunk, True, 64, 0),
    ):
        for dtype in LIMITS:
            rows, pages = _rows(positions, head_dim, 4, dtype, shared=shared)
            modes = ("decode", "prefill")
            expected = {mode: _attend(pages, rows, mode, window=window)[0] for mode in modes}
            for space, mode, attended in _attend_in_place(place, pages, rows, modes, window):
                case = (space, mode, dtype, window, shared)
                assert np.array_equal(_bits(attended), _bits(expected[mode])), case


def check_a_page_that_is_nowhere(place: places.Place) -> None:
    """On a GPU only the device sees a table: the row is NaN, and no other. On CPU: an error."""
    rows, pages = _rows([100, 100, 100], 64, 4, "float32")
    rows.tables[1, 2] = len(pages) + 7
    if place.platform == "cpu":
        refused = places.refusal(jax.errors.JaxRuntimeError, lambda: _attend(pages, rows, "decode"))
        assert "has page" in refused
        return
    attended, _ = _attend(pages, rows, "decode")
    assert [bool(np.isnan(row).all()) for row in attended] == [False, True, False]
    assert not np.isnan(attended[[0, 2]]).any()


def _rows(
    positions: Sequence[int], head_dim: int, group: int, dtype: str, *, shared: bool = False
) -> tuple[Rows, np.ndarray]:
    """A row at each position and the pool; what no row sees is NaN."""
    rng = np.random.default_rng(len(positions) + head_dim)
    needed = [position // PAGE_TOKENS + 1 for position in positions]
    count = max(needed) if shared else sum(needed)
    order = rng.permutation(np.arange(1, count + 1))
    tables = np.zeros((len(needed), max(needed)), np.int32)
    first = 0
    for row, length in enumerate(needed):
        tables[row, :length] = order[first : first + length]
        first += 0 if shared else length

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(jnp.dtype(dtype))

    pages = draw(count + 1, LAYERS, 2, PAGE_TOKENS, KV_HEADS, head_dim)
    for row, position in enumerate(positions):
        if not shared or position == min(positions):
            pages[tables[row, position // PAGE_TOKENS], LAYER, :, position % PAGE_TOKENS :] = np.nan
    vectors = [draw(len(needed), KV_HEADS, head_dim) for _ in range(2)]
    queries = draw(len(needed), KV_HEADS, group, head_dim)
    return Rows(np.array(positions, np.int32), tables, queries, *vectors), pages


def _written(pages: np.ndarray, rows: Rows) -> np.ndarray:
    pages = pages.copy()
    for row, position in enumerate(rows.positions):
        page = pages[rows.tables[row, position // PAGE_TOKENS], LAYER]
        page[:, position % PAGE_TOKENS] = np.stack([rows.keys[row], rows.values[row]])
    return pages


def _dense(pages: np.ndarray, rows: Rows, window: int) -> np.ndarray:
    """Float64, row by row."""
    found = []
    for row, position in enumerate(rows.positions):
        seen = slice(max(0, position + 1 - window) if window else 0, position + 1)
        taken = pages[rows.tables[row], LAYER].astype(np.float64)
        keys, values = (np.concatenate(taken[:, side])[seen] for side in (0, 1))
        scores = np.einsum("kgd,tkd->kgt", rows.queries[row].astype(np.float64), keys)
        weights = np.exp((scores - scores.max(-1, keepdims=True)) / np.sqrt(keys.shape[-1]))
        found.append(np.einsum("kgt,tkd->kgd", weights / weights.sum(-1, keepdims=True), values))
    return np.stack(found)


def _difference(attended: np.ndarray, expected: np.ndarray) -> float:
    """The largest, relative to the largest value of its row. NaN counts as infinite."""
    wrong = np.abs(attended.astype(np.float64) - expected).max(axis=(1, 2, 3))
    worst = (wrong / np.abs(expected).max(axis=(1, 2, 3))).max()
    return float("inf") if np.isnan(worst) else float(worst)


def _attend(
    pages: np.ndarray, rows: Rows, mode: str, *, window: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """What the rows get, and the pages afterwards; the pool must stay where it was."""
    pool = jnp.array(pages)
    address = pool.unsafe_buffer_pointer()
    after, attended = _program(mode, window)(pool, *map(jnp.asarray, rows))
    assert after.unsafe_buffer_pointer() == address, "the pool was copied"
    return np.asarray(attended), np.asarray(after)


def _attend_in_place(
    place: places.Place, pages: np.ndarray, rows: Rows, modes: Sequence[str], window: int
) -> Iterator[tuple[int, str, np.ndarray]]:
    """(space, mode, what the rows get) with every other page that no row writes there alone."""
    written = set(rows.tables[np.arange(len(rows.positions)), rows.positions // PAGE_TOKENS])
    leaving = np.zeros(rows.tables.shape, bool)
    for row, position in enumerate(rows.positions):
        for index in range(0, position // PAGE_TOKENS, 2):
            leaving[row, index] = rows.tables[row, index] not in written
    gone = np.unique(rows.tables[leaving])
    nowhere = np.full((len(gone), *pages.shape[1:]), np.nan, pages.dtype)
    with place.scene(len(pages), pages.shape[1:], pages.dtype, spaces=(DEVICE, HOST)) as scene:
        scene.pool.write(list(scene.pool.indices), pages[1:])
        everything = list(range(1, len(pages)))
        for space in (DEVICE, HOST):
            scene.copy(POOL, everything, space, everything)
        scene.pool.write(gone.tolist(), nowhere)
        for space in (DEVICE, HOST):
            arena = native_attention.Arena.of(place.library, scene.stores[space].handle, len(pages))
            first = native_attention.arena_entry(arena, 0)  # from there they count down
            tables = np.where(leaving, first - rows.tables, rows.tables)
            operands = [jnp.asarray(field) for field in rows._replace(tables=tables)]
            for mode in modes:
                (attended,) = scene.pool.run(_program(mode, window), *operands)
                yield space, mode, np.asarray(attended)


@functools.cache
def _program(mode: str, window: int) -> Any:
    """(pool, positions, tables, queries, keys, values) -> (pool, attended); donates the pool."""
    step = getattr(native_attention.NativeAttention(window_most=window), mode)
    layer = attention.Layer(jnp.int32(LAYER), jnp.int32(window))

    def call(pool: Any, positions: Any, tables: Any, queries: Any, keys: Any, values: Any) -> Any:
        rows = attention.Rows(jnp.zeros_like(positions), positions, tables)
        return step(pool, layer, rows, queries, keys, values)

    return jax.jit(call, donate_argnums=0)


def _bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint8)


CHECKS = (
    check_rows_are_right,
    check_bits_do_not_depend_on_company,
    check_a_chunk_of_one_session,
    check_pages_are_attended_where_they_are,
    check_a_page_that_is_nowhere,
)
