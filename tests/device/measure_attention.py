"""Section of the GPU check: attention against the memory's bandwidth and against XLA's gather."""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.loops import attention, native_attention
from tests.device import place as places
from tests.device import report as reports
from tests.device.place import DEVICE, HOST, POOL

MIB, GB = 1 << 20, 1e9
LAYERS, PAGE_TOKENS = 2, 16


class _Case(NamedTuple):
    name: str
    rows: int
    context: int
    kv_heads: int = 8
    group: int = 4
    head_dim: int = 128
    dtype: str = "bfloat16"
    prefill: bool = False
    space: int = POOL  # where all pages are but those that rows write


_CASES = (
    _Case("decode, 64 rows of 1,024", 64, 1024),
    _Case("decode, 16 rows of 8,192", 16, 8192),
    _Case("decode, 1 row of 65,536", 1, 65536),
    _Case("decode, 64 rows of 1,024, group 8", 64, 1024, group=8),
    _Case("decode, 64 rows of 1,024, float32", 64, 1024, group=1, dtype="float32"),
    _Case("prefill, 256 rows at 1,024", 256, 1024, prefill=True),
)
_AWAY_CASES = tuple(
    case._replace(name=f"{case.name}, {where}", space=space)
    for space, where in ((DEVICE, "in a device arena"), (HOST, "in pinned host memory"))
    for case in (
        _Case("decode, 64 rows of 1,024", 64, 1024),
        _Case("decode, 1 row of 32,768", 1, 32768),
        _Case("prefill, 256 rows at 1,024", 256, 1024, prefill=True),
    )
)
_TINY_CASES = (
    _Case("decode, 4 rows of 64", 4, 64, 2, 2, 32),
    _Case("prefill, 8 rows at 64", 8, 64, 2, 2, 32, prefill=True),
)
_TINY_AWAY_CASES = tuple(
    case._replace(name=f"{case.name}, space {space}", space=space)
    for space in (DEVICE, HOST)
    for case in _TINY_CASES
)


def measure_attention(place: places.Place, report: reports.Report) -> None:
    """Bytes of keys and values that rows need, over the time, beside what a copy reaches."""
    ceiling = _copy_rate(place)
    report.measured("memory: a copy, read and written", ceiling / GB, "GB/s")
    for case in _TINY_CASES if place.tiny else _CASES:
        rows, pages = _operands(case)
        pool = _random_pool(case, pages)
        native = native_attention.NativeAttention()
        program = jax.jit(_caller(native, case.prefill), donate_argnums=0)
        seconds, pool = _seconds(program, pool, rows, place)
        needed = _needed_bytes(case)
        report.measured(f"{case.name}: native", seconds * 1e6, "us", f"{needed / MIB:.0f} MiB")
        if not case.prefill:
            rate = needed / seconds
            of_copy = f"{rate / ceiling:.2f} of a copy"
            report.measured(f"{case.name}: rate", rate / GB, "GB/s", of_copy)
        gather = attention.GatherAttention()
        program = jax.jit(_caller(gather, case.prefill), donate_argnums=0)
        gathered, _ = _seconds(program, pool, rows, place)
        report.measured(f"{case.name}: XLA gather", gathered / seconds, "times native")
    for case in _TINY_AWAY_CASES if place.tiny else _AWAY_CASES:
        _measure_in_place(case, place, report)


def _measure_in_place(case: _Case, place: places.Place, report: reports.Report) -> None:
    """Pages attended in an arena; the rate counts each of their bytes once."""
    (positions, tables, *vectors), pages = _operands(case)
    page_shape = _page_shape(case)
    with place.scene(pages, page_shape, jnp.dtype(case.dtype), spaces=(case.space,)) as scene:
        store = scene.stores[case.space].handle
        arena = native_attention.Arena.of(place.library, store, pages)
        first_written = int(positions.min()) // PAGE_TOKENS
        entries = np.array(tables)
        entries[:, :first_written] = (
            native_attention.arena_entry(arena, 0) - entries[:, :first_written]
        )
        rows = (positions, jnp.asarray(entries), *vectors)
        native = native_attention.NativeAttention()
        program = jax.jit(_caller(native, case.prefill), donate_argnums=0)
        calls = 2 if place.tiny else 5
        attended = jax.block_until_ready(scene.pool.run(program, *rows))
        found = []
        for _ in range(3):
            started = time.perf_counter()
            for _ in range(calls):
                attended = scene.pool.run(program, *rows)
            jax.block_until_ready(attended)
            found.append((time.perf_counter() - started) / calls / LAYERS)
    seconds = statistics.median(found)
    away = _needed_bytes(case) * first_written * PAGE_TOKENS // case.context
    report.measured(f"{case.name}: native", seconds * 1e6, "us", f"{away / MIB:.0f} MiB away")
    report.measured(f"{case.name}: rate", away / seconds / GB, "GB/s", "of what is away, once")


def _operands(case: _Case) -> tuple[tuple[Any, ...], int]:
    """(positions, tables, queries, keys, values) of random numbers; how many pages there are."""
    in_table = -(-case.context // PAGE_TOKENS)
    block = attention.block_pages(PAGE_TOKENS)
    width = -(-in_table // block) * block
    sessions = 1 if case.prefill else case.rows
    rng = np.random.default_rng(0)
    order = rng.permutation(np.arange(1, sessions * in_table + 1)).reshape(sessions, in_table)
    tables = np.zeros((case.rows, width), np.int32)
    tables[:, :in_table] = order
    last = np.arange(case.rows) - case.rows if case.prefill else np.full(case.rows, -1)
    positions = jnp.asarray(case.context + last, jnp.int32)
    key = jax.random.key(1)
    dtype = jnp.dtype(case.dtype)
    sizes = (case.rows, case.kv_heads, case.head_dim)
    queries = jax.random.normal(key, (*sizes[:2], case.group, case.head_dim), dtype)
    keys, values = jax.random.normal(key, (2, *sizes), dtype)
    pages = sessions * in_table + 1
    return (positions, jnp.asarray(tables), queries, keys, values), pages


def _random_pool(case: _Case, pages: int) -> jax.Array:
    shape = (pages, *_page_shape(case))
    return jax.random.normal(jax.random.key(2), shape, jnp.dtype(case.dtype))


def _page_shape(case: _Case) -> tuple[int, ...]:
    return (LAYERS, 2, PAGE_TOKENS, case.kv_heads, case.head_dim)


def _caller(step: Any, prefill: bool) -> Any:
    def call(pool: Any, positions: Any, tables: Any, queries: Any, keys: Any, values: Any) -> Any:
        rows = attention.Rows(jnp.zeros_like(positions), positions, tables)
        run = step.prefill if prefill else step.decode
        # The other layer each time, so that no call finds the pages in a cache.
        attended = queries
        for layer in range(LAYERS):
            pool, attended = run(
                pool, attention.Layer(jnp.int32(layer)), rows, queries, keys, values
            )
        return pool, attended

    return call


def _needed_bytes(case: _Case) -> int:
    """Of keys and values that decode reads in one layer."""
    size = jnp.dtype(case.dtype).itemsize
    sessions = 1 if case.prefill else case.rows
    return 2 * sessions * case.context * case.kv_heads * case.head_dim * size


def _seconds(
    program: Any, pool: jax.Array, rows: tuple[Any, ...], place: places.Place
) -> tuple[float, jax.Array]:
    """Of one layer, the median of a few runs of many calls, so that launches hide; the pool."""
    calls = 2 if place.tiny else 20
    pool, attended = program(pool, *rows)
    jax.block_until_ready(attended)
    found = []
    for _ in range(3 if place.tiny else 5):
        started = time.perf_counter()
        for _ in range(calls):
            pool, attended = program(pool, *rows)
        jax.block_until_ready((pool, attended))
        found.append((time.perf_counter() - started) / calls / LAYERS)
    return statistics.median(found), pool


def _copy_rate(place: places.Place) -> float:
    """Bytes read and written a second by adding 1 to a large array."""
    array = jnp.zeros((1 if place.tiny else 1024) * MIB // 4, jnp.float32)
    step = jax.jit(lambda x: x + jnp.float32(1), donate_argnums=0)
    array = jax.block_until_ready(step(array))
    found = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(4):
            array = step(array)
        jax.block_until_ready(array)
        found.append(4 * 2 * array.nbytes / (time.perf_counter() - started))
    return max(found)
