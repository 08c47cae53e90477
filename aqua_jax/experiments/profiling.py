"""What slices, copies and the host cost on a machine: timed in its own engine under made-up loads.

Knows: a machine's engine and movers, shapes of load. Does not know: what is done with the
times, reports. A load of n lanes has four times n sessions: while the first run, somebody waits and
slices are short; as they end, prompts join those who decode; the last ones have long slices
to themselves. So with n from one to all lanes, slices of every make come about
that the engine's limits allow, with contexts up to the whole pool.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, spare, types
from aqua_jax.control.policies import base
from aqua_jax.engine import engine as engines
from aqua_jax.engine import observer, protocols
from aqua_jax.experiments import machine, replay, settings
from aqua_jax.simulation import cost, fits, profile
from aqua_jax.workloads import records

_SESSIONS = 4  # of a load, for each of its lanes
_OUTPUT_SLICES = 12  # longest output of a load, in slices of the most steps
_COPY_REPEATS = 7
_COPY_SECONDS_MAX = 60.0
_NANO = 1e9

_Way = tuple[str, str]  # kind of tier, "out" or "in"


@dataclasses.dataclass(slots=True)
class Timings:
    """Seconds of everything that was timed. copies: by tier's kind and direction."""

    slices: list[fits.Slice] = dataclasses.field(default_factory=list)
    dispatch_seconds: list[float] = dataclasses.field(default_factory=list)
    read_seconds: list[float] = dataclasses.field(default_factory=list)
    submit_seconds: list[float] = dataclasses.field(default_factory=list)
    copies: dict[_Way, list[fits.Copy]] = dataclasses.field(default_factory=dict)

    def overhead(self) -> profile.Overhead:
        """The host's median times."""
        return profile.Overhead(
            dispatch_ns=_median_ns(self.dispatch_seconds),
            copy_ns=_median_ns(self.submit_seconds),
            read_ns=_median_ns(self.read_seconds),
        )

    def links(self) -> dict[str, profile.Link]:
        """By tier's kind. Raises ConfigError for copies that do not tell."""
        return {
            kind: profile.Link(out=self._direction(kind, "out"), into=self._direction(kind, "in"))
            for kind in dict.fromkeys(kind for kind, _ in self.copies)
        }

    def _direction(self, kind: str, direction: str) -> profile.Direction:
        """From the median of each size: a hiccup of the host counts for nothing."""
        by_size: dict[int, list[float]] = {}
        for copy in self.copies[kind, direction]:
            by_size.setdefault(copy.bytes, []).append(copy.seconds)
        medians = [fits.Copy(size, statistics.median(times)) for size, times in by_size.items()]
        return fit_direction(medians)


def fit_direction(copies: Sequence[fits.Copy]) -> profile.Direction:
    """The fit, or, of copies whose times do not grow with size, their latency and a rate.

    The rate is then the least that it can be, the largest copy's: a copy is foretold at most
    twice as long as it is, and the error says so.
    """
    try:
        found = fits.link(copies)
        latency, rate, error = found.latency_seconds, found.bytes_per_second, found.error_median
    except errors.ConfigError:
        latency = statistics.median(copy.seconds for copy in copies)
        rate = max(copies).bytes / latency
        error = statistics.median(
            abs((latency + copy.bytes / rate) / copy.seconds - 1) for copy in copies
        )
    return profile.Direction(
        latency_ns=round(latency * _NANO), bytes_per_second=round(rate), error_median=error
    )


def time_slices(
    shared: machine.Machine, experiment: settings.Experiment, into: Timings, *, seed: str
) -> None:
    """One pass of the loads through the engine of `shared`, without tiers."""
    for lanes in loads(experiment.engine.lanes):
        drawn = _load(experiment, lanes, seed)
        if drawn:
            _run(shared, _with_lanes(experiment, lanes), drawn, into)


def time_copies(shared: machine.Machine, arm: settings.Experiment, into: Timings) -> None:
    """Copies of the arm's mover between the pool and its tiers, while nothing else runs.

    What they leave in the pool is of no session; every session writes before it reads.
    """
    if not arm.memory.tiers:
        return
    engine = shared.start(arm).engine
    with contextlib.closing(engine.mover):
        for tier in engine.controller.memory.tiers:
            kind = arm.memory.tiers[tier.name].kind
            for pages in loads(min(arm.memory.pool_pages, tier.slots.capacity) // 2):
                for direction in ("out", "in"):
                    moves = _scattered(tier, pages, direction, pool=shared.runner.space)
                    copies = into.copies.setdefault((kind, direction), [])
                    copies += _time_copy(engine, moves, into)


def loads(most: int) -> list[int]:
    """1, 2, 4, ... and `most`.

    >>> loads(12)
    [1, 2, 4, 8, 12]
    """
    return [1 << power for power in range(most.bit_length()) if 1 << power < most] + [most]


class Meter(observer.Observer):
    """Times the slices of one engine; `begin` tells which."""

    def __init__(self, chunk_units: int, into: Timings) -> None:
        self._chunk_units = chunk_units
        self._into = into
        self._engine: engines.Engine | None = None
        self._finished_at = 0.0

    def begin(self, engine: engines.Engine) -> None:
        """The run starts."""
        self._engine = engine

    def slice_done(
        self, batch: types.Batch, chunks: int, started_at: float, finished_at: float
    ) -> None:
        """Of a slice that began on an idle device the times are of host and device: left out."""
        assert self._engine is not None, "begin() comes first"
        self._into.read_seconds.append(self._engine.clock.now() - finished_at)
        self._into.dispatch_seconds.append(self._engine.pace.host_seconds)
        if started_at == self._finished_at:
            work = cost.count(batch, self._chunk_units)
            self._into.slices.append(fits.Slice(work, finished_at - started_at))
        self._finished_at = finished_at


def _with_lanes(experiment: settings.Experiment, lanes: int) -> settings.Experiment:
    """An arm that fills so many lanes in order of arrival and pages nothing."""
    return dataclasses.replace(
        experiment,
        engine=dataclasses.replace(experiment.engine, lanes=lanes),
        memory=dataclasses.replace(experiment.memory, tiers={}, attend_away="off"),
        policy=base.PolicySettings(name="fcfs"),
    )


def _load(experiment: settings.Experiment, lanes: int, seed: str) -> list[records.Arrival]:
    """Sessions of which as many as there are lanes fit in the pool; none: so many never do."""
    sizes = experiment.engine
    pages = (experiment.memory.pool_pages - 1) // lanes
    units = min(pages * sizes.page_tokens, sizes.units_max)
    if units < 2:
        return []
    draws = random.Random(f"{seed}/{lanes}")
    outputs = min(units // 2, _OUTPUT_SLICES * sizes.steps_max)
    return [
        records.Arrival(0.0, 1 + draws.randrange(units // 2), 1 + draws.randrange(outputs))
        for _ in range(_SESSIONS * lanes)
    ]


def _run(
    shared: machine.Machine,
    arm: settings.Experiment,
    drawn: Sequence[records.Arrival],
    into: Timings,
) -> None:
    meter = Meter(arm.engine.chunk_tokens, into)
    engine = shared.start(arm, meter).engine
    with contextlib.closing(engine.mover):
        meter.begin(engine)
        for request in replay.requests(drawn, arm.workload, vocab_size=shared.vocab_size):
            engine.submit(request, sink=_drop)
        while not engine.idle:
            engine.step()


def _drop(tokens: Sequence[Any], reason: str, at: float) -> None:
    """Nobody reads them."""


def _scattered(tier: spare.Tier, pages: int, direction: str, *, pool: int) -> list[types.Move]:
    """Every second page of the pool, so that none has a neighbour, as in service most have not."""
    ends = [
        (types.Place(pool, 1 + 2 * index), types.Place(tier.slots.space, index))
        for index in range(pages)
    ]
    return [types.Move(*(pair if direction == "out" else reversed(pair)), units=1) for pair in ends]


def _time_copy(
    engine: engines.Engine, moves: Sequence[types.Move], into: Timings
) -> Iterator[fits.Copy]:
    """The copy, again and again. The first, which may compile, does not count."""
    for repeat in range(1 + _COPY_REPEATS):
        copy, submit_seconds = _copy(engine.mover, engine.clock, moves)
        if repeat:
            into.submit_seconds.append(submit_seconds)
            yield copy


def _copy(
    mover: protocols.Mover, clock: clocks.Clock, moves: Sequence[types.Move]
) -> tuple[fits.Copy, float]:
    """A copy from the call that submits it to its completion, and the host's seconds in that call.

    It may complete before the call returns.
    """
    begin = clock.now()
    ticket = mover.submit(moves)
    submit_seconds = clock.now() - begin
    until = begin + _COPY_SECONDS_MAX
    while not ticket.done():
        if clock.now() > until:
            raise errors.InternalError(f"{ticket!r} after {_COPY_SECONDS_MAX} s")
        clock.wait([ticket], until)
    ticket.result()
    (completion,) = mover.poll()
    finished = ticket.finished_at or clock.now()
    return fits.Copy(completion.bytes, finished - begin), submit_seconds


def _median_ns(seconds: Sequence[float]) -> int:
    return round(statistics.median(seconds) * _NANO) if seconds else 0
