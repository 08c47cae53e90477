"""How fast pages move, and what decoding pays for it: movers against memcpy of the same ranges.

Knows: pools and arenas of made-up pages, movers, bare copies. Does not know:
sessions, policy, how decoding beside copies is measured (`overlap_bench.py`).

What is compared moves the same bytes of the same pool in plans of `plan_bytes`,
eight in a row as they follow one another in service, from the first submission
to the last completion. The arena is the one that a run with that mover has in
host memory; memcpy has the ffi mover's. All are measured in turn, the order
turned round every time; shares and ratios are medians of those of each turn.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, types
from aqua_jax.experiments import layer_copies, overlap_bench
from aqua_jax.memory import arenas, bare_copy, native, native_arenas, paged
from aqua_jax.memory.movers import base, ffi, xla

KIB = 1024
# Of a made-up page: f32 [layers, 2, tokens, kv_heads, head_dim], as many tokens as make its size.
_LAYERS, _KV_HEADS, _HEAD_DIM = 8, 4, 32
_TOKEN_BYTES = _LAYERS * 2 * _KV_HEADS * _HEAD_DIM * 4
_RUN_PAGE_KIB = 64
_POOL, _ARENA = 0, 1
_PLANS = 8
_DIRECTIONS = ("out", "in")
_PLAN_SECONDS_MAX = 60.0

Copy = Callable[[str], float]  # moves all plans in a direction; the seconds that took


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransferBenchmark:
    """The settings.

    page_kib: sizes of pages that have no neighbours in their plan, comma-separated, one row each.
    run_pages: the same for runs of 64 KiB pages. threads: of the ffi mover and of memcpy.
    overlap: what decoding pays. pinned_rates, unpinned_rates: GB/s of paging beside it,
    comma-separated; "": none. Pinned, XLA has one core and the transfer thread another.
    """

    overlap: overlap_bench.Overlap
    page_kib: str = "64,256,1024,2048,4096"
    run_pages: str = "2,4,16,64"
    plan_bytes: int = 16 * types.MIB
    threads: int = 1
    repeats: int = 5
    pinned_rates: str = "2,4,8"
    unpinned_rates: str = "2,4,8"

    def __post_init__(self) -> None:
        for name in ("plan_bytes", "threads", "repeats"):
            if getattr(self, name) < 1:
                raise errors.ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
        for kib in _numbers("page_kib", self.page_kib):
            if kib * KIB % _TOKEN_BYTES:
                raise errors.ConfigError(
                    f"page_kib has {kib:g}; give multiples of {_TOKEN_BYTES // KIB}"
                )
        for name in ("run_pages", "pinned_rates", "unpinned_rates"):
            _numbers(name, getattr(self, name))

    @property
    def title(self) -> str:
        """What the rows are."""
        return (
            f"Transfer, {_PLANS} plans of {self.plan_bytes / types.MIB:g} MiB, "
            f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        )

    @property
    def devices(self) -> list[str]:
        """The one on which everything runs."""
        return [str(jax.devices()[0])]

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(what was copied, its figures as `metrics.BENCHMARK` names them), as measured."""
        native.load()
        for kib in _numbers("page_kib", self.page_kib):
            with _Rig(self, int(kib) * KIB) as rig:
                yield f"pages of {kib:g} KiB", rig.measure(run_pages=1)
        lengths = _numbers("run_pages", self.run_pages)
        if lengths:
            with _Rig(self, _RUN_PAGE_KIB * KIB) as rig:
                for length in lengths:
                    name = f"runs of {length:g} x {_RUN_PAGE_KIB} KiB"
                    yield name, rig.measure(run_pages=int(length))
        for name, rates in (("pinned", self.pinned_rates), ("unpinned", self.unpinned_rates)):
            wanted = _numbers(name, rates)
            if wanted:
                cores = _two_cores() if name == "pinned" else None
                found = _apart(self.overlap, [rate * 1e9 for rate in wanted], cores)
                for rate, figures in zip(wanted, found, strict=True):
                    yield f"{name}, {rate:g} GB/s", figures


class _Rig:
    """A pool, arenas in host memory, and everything that can copy between pool and arena.

    A plan's runs go out in one order and come to lie in the opposite one, so that no two of
    them are neighbours on both sides.
    """

    def __init__(self, wanted: TransferBenchmark, page_bytes: int) -> None:
        self._wanted = wanted
        self._page_bytes = page_bytes
        self._plan_pages = max(1, wanted.plan_bytes // page_bytes)
        pages = _PLANS * self._plan_pages
        layer_shape = (2, page_bytes // _TOKEN_BYTES, _KV_HEADS, _HEAD_DIM)
        shape = (_LAYERS, *layer_shape)
        sharding = SingleDeviceSharding(jax.devices()[0])
        self._clock = clocks.MonotonicClock()
        self._pool = paged.PagedPool(_POOL, pages + 1, shape, jnp.float32, sharding=sharding)
        self._layers = layer_copies.LayerCaches(
            _LAYERS, pages + 1, layer_shape, dtype=jnp.float32, sharding=sharding
        )
        library = native.load()
        self._array = arenas.HostArena(_ARENA, pages, shape, jnp.float32, sharding=sharding)
        self._arena = native_arenas.NativeArena(
            _ARENA, pages, shape, jnp.float32, pool_sharding=sharding, library=library
        )
        self._bare = bare_copy.BareCopy(library)
        self._xla = xla.XlaMover({_POOL: self._pool, _ARENA: self._array}, self._clock)
        stores = {_POOL: self._pool, _ARENA: self._arena}
        self._ffi = ffi.FfiMover(stores, self._clock, library=library, threads=wanted.threads)

    def __enter__(self) -> _Rig:
        return self

    def __exit__(self, *_: object) -> None:
        for part in (self._ffi, self._xla, self._pool, self._arena, self._array):
            part.close()

    def measure(self, *, run_pages: int) -> dict[str, Any]:
        """The figures of plans whose pages lie in runs of `run_pages`."""
        length = min(run_pages, self._plan_pages)
        plans = [Runs(number, length, self._plan_pages // length) for number in range(_PLANS)]
        copies: dict[str, Copy] = {
            "memcpy": lambda direction: self._copy_bare(plans, direction),
            "ffi": lambda direction: self._move(self._ffi, plans, direction),
            "xla": lambda direction: self._move(self._xla, plans, direction),
            "layers": lambda direction: self._copy_layers(plans, direction),
        }
        seconds = _in_turn(copies, self._wanted.repeats)
        nbytes = sum(plan.pages for plan in plans) * self._page_bytes
        figures: dict[str, Any] = {
            f"{name}_bytes_per_second": {
                direction: nbytes / statistics.median(seconds[name, direction])
                for direction in _DIRECTIONS
            }
            for name in copies
        }
        for title, slower in (("ffi_share", "memcpy"), ("ffi_over_xla", "xla")):
            figures[title] = {
                direction: statistics.median(
                    other / own
                    for other, own in zip(
                        seconds[slower, direction], seconds["ffi", direction], strict=True
                    )
                )
                for direction in _DIRECTIONS
            }
        return figures

    def _copy_bare(self, plans: Sequence[Runs], direction: str) -> float:
        size, pool, arena = self._page_bytes, self._pool.addresses[0], self._arena.addresses[0]
        ranges = []
        for plan in plans:
            for page, slot in plan.starts():
                ends = (pool + page * size, arena + slot * size)
                source, target = ends if direction == "out" else ends[::-1]
                ranges.append(bare_copy.Range(source, target, plan.length * size))
        return self._bare.copy(ranges, threads=self._wanted.threads)

    def _move(self, mover: base.PageMover, plans: Sequence[Runs], direction: str) -> float:
        moves = [plan.moves(direction) for plan in plans]
        begin = time.perf_counter()
        tickets = [mover.submit(each) for each in moves]
        until = self._clock.now() + _PLAN_SECONDS_MAX
        while pending := [ticket for ticket in tickets if not ticket.done()]:
            if self._clock.now() > until:
                raise errors.InternalError(f"{pending} after {_PLAN_SECONDS_MAX} s")
            self._clock.wait(pending, until)
        seconds = time.perf_counter() - begin
        for ticket in tickets:
            ticket.result()
        mover.poll()
        return seconds

    def _copy_layers(self, plans: Sequence[Runs], direction: str) -> float:
        pages = [[move.source.index for move in plan.moves("out")] for plan in plans]
        copy = self._layers.page_out if direction == "out" else self._layers.page_in
        begin = time.perf_counter()
        for each in pages:
            copy(each)
        return time.perf_counter() - begin


class Runs(NamedTuple):
    """The pages of plan `number`: `runs` of them, `length` pages each."""

    number: int
    length: int
    runs: int

    @property
    def pages(self) -> int:
        return self.length * self.runs

    def starts(self) -> list[tuple[int, int]]:
        """(first page, first slot) of each run. Page 0 is scratch."""
        slot = self.number * self.pages
        first = [slot + run * self.length for run in range(self.runs)]
        return [(1 + page, slot) for page, slot in zip(first, reversed(first), strict=True)]

    def moves(self, direction: str) -> list[types.Move]:
        """Page by page, as a controller plans them."""
        out = [
            (types.Place(_POOL, page + k), types.Place(_ARENA, slot + k))
            for page, slot in self.starts()
            for k in range(self.length)
        ]
        ends = out if direction == "out" else [(slot, page) for page, slot in out]
        return [types.Move(source, target, 1) for source, target in ends]


def _in_turn(copies: Mapping[str, Copy], repeats: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of each by name and direction. The first turn, which compiles, does not count."""
    seconds: dict[tuple[str, str], list[float]] = {
        (name, direction): [] for name in copies for direction in _DIRECTIONS
    }
    for turn in range(repeats + 1):
        names = list(copies)[:: 1 if turn % 2 else -1]
        for direction in _DIRECTIONS:
            for name in names:
                took = copies[name](direction)
                if turn:
                    seconds[name, direction].append(took)
    return seconds


def _apart(
    overlap: overlap_bench.Overlap, rates: Sequence[float], cores: tuple[int, int] | None
) -> list[dict[str, Any]]:
    """`overlap_bench.measure` in a process of its own, whose threads are born on the first core."""
    context = multiprocessing.get_context("spawn")
    pin: dict[str, Any] = {}
    if cores is not None:  # before jax has threads, which inherit it
        pin = {"initializer": os.sched_setaffinity, "initargs": (0, {cores[0]})}
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context, **pin) as process:
        transfer_cores = () if cores is None else (cores[1],)
        return process.submit(_measure_apart, overlap, rates, transfer_cores).result()


def _measure_apart(
    overlap: overlap_bench.Overlap, rates: Sequence[float], transfer_cores: tuple[int, ...]
) -> list[dict[str, Any]]:
    """XLA keeps the first core for itself: this thread, and those it starts, go to the other."""
    if transfer_cores:
        jax.devices()  # XLA's threads are born
        os.sched_setaffinity(0, transfer_cores)
    return overlap_bench.measure(overlap, rates, transfer_cores)


def _two_cores() -> tuple[int, int]:
    """One for XLA and one for transfers. Raises ConfigError where there is but one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise errors.ConfigError(
            f"pinned_rates needs two cores, this process may use {cores}: give pinned_rates=''"
        )
    return cores[0], cores[1]


def _numbers(name: str, given: str) -> list[float]:
    """The numbers above 0 of a comma-separated setting; none of an empty one."""
    try:
        found = [float(part) for part in given.split(",") if given.strip()]
    except ValueError:
        found = [0.0]
    if not all(0 < number < float("inf") for number in found):
        raise errors.ConfigError(
            f"{name} is {given!r}; give numbers above 0, comma-separated, e.g. 1,2,4"
        )
    return found
