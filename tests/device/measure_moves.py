"""Sections of the GPU check about moving pages: links, batches, movers, overlap."""

from __future__ import annotations

import collections
import ctypes
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors
from aqua_jax.memory import arenas, paged, probe
from aqua_jax.memory.movers import base, xla
from tests.device import place as places
from tests.device import report as reports
from tests.device.place import DEVICE, HOST, POOL, SHARED

KIB, MIB, GB = 1 << 10, 1 << 20, 1e9
_STEPS_IN_FLIGHT = 2  # as in the engine
_NAMES = {POOL: "pool", DEVICE: "device arena", HOST: "pinned host", SHARED: "shared host"}


def measure_links(place: places.Place, report: reports.Report) -> None:
    """The probe over every kind of arena: a pattern, latency, bandwidth by size."""
    for space in (DEVICE, HOST, SHARED):
        try:
            _measure_link(place, report, space)
        except errors.NativeError as error:
            report.refused(_NAMES[space], error.code, str(error))


def _measure_link(place: places.Place, report: reports.Report, space: int) -> None:
    page_bytes, pages = (4 * KIB, 32) if place.tiny else (64 * KIB, 1025)
    with place.scene(pages, (page_bytes // 4,), jnp.float32, spaces=(space,)) as scene:
        found = probe.Probe(scene.mover, scene.stores, scene.clock)
        for source, target in ((POOL, space), (space, POOL)):
            way = f"{_NAMES[source]} to {_NAMES[target]}"
            compared = found.compare(source, target)
            right = f"{compared.bytes} bytes compared, {compared.wrong_bytes} wrong"
            report.expect(f"{way}: pattern", compared.wrong_bytes == 0, right)
            speed = found.measure(source, target, seconds=0.1 if place.tiny else 2.0)
            report.measured(f"{way}: latency", speed.latency_seconds * 1e6, "us")
            for rate in speed.rates:
                name = f"{way}: {rate.bytes / KIB:.0f} KiB"
                report.measured(name, rate.bytes_per_second / GB, "GB/s")


def measure_batches(place: places.Place, report: reports.Report) -> None:
    """Pages that are nobody's neighbours: one batch of copies against as many single ones."""
    if place.platform != "CUDA":
        report.unavailable("batched copies", "of the CUDA library alone")
        return
    # The library is open already, so this is the same one.
    choose = ctypes.CDLL(str(place.library.path)).aqua_cuda_set_batch_ranges_min
    for page_bytes in (16 * KIB, 64 * KIB, 256 * KIB, 2 * MIB):
        count = min(256, 128 * MIB // page_bytes)
        with place.scene(2 * count + 2, (page_bytes // 4,), spaces=(DEVICE, HOST)) as scene:
            held = scene.fill(POOL, seed=2)
            sources, targets = range(1, 2 * count, 2), range(0, 2 * count, 2)
            for space in (DEVICE, HOST):
                seconds = {}
                for name, least in (("single", 0), ("batched", 1)):
                    choose(least)
                    tries = [scene.copy(POOL, sources, space, targets) for _ in range(6)]
                    seconds[name] = min(tries)
                    rate = count * page_bytes / min(tries) / GB
                    what = f"{count} x {page_bytes // KIB} KiB to {_NAMES[space]}, {name}"
                    report.measured(what, rate, "GB/s")
                    arrived = scene.stores[space].snapshot(list(targets)[:8])
                    same = np.array_equal(arrived, held[list(sources)[:8]])
                    report.expect(f"{what}: bytes", same, "the first 8 pages compared")
    choose(4)


def measure_movers(place: places.Place, report: reports.Report) -> None:
    """The ffi mover against the xla mover, from and to pinned host memory and device memory."""
    cases = [(4 * KIB, 8)] if place.tiny else [(256 * KIB, 64), (2 * MIB, 32)]
    for page_bytes, count in cases:
        shape = (page_bytes // 4,)
        seconds = {"ffi": _ffi_seconds(place, shape, count)}
        try:
            seconds["xla"] = _xla_seconds(place, shape, count)
        except Exception as error:  # a path of jax that this machine lacks is no fault of ours
            report.unavailable("xla mover", f"{type(error).__name__}: {str(error)[:200]}")
        for mover, ways in seconds.items():
            for (source, target), best in ways.items():
                what = f"{mover}: {count} x {page_bytes // KIB} KiB {_NAMES[source]} to "
                rate = count * page_bytes / best / GB
                report.measured(what + _NAMES[target], rate, "GB/s", f"{best * 1e6:.0f} us")
        if len(seconds) == 2:
            for way, best in seconds["ffi"].items():
                name = f"xla over ffi, {count} x {page_bytes // KIB} KiB {_NAMES[way[0]]} to "
                report.measured(name + _NAMES[way[1]], seconds["xla"][way] / best, "times")


def measure_overlap(place: places.Place, report: reports.Report) -> None:
    """Steps of a program that reads weights, as decoding does, with and without pages moving.

    A slowdown has in it what the host pays for paging, as far as steps in flight do not hide it.
    """
    page_bytes, pages = (4 * KIB, 17) if place.tiny else (2 * MIB, 33)
    with place.scene(pages, (page_bytes // 4,), spaces=(DEVICE, HOST)) as scene:
        load = _Load.make(place)
        load.steps(scene.pool, 3)
        steps = 3 if place.tiny else 400
        alone = load.steps(scene.pool, steps)
        report.measured("step alone", alone * 1e3, "ms")
        for source, target in ((POOL, HOST), (HOST, POOL), (POOL, DEVICE)):
            flow = _Flow(scene, source, target, list(range(1, pages)))
            beside = load.steps(scene.pool, steps, before_each=flow.refill)
            rate = flow.finish()
            again = load.steps(scene.pool, steps)
            slowdown = beside / statistics.mean((alone, again)) - 1
            way = f"{_NAMES[source]} to {_NAMES[target]}"
            report.measured(f"slowdown beside {way}", 100 * slowdown, "%", f"at {rate:.1f} GB/s")
            alone = again
        report.measured("step alone, again", alone * 1e3, "ms")


class _Load(NamedTuple):
    """A program on the pool that multiplies a few rows by large weights and touches page 0."""

    weights: jax.Array
    rows: jax.Array
    program: Any

    @classmethod
    def make(cls, place: places.Place) -> _Load:
        width, layers = (64, 2) if place.tiny else (4096, 24)
        key = jax.random.key(0)
        weights = jax.random.normal(key, (layers, width, width), jnp.bfloat16) * jnp.bfloat16(0.01)
        rows = jnp.ones((16, width), jnp.bfloat16)

        def step(pool: Any, weights: Any, rows: Any) -> Any:
            rows, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), rows, weights)
            return pool.at[0, 0].set(rows[0, 0].astype(pool.dtype)), rows[0, 0]

        return cls(weights, rows, jax.jit(step, donate_argnums=0))

    def steps(
        self, pool: paged.PagedPool, count: int, *, before_each: Callable[[], None] | None = None
    ) -> float:
        """Seconds a step took, of `count` with two in flight, from the first call to the last end.

        before_each: called before each is dispatched, on the host, while another runs.
        """
        flights: collections.deque[jax.Array] = collections.deque()
        started = time.perf_counter()
        for _ in range(count):
            if before_each is not None:
                before_each()
            (token,) = pool.run(self.program, self.weights, self.rows)
            flights.append(token)
            if len(flights) == _STEPS_IN_FLIGHT:
                jax.block_until_ready(flights.popleft())
        jax.block_until_ready(list(flights))
        return (time.perf_counter() - started) / count


class _Flow:
    """Keeps two plans of all pages in flight between two stores."""

    def __init__(self, scene: places.Scene, source: int, target: int, indices: list[int]) -> None:
        self._scene = scene
        self._ends = source, target
        self._indices = indices
        self._open: list[Any] = []
        self._bytes = 0
        self._started = time.perf_counter()

    def refill(self) -> None:
        """Takes in what has arrived and submits as much again."""
        for done in self._scene.mover.poll():
            if done.error is not None:
                raise done.error
            self._bytes += done.bytes
        self._open = [ticket for ticket in self._open if not ticket.done()]
        while len(self._open) < 2:
            source, target = self._ends
            self._open.append(self._scene.submit(source, self._indices, target, self._indices))

    def finish(self) -> float:
        """Waits for what is in flight; GB/s over all that arrived during the steps."""
        seconds = time.perf_counter() - self._started
        rate = self._bytes / seconds / GB
        left = [ticket for ticket in self._open if not ticket.done()]
        self._scene.clock.wait(left, self._scene.clock.now())
        until = time.perf_counter() + places.WAIT_SECONDS
        while not all(ticket.done() for ticket in left):
            if time.perf_counter() > until:
                raise TimeoutError("copies beside the steps do not end")
            self._scene.clock.wait(left, self._scene.clock.now() + 0.1)
        self._scene.mover.poll()
        return rate


_Seconds = dict[tuple[int, int], float]


def _ffi_seconds(place: places.Place, shape: tuple[int, ...], count: int) -> _Seconds:
    with place.scene(count + 1, shape, spaces=(DEVICE, HOST)) as scene:
        return _best(scene.mover, scene.clock, count)


def _xla_seconds(place: places.Place, shape: tuple[int, ...], count: int) -> _Seconds:
    clock = clocks.MonotonicClock()
    stores = {
        POOL: place.pool(count + 1, shape, jnp.float32),
        DEVICE: arenas.DeviceArena(DEVICE, count + 1, shape, jnp.float32, sharding=place.sharding),
        HOST: arenas.HostArena(HOST, count + 1, shape, jnp.float32, sharding=place.sharding),
    }
    mover = xla.XlaMover(stores, clock)
    try:
        return _best(mover, clock, count)
    finally:
        mover.close()
        for store in stores.values():
            store.close()


def _best(mover: base.PageMover, clock: clocks.Clock, count: int) -> _Seconds:
    """The best of a few tries of moving `count` neighbouring pages, each way."""
    found = {}
    for source, target in ((POOL, HOST), (HOST, POOL), (POOL, DEVICE), (DEVICE, POOL)):
        best = float("inf")
        for _ in range(6):
            indices = range(1, count + 1)
            ticket = mover.submit(places.moves(source, indices, target, indices))
            (done,) = places.drain(mover, clock, [ticket])
            if done.error is not None:
                raise done.error
            best = min(best, done.seconds)
        found[source, target] = best
    return found
