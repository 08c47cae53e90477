"""The clients of one engine: they come, read, stall, abort; every token they get is checked.

Knows: how clients behave in time, what they must have got at the end. Does not
know: how the controller decides, who turns the engine.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aqua_jax.control import errors, types
from aqua_jax.engine import streams
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench as benches
from aqua_jax.simulation.fuzz import verdict

_REASONS = ("stop", "length", "abort", "deadline", "refused", "error")


class Crowd:
    """The clients of a scenario at a bench. report: is told what was met."""

    def __init__(
        self, bench: benches.Bench, scenario: benches.Scenario, report: verdict.Report
    ) -> None:
        self.bench = bench
        self.scenario = scenario
        self.report = report
        self.streams: list[tuple[benches.Client, streams.Stream]] = []
        self._got: dict[int, list[Any]] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waits_to_abort: dict[int, types.State] = {}
        self._parked: set[int] = set()
        for client in scenario.clients:
            self.at(client.arrives_at, lambda client=client: self._arrive(client))
        if scenario.drain_at is not None:
            self.at(scenario.drain_at, self._drain)

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Runs `event` at that second of the bench's clock."""
        heapq.heappush(self._events, (when, next(self._order), event))

    @property
    def next_at(self) -> float | None:
        """The second of the next event."""
        return self._events[0][0] if self._events else None

    @property
    def is_over(self) -> bool:
        """Nobody is served any more, and nobody comes but those who are too late for a drain."""
        if not self.bench.engine.idle:
            return False
        drain_at = self.scenario.drain_at
        return not self._events or (drain_at is not None and self.bench.clock.now() > drain_at)

    def run_due(self) -> None:
        """What has come due."""
        while self._events and self._events[0][0] <= self.bench.clock.now():
            heapq.heappop(self._events)[2]()

    def read_eager(self) -> None:
        """Those who read at once do."""
        for client, stream in self.streams:
            if client.read_every_seconds == 0:
                self._read(stream)

    def look(self) -> None:
        """Counts what the sessions are in, and aborts those who waited for it."""
        counts = self.report.counts
        living = self.bench.controller.sessions
        for id, state in list(self._waits_to_abort.items()):
            session = living.get(id)
            if session is not None and session.state is state:
                counts["abort attended"] += (
                    self.bench.controller.memory.attending.pages(session) > 0
                )
                counts[f"abort {state.value}"] += 1
                counts["abort in flight"] += session.flights > 0
                counts["abort parked"] += session.parked
                counts["abort moving"] += bool(self.bench.holding(session).moves)
                self.bench.engine.abort(id)
                del self._waits_to_abort[id]
        counts[f"attended {self.scenario.attend_away}"] += sum(
            self.bench.controller.memory.attending.pages(session) > 0 for session in living.values()
        )
        if self.scenario.prefix_reuse:
            self._look_at_sharing(living)
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

    def check_end(self) -> None:
        """Everybody has an end and the tokens that belong to it; counts what the engine did."""
        for _, stream in self.streams:
            self._read(stream)
        for client, stream in self.streams:
            self.report.counts[f"end {stream.reason}"] += 1
            long = self.bench.controller.memory.outgrows(client.request)
            self.report.counts[f"end long {stream.reason}"] += long
            self._check_tokens(client, stream)
            self._check_deadline(client, stream)
        self._count_work()

    def die(self) -> list[benches.Client]:
        """The engine is gone with its process. Returns whoever has not ended, or not come yet.

        What they got until then were the first tokens.
        """
        for client, stream in self.streams:
            self._read(stream)
            check_prefix(client.request, stream.id, self._got[stream.id])
        self._count_work()
        self.report.counts["died sessions"] += len(self.bench.controller.sessions)
        came = {id(client) for client, _ in self.streams}
        left = [client for client, stream in self.streams if not stream.ended]
        now = self.bench.clock.now()
        return left + [
            client
            for client in self.scenario.clients
            if client.arrives_at > now and id(client) not in came
        ]

    # -- helpers, in call order --------------------------------------------------------------

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
        self._got[stream.id] = got
        if client.read_every_seconds:
            self._read_later(stream, client.read_every_seconds)
        if client.abort_at is not None:
            self.at(client.abort_at, lambda: self.bench.engine.abort(stream.id))
        if client.abort_in is not None:
            self._waits_to_abort[stream.id] = client.abort_in

    def _read(self, stream: streams.Stream) -> None:
        """Reads all there is: a bounded stream's worth and what two slices in flight added."""
        tokens = stream.read()
        slack = 2 * (self.scenario.steps_max + 1)
        verdict.promise(
            len(tokens) <= self.scenario.stream_tokens_max + slack,
            f"the stream of request {stream.id} grew past its bound",
        )
        self._got[stream.id] += tokens

    def _read_later(self, stream: streams.Stream, every_seconds: float) -> None:
        def read() -> None:
            self._read(stream)
            if not stream.ended:
                self._read_later(stream, every_seconds)

        self.at(self.bench.clock.now() + every_seconds, read)

    def _look_at_sharing(self, living: Mapping[int, types.Session]) -> None:
        """Who shares a page has the same salt; counts the ways of sharing."""
        counts, memory = self.report.counts, self.bench.controller.memory
        for session in living.values():
            holding = self.bench.holding(session)
            counts[f"waits {session.state.value}"] += bool(holding.waits)
            counts["waits for a page"] += session.waits > 0
            pages = [(memory.device, page) for page in holding.device]
            pages += [(away.tier.slots, away.slot) for away in holding.aways()]
            for pool, page in pages:
                owners = pool.owners(page)
                if len(owners) > 1:
                    counts["shared on device" if pool is memory.device else "shared away"] += 1
                    salts = {living[id].salt for id in owners if id in living}
                    verdict.promise(len(salts) == 1, f"page {page} is shared by salts {salts}")

    def _drain(self) -> None:
        self.report.counts["drain"] += 1
        self.bench.engine.drain(self.scenario.drain_seconds)
        self.bench.check_all_free()

    def _check_tokens(self, client: benches.Client, stream: streams.Stream) -> None:
        """It ended with a reason; finished: every token; else: those it got are the first ones."""
        request, got = client.request, self._got[stream.id]
        verdict.promise(stream.ended, f"request {stream.id} has no end")
        verdict.promise(stream.reason in _REASONS, f"request {stream.id} ended {stream.reason!r}")
        check_prefix(request, stream.id, got)
        if stream.reason in ("stop", "length"):
            expected = toy.expected_tokens(request)
            reason = "stop" if len(expected) < request.steps_max else stream.reason
            if got != expected or stream.reason != reason:
                raise verdict.WrongTokensError(
                    f"request {stream.id} ended by {stream.reason} with {len(got)} of"
                    f" {len(expected)} tokens"
                )
        verdict.promise(
            (stream.error is not None) == (stream.reason in ("refused", "error")),
            f"request {stream.id} ended by {stream.reason} with error {stream.error!r}",
        )

    def _check_deadline(self, client: benches.Client, stream: streams.Stream) -> None:
        """Nothing lives past its deadline (arrival and end are each on a whole nanosecond).

        Unless the engine was waiting to rebuild or to drain.
        """
        deadline = client.request.deadline_seconds
        unsure = self.scenario.fail_at or self.scenario.drain_at is not None
        if deadline is None or unsure or not self.scenario.is_punctual:
            return
        late = (stream.ended_at or 0.0) - (client.arrives_at + deadline)
        verdict.promise(late < 3e-9, f"request {stream.id} ended {late} s after its deadline")

    def _count_work(self) -> None:
        """What controller and mover have done."""
        counts, controller = self.report.counts, self.bench.controller
        for field in dataclasses.fields(controller.counters):
            counts[field.name] += getattr(controller.counters, field.name)
        moved = controller.memory.moved
        counts.update({f"out {tier}": count for tier, count in moved.out.items()})
        counts.update({f"in {tier}": count for tier, count in moved.into.items()})
        counts.update({f"move {tier}": count for tier, count in moved.relocated.items()})
        counts["wasted"] += moved.wasted
        counts.update({f"copies {what}": count for what, count in self.bench.mover.met.items()})


def check_prefix(request: types.Request, id: int, got: Sequence[Any]) -> None:
    """What came of the request are its first tokens."""
    expected = toy.expected_tokens(request)[: len(got)]
    if list(got) != expected:
        raise verdict.WrongTokensError(f"request {id} got {list(got)}, expected {expected}")
