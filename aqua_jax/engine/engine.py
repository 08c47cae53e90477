"""The engine: takes requests in, runs slices one deep ahead, moves pages, delivers tokens.

Knows: the controller's decisions, runner and mover by their protocols, a
clock. Does not know: policy, tokens' meaning, jax.

One thread owns it and calls `step`. `submit` and `abort` go through an inbox
that any thread may use. Slice k+1 is dispatched just before slice k ends,
without reading its outcomes; those are read while k+1 runs.

    step:  inbox, deadlines -> copies completed -> slices completed -> memory lent, called back
           -> decide, submit copies, dispatch (when due) -> else wait in the clock
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.control import copying, errors, tickets, types
from aqua_jax.engine import copies, pace, protocols, requests, streams, usage
from aqua_jax.engine import observer as observers

_T = TypeVar("_T")

_WAIT_SECONDS_MAX = 1.0
_FAILURES_MAX = 3  # dispatches failed in a row before the living sessions are given up


@dataclasses.dataclass(frozen=True, slots=True)
class EngineSettings:
    """Bounds of the engine's queues, and its timing.

    ahead_seconds: the next slice is dispatched this long before the running one
    should end, beyond what the host needs for deciding and dispatching.
    stream_tokens_max: unread tokens at which a session is parked.
    inbox_max: requests submitted and not yet taken in by a step.
    drain_seconds: how long closing waits for slices and copies in flight.
    """

    ahead_seconds: float = 0.004
    stream_tokens_max: int = 65_536
    inbox_max: int = 100_000
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        streams.check_tokens_max(self.stream_tokens_max)
        if self.inbox_max < 1:
            raise errors.ConfigError(f"inbox_max is {self.inbox_max}; give at least 1")
        if not (self.ahead_seconds >= 0 and self.drain_seconds > 0):
            raise errors.ConfigError(
                f"ahead_seconds {self.ahead_seconds} and drain_seconds {self.drain_seconds}: give"
                " at least 0 and more than 0"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class _Flight:
    dispatch: int
    ticket: tickets.Ticket
    batch: types.Batch
    chunks: int
    dispatched_at: float


class Engine:
    """Runs one runner's sessions under one controller."""

    def __init__(
        self,
        controller: controllers.Controller,
        mover: protocols.Mover,
        runner: protocols.Runner,
        clock: clocks.Clock,
        *,
        settings: EngineSettings | None = None,
        observer: observers.Observer | None = None,
        parties: Sequence[protocols.Party] = (),
    ) -> None:
        """parties: to leases, by which the tiers and the pool of the controller come and go."""
        self.controller = controller
        self.mover = mover
        self.runner = runner
        self.clock = clock
        self.settings = settings or EngineSettings()
        self.observer = observer or observers.Observer()
        self.usage = usage.Usage(clock.now())
        self.pace = pace.Pace()
        self._parties = tuple(parties)
        self._ids = itertools.count(1)
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._door = threading.Lock()  # between submitting threads and draining
        self._submitted = 0  # requests in the inbox
        self._streams: dict[int, streams.Stream] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._flights: collections.deque[_Flight] = collections.deque()
        self._copies = copies.Copies(controller, mover, clock, lambda: self.observer)
        self._changed = False  # something happened since the last decision
        self._draining = False
        self._failures = 0
        self._last_finish = clock.now()
        self._host_seconds = 0.0

    # -- any thread --------------------------------------------------------------------------

    def submit(self, request: types.Request, *, sink: streams.Sink | None = None) -> streams.Stream:
        """Asks for a session; returns its stream at once. Any thread.

        Raises RequestError for a request that is malformed or larger than the
        memory for it, QueueFullError while draining or when `inbox_max` wait to be
        taken in. Too many living sessions end the stream with reason "refused".
        """
        requests.check(request, self.runner)
        self.runner.check(request)
        self.controller.check_fits(request)
        stream = streams.Stream(
            next(self._ids),
            tokens_max=self.settings.stream_tokens_max,
            on_room=self._ask_unpark,
            sink=sink,
        )
        with self._door:
            if self._draining:
                raise errors.QueueFullError("the engine is draining and takes no more requests")
            if self._submitted >= self.settings.inbox_max:
                raise errors.QueueFullError(
                    f"{self._submitted} requests wait to be taken in, the limit inbox_max: retry"
                    " later"
                )
            self._submitted += 1
            self._post("submit", (stream, request, self.clock.now()))
        return stream

    def abort(self, id: int) -> None:
        """Ends a session wherever it stands, at the engine's next step. Any thread."""
        self._post("abort", id)

    # -- the engine's thread -----------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """True when no session lives and nothing is in flight."""
        return not (
            self.controller.sessions or self._flights or self._copies or not self._inbox.empty()
        )

    def step(self, until: float | None = None) -> bool:
        """One turn: takes in what happened and dispatches what is due, else waits.

        Waits until something happens or clock second `until` (at most a
        second). True when anything was done.
        """
        if self.turn():
            return True
        self._wait(until)
        return False

    def turn(self) -> bool:
        """Takes in what happened and dispatches what is due. Never waits.

        True when anything was done; then it is worth another turn at once. Else the next is due
        at `wakes_at()`, or when a ticket is done or a client asks for something.
        """
        done = self._take_inbox() | self._expire() | self._take_copies() | self._take_slices()
        done |= self._move_homes()
        self._changed |= done or self._copies.retry_due()
        if self._changed and self._dispatch_due():
            self._dispatch()
            return True
        if done:
            self._submit_copies(self._timed(self.controller.bring_back, self.clock.now()))
        return done

    def wakes_at(self) -> float:
        """The clock second at which a turn is due though nothing happens; infinite: none is."""
        wakes_at = min(self._copies.retry_at, self.controller.homes.wakes_at(self.clock.now()))
        for party in self._parties:
            wakes_at = min(wakes_at, party.wakes_at())
        if self._deadlines:
            wakes_at = min(wakes_at, self._deadlines[0][0])
        if self._changed and len(self._flights) == 1:
            wakes_at = min(wakes_at, self._due_at())
        return wakes_at

    def drain(self, deadline_seconds: float) -> None:
        """Takes no more requests, runs the living ones for so long, aborts the rest.

        Afterwards nothing is in flight and every page is FREE.
        """
        with self._door:  # whatever was submitted before is in the inbox
            self._draining = True
        deadline = self.clock.now() + deadline_seconds
        while not self.idle and self.clock.now() < deadline:
            self.step(deadline)
        self._take_inbox()
        for session in list(self.controller.sessions.values()):
            self._end(session, "abort")
        self._settle()

    def close(self, deadline_seconds: float = 0.0) -> None:
        """Drains, at once by default, and releases the threads of mover and runner."""
        try:
            self.drain(deadline_seconds)
        finally:
            self.mover.close()
            self.runner.close()

    def check_integrity(self) -> None:
        """The controller's invariants, and that the engine agrees. Raises InternalError."""
        self.controller.check_integrity()
        if set(self.controller.sessions) != set(self._streams):
            raise errors.InternalError("the engine's streams and the controller's sessions differ")

    # -- taking in ---------------------------------------------------------------------------

    def _post(self, what: str, value: Any) -> None:
        self._inbox.put((what, value))
        self.clock.wake()

    def _ask_unpark(self, id: int) -> None:
        self._post("unpark", id)

    def _take_inbox(self) -> bool:
        took = False
        while not self._inbox.empty():
            what, value = self._inbox.get_nowait()
            took = True
            if what == "submit":
                with self._door:
                    self._submitted -= 1
                self._start(*value)
                continue
            session = self.controller.sessions.get(value)
            if session is None:
                continue  # it ended meanwhile
            if what == "abort":
                self._end(session, "abort")
            else:
                self.controller.unpark(session)
        return took

    def _start(self, stream: streams.Stream, request: types.Request, at: float) -> None:
        session = types.Session(stream.id, request, at)
        try:
            self.controller.submit(session, at)
        except errors.QueueFullError as error:
            stream.deliver((), "refused", at, error)
            return
        self._streams[stream.id] = stream
        if request.deadline_seconds is not None:
            heapq.heappush(self._deadlines, (at + request.deadline_seconds, stream.id))

    def _expire(self) -> bool:
        expired = False
        now = self.clock.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            session = self.controller.sessions.get(heapq.heappop(self._deadlines)[1])
            if session is not None:
                self._end(session, "deadline")
                expired = True
        return expired

    def _end(self, session: types.Session, reason: str, error: BaseException | None = None) -> None:
        now = self.clock.now()
        self.controller.end(session, reason, now)
        self._streams.pop(session.id).deliver((), reason, now, error)

    def _take_copies(self) -> bool:
        took, failed = self._copies.poll()
        self._end_failed(failed)
        return took

    def _end_failed(self, failed: Sequence[copies.Failed]) -> None:
        for session, error in failed:
            self._end(session, "error", error)

    def _take_slices(self) -> bool:
        took = False
        while self._flights and self._flights[0].ticket.done():
            took = True
            flight = self._flights.popleft()
            finished_at = flight.ticket.finished_at or self.clock.now()
            self._mark_end(finished_at)
            try:
                outcomes = self.runner.collect(flight.ticket)
            except Exception as error:  # whatever the device threw, its pool is void
                self._recover(error)
                return True
            self._failures = 0
            self._note_slice(flight, finished_at)
            self._deliver(flight, outcomes)
        return took

    def _move_homes(self) -> bool:
        """Memory comes and goes; pages leave what was called back. True when anything was done."""
        now, homes_lost = self.clock.now(), self.controller.counters.homes_lost
        done = False
        for party in self._parties:
            done |= self._timed(party.turn, now)
        if not self._copies.pauses:  # after a refusal, which would be repeated at once
            moves = self._timed(self.controller.homes.relocate, now)
            self._submit_copies(moves)
            done |= bool(moves)
        return done or self.controller.counters.homes_lost > homes_lost

    def _mark_end(self, finished_at: float) -> None:
        """The device is idle from here, or was until the next slice was dispatched."""
        if not self._flights:
            self.usage.mark(finished_at, usage.Use.IDLE)
        else:
            gap = self._flights[0].dispatched_at - finished_at
            self.usage.move(max(0.0, gap), usage.Use.RUNNING, usage.Use.IDLE)

    def _note_slice(self, flight: _Flight, finished_at: float) -> None:
        started_at = max(flight.dispatched_at, self._last_finish)
        self._last_finish = finished_at
        self.pace.learn(flight.chunks, flight.batch.steps, finished_at - started_at)
        self.observer.slice_done(flight.batch, flight.chunks, started_at, finished_at)

    def _deliver(self, flight: _Flight, outcomes: Sequence[types.Outcome]) -> None:
        now = self.clock.now()
        emissions = self._timed(self.controller.observe, flight.dispatch, outcomes, now)
        for session, tokens, finished in emissions:
            stream = self._streams[session.id]
            if finished:
                del self._streams[session.id]
            if (tokens or finished) and stream.deliver(tokens, finished, now, None):
                self.controller.park(session)

    def _recover(self, error: Exception) -> None:
        """A dispatch failed: pool and arenas are void. Rebuild and recompute; a few times only."""
        self._failures += 1
        while self._flights:  # they ran on the void pool: whatever they say is dropped
            flight = self._flights.popleft()
            self._wait_for(flight.ticket)
            with contextlib.suppress(Exception):
                self.runner.collect(flight.ticket)
        self.usage.mark(self.clock.now(), usage.Use.IDLE)
        self._settle_copies()
        self.runner.rebuild()
        self.mover.rebuild()
        self.controller.lose_all(self.clock.now())
        if self._failures > _FAILURES_MAX:
            for session in list(self.controller.sessions.values()):
                self._end(session, "error", error)

    # -- dispatching -------------------------------------------------------------------------

    def _dispatch_due(self) -> bool:
        return len(self._flights) < 2 and self.clock.now() >= self._due_at()

    def _due_at(self) -> float:
        """When the next slice is to be dispatched: just before the one in flight ends."""
        if not self._flights:
            return 0.0
        flight = self._flights[-1]
        if len(self._flights) > 1:
            return float("inf")
        expected = self.pace.seconds(flight.chunks, flight.batch.steps)
        started_at = max(flight.dispatched_at, self._last_finish)
        ahead = max(self.settings.ahead_seconds, 0.1 * expected) + self.pace.host_seconds
        return started_at + expected - ahead

    def _dispatch(self) -> None:
        begun_at = self.clock.now()
        decision = self._timed(self.controller.decide, begun_at)
        self._changed = decision.evicted > 0
        self._submit_copies(decision.copies)
        now = self.clock.now()
        if decision.batch is None:
            if not self._flights:
                waits = self.controller.waits_for_copies
                use = usage.Use.STALL if waits else usage.Use.EMPTY
                if self.usage.use is usage.Use.IDLE:
                    self.usage.correct(use)
                self.usage.mark(now, use)
            return
        self.observer.decided(self._host_seconds + self._copies.host_seconds)
        self._host_seconds = self._copies.host_seconds = 0.0
        ticket = self.runner.dispatch(decision.batch)
        chunks = -(-decision.batch.prefill_units // self.runner.chunk_units)
        self._flights.append(_Flight(decision.dispatch, ticket, decision.batch, chunks, now))
        now = self.clock.now()
        self.pace.learn_host(now - begun_at)
        self.usage.mark(now, usage.Use.RUNNING)
        self._changed = True  # the next slice may be decided as soon as it is due

    def _submit_copies(self, planned: Sequence[copying.Copy]) -> None:
        after = self._flights[-1].ticket if self._flights else None
        self._end_failed(self._copies.submit(planned, after))

    def _timed(self, call: Callable[..., _T], *args: Any) -> _T:
        """What the controller answers; its host seconds count for the next dispatch."""
        begin = time.perf_counter()
        answer = call(*args)
        self._host_seconds += time.perf_counter() - begin
        return answer

    # -- waiting -----------------------------------------------------------------------------

    def _wait(self, until: float | None) -> None:
        now = self.clock.now()
        wakes_at = min(now + _WAIT_SECONDS_MAX, self.wakes_at())
        if until is not None:
            wakes_at = min(wakes_at, until)
        pending = [flight.ticket for flight in self._flights]
        pending += self._copies.tickets
        self.clock.wait(pending, max(now, wakes_at))

    def _settle(self) -> None:
        """Waits (bounded) until nothing is in flight; outcomes of ended sessions are dropped."""
        deadline = self.clock.now() + self.settings.drain_seconds
        while self._flights and self.clock.now() < deadline:
            if not self._take_slices():
                self.clock.wait([flight.ticket for flight in self._flights], deadline)
        self._settle_copies()
        self._check_settled(len(self._flights), "slices")

    def _settle_copies(self) -> None:
        deadline = self.clock.now() + self.settings.drain_seconds
        while self._copies and self.clock.now() < deadline:
            if not self._take_copies():
                self.clock.wait(self._copies.tickets, deadline)
        self._check_settled(len(self._copies), "copies")

    def _check_settled(self, count: int, what: str) -> None:
        if count:
            raise errors.InternalError(
                f"{count} {what} did not end within drain_seconds={self.settings.drain_seconds}"
            )

    def _wait_for(self, ticket: tickets.Ticket) -> None:
        deadline = self.clock.now() + self.settings.drain_seconds
        while not ticket.done() and self.clock.now() < deadline:
            self.clock.wait([ticket], deadline)
