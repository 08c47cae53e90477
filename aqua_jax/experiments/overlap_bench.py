"""What decoding pays for pages that move beside it: steps of a real runner, with and without.

Knows: a text runner, the ffi mover, bare copies, cores. Does not know: who
starts it on which cores (`transfer_bench.py`), reports.

    slice k-1 runs        slice k runs            slice k+1 runs
    ^ plan k submitted    ^ copy k runs beside it
      slice k submitted     plan k+1 submitted

Two slices are always in flight, as in the engine. A plan is submitted before
the slice that it runs beside, while the one before runs, so that at any time
one is between its submission and its completion. It has as many pages as the
wanted rate makes due until the next. Every page goes out, and comes in, in
windows of the pool that no session uses.

Decoding alone, decoding beside plans and, for scale, decoding beside bare
memcpy of such pages at the same rate take turns, `phase_seconds` each; a
slowdown is the median of those of each turn. Where either did not reach the
wanted rate, the two are not compared.
"""

from __future__ import annotations

import collections
import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.experiments import settings
from aqua_jax.loops import prompt, text
from aqua_jax.memory import arenas, bare_copy, native
from aqua_jax.memory.movers import ffi

_POOL, _ARENA = 0, 1
_CONTEXT = 64
_IN_FLIGHT = 2
_OPEN_PLANS_MAX = 4  # more would only queue: the rate cannot be had
_WINDOWS = 4
_SLICE_SECONDS_MAX = 60.0
_NOTICEABLE = 0.01  # a slowdown below is noise, and nothing to divide by
_RATE_SHARE_MIN = 0.95  # of the wanted rate: what was slower is not compared


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """The settings.

    lanes sessions decode `steps` steps a slice. page_tokens: of a page, which holds a whole
    session; the demo model's of 512 has 2 MiB. window_pages: the most that one plan moves.
    """

    model: settings.ModelSettings
    attention: str = "native"
    lanes: int = 16
    steps: int = 8
    page_tokens: int = 512
    window_pages: int = 64
    phase_seconds: float = 5.0
    rounds: int = 3

    def __post_init__(self) -> None:
        for name in ("lanes", "steps", "window_pages", "rounds"):
            if getattr(self, name) < 1:
                raise errors.ConfigError(
                    f"overlap.{name} is {getattr(self, name)}; give at least 1"
                )
        if not 0 < self.phase_seconds < float("inf"):
            raise errors.ConfigError(
                f"overlap.phase_seconds is {self.phase_seconds}; give more than 0"
            )
        if self.page_tokens < _CONTEXT + self.steps + 1:
            raise errors.ConfigError(
                f"overlap.page_tokens is {self.page_tokens}; give at least"
                f" {_CONTEXT + self.steps + 1}, so that a session fits in a page"
            )
        if self.attention not in text.ATTENTIONS:
            raise errors.ConfigError(
                f"unknown overlap.attention {self.attention!r}"
                f"{errors.close_match(self.attention, text.ATTENTIONS)}"
            )


def measure(
    wanted: Overlap, rates: Sequence[float], transfer_cores: Sequence[int]
) -> list[dict[str, Any]]:
    """The figures of each rate (bytes a second), as `metrics.BENCHMARK` names them.

    transfer_cores: where the transfer thread is pinned to; none: nowhere, and bare copies are
    measured beside the mover's.
    """
    bench = _Bench(wanted, transfer_cores)
    try:
        return [bench.measure(rate) for rate in rates]
    finally:
        bench.close()


class _Phase(NamedTuple):
    """Of a stretch of decoding: seconds of a step, and bytes copied in a second."""

    step_seconds: float
    bytes_per_second: float


class _Traffic(Protocol):
    """What is copied beside decoding."""

    def before_slice(self, elapsed_seconds: float) -> None:
        """Called before every slice, so long after the phase began."""
        ...

    def end(self) -> float:
        """The phase is over: waits for what is under way; bytes copied in a second."""
        ...


class _Bench:
    """A runner with sessions in mid-life, and windows of pages to be copied beside them."""

    def __init__(self, wanted: Overlap, transfer_cores: Sequence[int]) -> None:
        self._wanted = wanted
        self._clock = clocks.MonotonicClock()
        self._library = native.load()
        self._pinned = bool(transfer_cores)
        given = wanted.model
        windows = _WINDOWS * wanted.window_pages
        limits = text.TextLimits(
            pages=1 + wanted.lanes + windows,
            page_tokens=wanted.page_tokens,
            units_max=wanted.page_tokens,
            lanes=wanted.lanes,
            steps_max=wanted.steps,
            attention=wanted.attention,
        )
        self._runner = text.TextRunner(
            given.build(given.name, seed=given.seed, path=given.path, dtype=given.dtype),
            limits,
            space=_POOL,
            clock=self._clock,
        )
        pool = self._runner.pool
        self._arena = arenas.HostArena(
            _ARENA, windows, pool.page_shape, pool.dtype, sharding=pool.sharding
        )
        self._mover = ffi.FfiMover(
            {_POOL: pool, _ARENA: self._arena},
            self._clock,
            library=self._library,
            cores=transfer_cores,
        )
        self._batch = _batch(wanted)
        self._runner.warm_up()
        self._mover.warm_up()
        self._run(_Nothing())

    def measure(self, rate: float) -> dict[str, Any]:
        """The figures of paging at `rate` bytes a second."""
        alone, paged, bare = [], [], []
        for turn in range(self._wanted.rounds):
            sides = [
                lambda: alone.append(self._run(_Nothing())),
                lambda: paged.append(self._run(self._paging(rate))),
            ]
            if not self._pinned:
                sides.append(lambda: bare.append(self._run(self._copying(rate))))
            for side in sides if turn % 2 else reversed(sides):
                side()
        slowdown, reached = _slowdown(alone, paged), _rate(paged)
        figures = {
            "step_seconds": statistics.median(phase.step_seconds for phase in alone),
            "paged_bytes_per_second": reached,
            "paging_slowdown": slowdown,
        }
        if bare:
            beside_bare, bare_reached = _slowdown(alone, bare), _rate(bare)
            fair = min(reached, bare_reached) >= _RATE_SHARE_MIN * rate
            figures |= {
                "bare_bytes_per_second": bare_reached,
                "bare_slowdown": beside_bare,
                "paging_over_bare": slowdown / beside_bare
                if fair and beside_bare > _NOTICEABLE
                else None,
            }
        return figures

    def close(self) -> None:
        self._mover.close()
        self._arena.close()
        self._runner.close()

    def _run(self, traffic: _Traffic) -> _Phase:
        """Decodes for a phase beside `traffic`. The slices that fill the pipeline do not count."""
        flights: collections.deque[tickets.Ticket] = collections.deque()
        ends: list[float] = []
        begin = self._clock.now()
        while (now := self._clock.now()) < begin + self._wanted.phase_seconds or len(ends) < 4:
            traffic.before_slice(now - begin)
            flights.append(self._runner.dispatch(self._batch))
            if len(flights) == _IN_FLIGHT:
                ends.append(self._await(flights.popleft()))
        rate = traffic.end()
        for flight in flights:
            self._await(flight)
        counted = ends[1:]
        step_seconds = (counted[-1] - counted[0]) / (len(counted) - 1) / self._wanted.steps
        return _Phase(step_seconds, rate)

    def _await(self, flight: tickets.Ticket) -> float:
        """Collects a slice; when it ended."""
        _wait(self._clock, flight)
        for outcome in self._runner.collect(flight):
            if outcome.step_units != self._wanted.steps:
                raise errors.InternalError(f"a slice ended before its {self._wanted.steps} steps")
        assert flight.finished_at is not None
        return flight.finished_at

    def _paging(self, rate: float) -> _Paging:
        windows = _windows(self._wanted)
        return _Paging(self._mover, self._clock, windows, rate, self._runner.page_bytes)

    def _copying(self, rate: float) -> _Copying:
        """Bare copies of the same windows page by page, one out and the next one in."""
        size = self._runner.page_bytes
        pool = self._runner.pool.addresses[0]
        arena = self._arena.addresses[0]
        ranges = []
        for page, slot in _windows(self._wanted):
            for k in range(self._wanted.window_pages):
                ends = pool + (page + k) * size, arena + (slot + k) * size
                source, target = reversed(ends) if k % 2 else ends
                ranges.append(bare_copy.Range(source, target, size))
        stream = bare_copy.BareCopy(self._library).stream(ranges, bytes_per_second=rate)
        return _Copying(stream)


class _Nothing:
    """Decoding alone."""

    def before_slice(self, elapsed_seconds: float) -> None:
        """Nothing to do."""

    def end(self) -> float:
        return 0.0


class _Copying:
    """A stream of bare copies, which needs nobody."""

    def __init__(self, stream: bare_copy.Stream) -> None:
        self._stream = stream

    def before_slice(self, elapsed_seconds: float) -> None:
        """It keeps its own pace."""

    def end(self) -> float:
        return self._stream.stop()


class _Paging:
    """Plans, submitted as they are due; out and in by turns, window after window."""

    def __init__(
        self,
        mover: ffi.FfiMover,
        clock: clocks.Clock,
        windows: Sequence[tuple[int, int]],
        rate: float,
        page_bytes: int,
    ) -> None:
        self._mover = mover
        self._clock = clock
        self._windows = windows
        self._rate = rate
        self._page_bytes = page_bytes
        self._pages_max = (windows[1][1] - windows[0][1]) if len(windows) > 1 else 1
        self._pages = 0
        self._plans = 0
        self._begun_at = 0.0
        self._last_seconds = 0.0
        self._open: list[tickets.Ticket] = []

    def before_slice(self, elapsed_seconds: float) -> None:
        self._mover.poll()
        self._open = [ticket for ticket in self._open if not _done(ticket)]
        # What becomes due until the next slice: as long as since the last.
        ahead_seconds = elapsed_seconds - self._last_seconds
        self._last_seconds = elapsed_seconds
        until_seconds = elapsed_seconds + ahead_seconds
        due = int(self._rate * until_seconds / self._page_bytes) - self._pages
        while due > 0 and len(self._open) < _OPEN_PLANS_MAX:
            if not self._pages:
                self._begun_at = self._clock.now()
            count = min(due, self._pages_max)
            self._open.append(self._mover.submit(self._plan(count)))
            self._pages += count
            due -= count

    def end(self) -> float:
        for ticket in self._open:
            _wait(self._clock, ticket)
            _done(ticket)
        self._mover.poll()
        seconds = self._clock.now() - self._begun_at
        return self._pages * self._page_bytes / seconds if self._pages else 0.0

    def _plan(self, count: int) -> list[types.Move]:
        page, slot = self._windows[self._plans // 2 % len(self._windows)]
        inward = self._plans % 2
        self._plans += 1
        moves = []
        for k in range(count):
            ends = types.Place(_POOL, page + k), types.Place(_ARENA, slot + k)
            source, target = reversed(ends) if inward else ends
            moves.append(types.Move(source, target, 1))
        return moves


def _batch(wanted: Overlap) -> types.Batch:
    """Every session decodes the same steps again in each slice, in a page of its own."""
    request = prompt.text_request([1] * _CONTEXT, max_tokens=wanted.steps + 1)
    plans = [
        types.LanePlan(
            lane,
            types.Session(id=lane, request=request, arrived_at=0.0),
            [1 + lane],
            _CONTEXT - 1,
            0,
            wanted.steps,
            True,
        )
        for lane in range(wanted.lanes)
    ]
    return types.Batch(tuple(plans), wanted.steps)


def _windows(wanted: Overlap) -> list[tuple[int, int]]:
    """(first page, first slot) of each; the sessions' pages come before them."""
    slots = [number * wanted.window_pages for number in range(_WINDOWS)]
    return [(1 + wanted.lanes + slot, slot) for slot in slots]


def _rate(phases: Sequence[_Phase]) -> float:
    return statistics.median(phase.bytes_per_second for phase in phases)


def _slowdown(alone: Sequence[_Phase], beside: Sequence[_Phase]) -> float:
    """By how much longer a step took: the median over the turns."""
    ratios = [b.step_seconds / a.step_seconds for a, b in zip(alone, beside, strict=True)]
    return statistics.median(ratios) - 1


def _wait(clock: clocks.Clock, ticket: tickets.Ticket) -> None:
    until = clock.now() + _SLICE_SECONDS_MAX
    while not ticket.done():
        if clock.now() > until:
            raise errors.InternalError(f"{ticket!r} after {_SLICE_SECONDS_MAX} s")
        clock.wait([ticket], until)


def _done(ticket: tickets.Ticket) -> bool:
    """Whether it is done; raises what it failed with."""
    if ticket.done():
        ticket.result()
    return ticket.done()
