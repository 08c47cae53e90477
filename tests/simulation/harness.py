"""Runs a scenario to its end: clients come, read, abort; every step and every token is checked.

Knows: how clients behave in time, what must hold at the end. Does not know:
how the controller decides. `python -m tests.simulation.harness SEED` replays
one seed and shows what the controller did.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aqua_jax.control import errors, types
from aqua_jax.engine import streams
from aqua_jax.simulation import toy
from tests.simulation import bench as benches
from tests.simulation import homes, leased, scenarios

_STEPS_TO_COME_HOME = 5000


class WrongTokensError(AssertionError):
    """A client got tokens that an undisturbed run does not emit."""


@dataclasses.dataclass(slots=True)
class Report:
    """What a run reached: counts by name, to show that the rare cases were met."""

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    seconds: float = 0.0

    def add(self, other: Report) -> None:
        """Adds another run's counts."""
        self.counts.update(other.counts)
        self.seconds += other.seconds


def run_seeds(seeds: Iterable[int]) -> Report:
    """Runs every seed; a failure names its seed and the command that replays it."""
    total = Report()
    for seed in seeds:
        try:
            total.add(run(scenarios.draw(seed)))
        except Exception as error:
            error.add_note(f"seed {seed}; replay: python -m tests.simulation.harness {seed}")
            raise
    return total


def run(scenario: benches.Scenario) -> Report:
    """Runs the scenario to its end, checks integrity after every step and the tokens at the end."""
    return run_on(benches.Bench(scenario), scenario)


def run_on(bench: benches.Bench, scenario: benches.Scenario) -> Report:
    """The same on a bench that was made for it."""
    return _Run(bench, scenario).run()


class _Run:
    """One run: the clients' events and the engine's steps, interleaved in virtual time."""

    def __init__(self, bench: benches.Bench, scenario: benches.Scenario) -> None:
        self.bench = bench
        self.scenario = scenario
        self.report = Report()
        self.lenders = homes.Lenders(bench, self.report.counts)
        self.streams: list[tuple[benches.Client, streams.Stream]] = []
        self.got: dict[int, list[Any]] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waits_to_abort: dict[int, types.State] = {}
        self._parked: set[int] = set()

    def run(self) -> Report:
        for client in self.scenario.clients:
            self._at(client.arrives_at, lambda client=client: self._arrive(client))
        for loan in self.scenario.loans:
            self._at(loan.at, lambda loan=loan: self.lenders.offer(loan))
        draining = self.scenario.drain_at is not None
        if self.scenario.drain_at is not None:
            self._at(self.scenario.drain_at, self._drain)
        for _ in range(benches.STEPS_MAX):
            self._run_due()
            self.lenders.step()
            if self.bench.leased:
                self.bench.leased.step()
            self._read_eager()
            if self.bench.engine.idle and not (self._events and not self._is_over(draining)):
                break
            self.bench.step(self._events[0][0] if self._events else None)
            self.lenders.check_patience()
            self._look()
        else:
            raise AssertionError(f"no end after {benches.STEPS_MAX} steps: {self.bench.describe()}")
        self._finish()
        return self.report

    def _is_over(self, draining: bool) -> bool:
        """After a drain the events that are left are of clients who come too late."""
        return draining and self.bench.clock.now() > (self.scenario.drain_at or 0.0)

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _run_due(self) -> None:
        while self._events and self._events[0][0] <= self.bench.clock.now():
            heapq.heappop(self._events)[2]()

    def _arrive(self, client: benches.Client) -> None:
        got: list[Any] = []
        sink = (
            (lambda tokens, *_: got.extend(tokens)) if client.read_every_seconds is None else None
        )
        try:
            stream = self.bench.engine.submit(client.request, sink=sink)
        except errors.RequestError:
            self.report.counts["too large"] += 1
            return
        except errors.QueueFullError:
            self.report.counts["came while draining"] += 1
            return
        self.streams.append((client, stream))
        self.got[stream.id] = got
        if client.read_every_seconds:
            self._read_later(stream, client.read_every_seconds)
        if client.abort_at is not None:
            self._at(client.abort_at, lambda: self.bench.engine.abort(stream.id))
        if client.abort_in is not None:
            self._waits_to_abort[stream.id] = client.abort_in

    def _read(self, stream: streams.Stream) -> None:
        """Reads all there is: a bounded stream's worth and what two slices in flight added."""
        tokens = stream.read()
        slack = 2 * (self.scenario.steps_max + 1)
        assert len(tokens) <= self.scenario.stream_tokens_max + slack, (
            "a stream grew past its bound"
        )
        self.got[stream.id] += tokens

    def _read_later(self, stream: streams.Stream, every_seconds: float) -> None:
        def read() -> None:
            self._read(stream)
            if not stream.ended:
                self._read_later(stream, every_seconds)

        self._at(self.bench.clock.now() + every_seconds, read)

    def _read_eager(self) -> None:
        for client, stream in self.streams:
            if client.read_every_seconds == 0:
                self._read(stream)

    def _look(self) -> None:
        """Counts what the sessions are in, and aborts those who waited for it."""
        counts = self.report.counts
        living = self.bench.controller.sessions
        for id, state in list(self._waits_to_abort.items()):
            session = living.get(id)
            if session is not None and session.state is state:
                counts["abort attended"] += self.bench.controller.memory.attended(session) > 0
                counts[f"abort {state.value}"] += 1
                counts["abort in flight"] += session.flights > 0
                counts["abort parked"] += session.parked
                counts["abort moving"] += bool(self.bench.holding(session).moves)
                self.bench.engine.abort(id)
                del self._waits_to_abort[id]
        counts["attended"] += sum(
            self.bench.controller.memory.attended(session) > 0 for session in living.values()
        )
        for session in living.values():
            holding = self.bench.holding(session)
            if holding.moves:
                attended = any(index < len(holding.attended) for index in holding.moves)
                counts["moving attended" if attended else f"moving {session.state.value}"] += 1
            counts["void slices"] += session.flights > 0 and session.void_until > 0
        parked = {id for id, session in living.items() if session.parked}
        for id in parked - self._parked:
            counts[f"park {living[id].state.value}"] += 1
        counts["unpark"] += len((self._parked & living.keys()) - parked)
        self._parked = parked

    def _drain(self) -> None:
        self.report.counts["drain"] += 1
        self.bench.engine.drain(self.scenario.drain_seconds)
        self.bench.check_all_free()

    def _take_home(self, scene: leased.Scene) -> None:
        """The lender gets all that it lent, while nobody lives any more."""
        scene.check_deadlines()
        scene.wind_up()
        for _ in range(_STEPS_TO_COME_HOME):
            if scene.is_all_home:
                break
            self.bench.step()
            scene.step()
        assert scene.is_all_home, scene.ledger.snapshot()
        self.report.counts.update(scene.counts)
        for field in dataclasses.fields(scene.borrower.counters):
            self.report.counts[f"borrower {field.name}"] += getattr(
                scene.borrower.counters, field.name
            )

    def _finish(self) -> None:
        bench, counts = self.bench, self.report.counts
        if bench.leased:
            self._take_home(bench.leased)
        for _, stream in self.streams:
            self._read(stream)
        bench.engine.close()
        bench.check_all_free()
        self.lenders.check_end()
        for client, stream in self.streams:
            counts[f"end {stream.reason}"] += 1
            long = bench.controller.memory.outgrows(client.request)
            counts[f"end long {stream.reason}"] += long
            check_tokens(client.request, stream, self.got[stream.id])
            self._check_deadline(client, stream)
        for field in dataclasses.fields(bench.controller.counters):
            counts[field.name] += getattr(bench.controller.counters, field.name)
        moved = bench.controller.memory.moved
        counts.update({f"out {tier}": count for tier, count in moved.out.items()})
        counts.update({f"in {tier}": count for tier, count in moved.into.items()})
        counts.update({f"move {tier}": count for tier, count in moved.relocated.items()})
        counts["wasted"] += moved.wasted
        self.report.seconds = bench.clock.now()

    def _check_deadline(self, client: benches.Client, stream: streams.Stream) -> None:
        """Nothing lives past its deadline (arrival and end are each on a whole nanosecond).

        Unless the engine was waiting to rebuild or to drain.
        """
        deadline = client.request.deadline_seconds
        if deadline is None or self.scenario.fail_at or self.scenario.drain_at is not None:
            return
        late = (stream.ended_at or 0.0) - (client.arrives_at + deadline)
        assert late < 3e-9, f"request {stream.id} ended {late} s after its deadline"


def check_tokens(request: types.Request, stream: streams.Stream, got: Sequence[Any]) -> None:
    """It ended with a reason; finished: every token; else: those it got are the first ones."""
    assert stream.ended, f"request {stream.id} has no end"
    assert stream.reason in ("stop", "length", "abort", "deadline", "refused", "error")
    expected = toy.expected_tokens(request)
    if stream.reason not in ("stop", "length"):
        expected = expected[: len(got)]
    elif (len(expected) < request.steps_max) and stream.reason == "length":
        raise WrongTokensError(f"request {stream.id} ended by length at a stop token")
    if list(got) != expected:
        raise WrongTokensError(
            f"request {stream.id} ({stream.reason}) got {got}, expected {expected}"
        )
    assert (stream.error is not None) == (stream.reason in ("refused", "error"))


def replay(seed: int) -> None:
    """Runs one seed, writes what the controller did and how it ended."""
    scenario = scenarios.draw(seed)
    bench = benches.Bench(scenario)
    write = sys.stdout.write
    write(f"{dataclasses.replace(scenario, clients=())}\n")
    try:
        report = _Run(bench, scenario).run()
    finally:
        for event in bench.controller.log.events:
            write(f"{event.at:10.5f} {event.name:16} session {event.session:3} {event.value}\n")
    write(f"{dict(report.counts)}\n")


if __name__ == "__main__":
    replay(int(sys.argv[1]))
