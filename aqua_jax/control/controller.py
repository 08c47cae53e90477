"""The time-slice controller: who runs next, for how long, and which pages move.

Knows: sessions, lanes, the policy's order, residency. Does not know: tokens'
meaning, clocks that wait, tickets of dispatches, jax. `decide` plans one slice
and the copies around it; `observe` and `copied` take in what happened.

The state of a session, each transition beside the function that makes it:

                 _join                _pause
    WAITING ---------------> RUNNING --------> PAUSED --_join--> RUNNING
       ^                      |    ^              |
       |                _evict|    |copied        |_evict
       |_lose                 v    |              v
       +---- LEAVING <--------+  ARRIVING      LEAVING
       |        | copied           ^
       |        v                  |
       +------ AWAY ------_join----+            any ---end--> ENDED

What is decided counts at once in `planned_*`, so slice k+1 can be decided
before the outcomes of slice k are read.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sortedcontainers import SortedKeyList

from aqua_jax.control import errors, residency, trace, types
from aqua_jax.control.policies import base


@dataclasses.dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Limits of a slice and of the queue.

    lanes: sessions in a slice. chunk_units: rows of one prefill program.
    chunks_max: prefill programs in a slice. steps_max: steps when nobody waits;
    steps_contended: steps when somebody does, so that a newcomer waits less.
    sessions_max: living sessions. looks_max: waiting sessions looked at per
    decision. passes_max: later ones admitted past one that does not fit.
    early_pages: pages of likely victims copied out early per slice.
    """

    lanes: int
    chunk_units: int
    steps_max: int
    chunks_max: int = 2
    steps_contended: int = 4
    sessions_max: int = 100_000
    looks_max: int = 8
    passes_max: int = 4
    early_pages: int = 8

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least = 0 if field.name == "early_pages" else 1
            if getattr(self, field.name) < least:
                raise errors.ConfigError(
                    f"{field.name} is {getattr(self, field.name)}; give at least {least}"
                )


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """One slice. `copies` are submitted before `batch` is dispatched; `batch` None: nothing can run.

    evicted: sessions that made room; with no batch it is worth deciding again at once.
    """

    batch: types.Batch | None
    dispatch: int
    copies: tuple[residency.Copy, ...]
    evicted: int


class Emission(NamedTuple):
    """What an observed slice gave one session. `finished` is "" or why it ended."""

    session: types.Session
    tokens: Sequence[Any]
    finished: str


@dataclasses.dataclass(slots=True)
class Counters:
    """Sums over the controller's life; units as the names say."""

    preemptions: int = 0
    recomputed_tokens: int = 0
    overrun_tokens: int = 0
    copy_errors: int = 0
    decisions: int = 0


@dataclasses.dataclass(slots=True)
class _Slice:
    """A slice being shaped: its steps, and what running sessions will need."""

    steps: int
    available: int = 0  # FREE pages beyond the needs of running sessions
    incoming: int = 0  # pages that turn FREE with nothing more to do
    prefilling: list[types.Session] = dataclasses.field(default_factory=list)
    copies: list[residency.Copy] = dataclasses.field(default_factory=list)
    joined: set[int] = dataclasses.field(default_factory=set)  # WAITING sessions that just joined


class Controller:
    """Composes policy, residency and lanes of one runner. Not thread-safe."""

    def __init__(
        self,
        settings: ControllerSettings,
        policy: base.Policy,
        memory: residency.Residency,
        *,
        log: trace.EventLog | None = None,
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.memory = memory
        self.log = log or trace.EventLog()
        self.counters = Counters()
        self.sessions: dict[int, types.Session] = {}
        self._queue: SortedKeyList = SortedKeyList(key=policy.key)
        self._running: dict[int, types.Session] = {}  # lane -> session, ARRIVING included
        self._paused: dict[int, types.Session] = {}
        self._free_lanes = list(range(settings.lanes))
        self._lane_state: dict[int, tuple[int, int]] = {}  # lane -> (session, epoch) on the device
        self._flying: dict[int, list[tuple[types.Session, int]]] = {}
        self._dispatch = 0
        self._rows_max = settings.chunks_max * settings.chunk_units

    # -- sessions come and go ----------------------------------------------------------------

    def check_fits(self, request: types.Request) -> None:
        """Raises RequestError for a request that no schedule can run."""
        units = request.prompt_units + request.steps_max
        need = self.memory.request_pages(request, units - 1)
        capacity = self.memory.device.capacity
        if need > capacity:
            tiers = ", ".join(f"{t.name} {t.slots.capacity}" for t in self.memory.tiers) or "none"
            raise errors.RequestError(
                f"a request of {request.prompt_units} prompt units and up to {request.steps_max} more"
                f" needs {need} pages; the pool has {capacity} (tiers: {tiers}) and a session must be"
                " whole on the device to run: shorten it or raise memory.pool_pages"
            )

    def submit(self, session: types.Session, now: float) -> None:
        """A new session: WAITING. Raises QueueFullError beyond `sessions_max`."""
        if len(self.sessions) >= self.settings.sessions_max:
            raise errors.QueueFullError(
                f"{len(self.sessions)} sessions are living, the limit sessions_max: retry later"
            )
        session.planned_known = session.known
        self.policy.arrive(session, self._least_vtime())
        self.sessions[session.id] = session
        self._queue.add(session)
        self.log.add(now, "submit", session.id)

    def end(self, session: types.Session, reason: str, now: float) -> None:
        """Any state -> ENDED. Owners drop at once; pages follow their tickets (invariant 1)."""
        self._leave_queue(session)
        self._give_up_lane(session)
        self._paused.pop(session.id, None)
        self.memory.drop(session, last_dispatch=session.last_dispatch)
        session.state, session.reason = types.State.ENDED, reason
        self.policy.end(session)
        del self.sessions[session.id]
        self.log.add(now, f"end {reason}", session.id)

    def park(self, session: types.Session) -> None:
        """Its client does not read: it is scheduled no more until `unpark`."""
        session.parked = True
        self._leave_queue(session)
        if session.state is types.State.RUNNING:
            self._pause(session)

    def unpark(self, session: types.Session) -> None:
        """Its client reads again."""
        session.parked = False
        if session.state in (types.State.WAITING, types.State.AWAY, types.State.PAUSED):
            self._enter_queue(session)

    # -- deciding ----------------------------------------------------------------------------

    def decide(self, now: float) -> Decision:
        """Plans the next slice and the copies around it. Everything planned counts at once."""
        self.counters.decisions += 1
        evicted = self.counters.preemptions
        self._retire_finishing()
        slice_ = _Slice(self._steps())
        self._keep_room_for_growth(slice_, now)
        self._admit(slice_, now, displace=True)
        plans = self._plan_lanes(slice_)
        self._copy_early(slice_)
        batch = None
        if plans:
            self._dispatch += 1
            batch = types.Batch(tuple(plans), max(plan.steps for plan in plans))
            self._count_planned(batch)
        evicted = self.counters.preemptions - evicted
        return Decision(batch, self._dispatch, tuple(residency.merge(slice_.copies)), evicted)

    def bring_back(self, now: float) -> tuple[residency.Copy, ...]:
        """Copies for sessions that can come back into pages FREE now, between decisions."""
        if not self.policy.pages_out or not self._queue or not self._free_lanes:
            return ()
        slice_ = _Slice(self._steps())
        self._reserve_growth(slice_, self._runnable())
        self._admit(slice_, now, displace=False)
        return tuple(residency.merge(slice_.copies))

    @property
    def waits_for_copies(self) -> bool:
        """True while some session is held up by a copy and by nothing else."""
        return any(s.state is types.State.ARRIVING for s in self._running.values()) or bool(
            self.memory.copies_in_flight and self._queue
        )

    def count_states(self) -> dict[types.State, int]:
        """Living sessions by state."""
        counts = dict.fromkeys(types.State, 0)
        for session in self.sessions.values():
            counts[session.state] += 1
        return counts

    # -- observing ---------------------------------------------------------------------------

    def observe(
        self, dispatch: int, outcomes: Iterable[types.Outcome], now: float
    ) -> list[Emission]:
        """Takes in a completed slice. Dispatches are observed in order."""
        self.memory.device.complete_dispatch(dispatch)
        flying = {session.id: (session, epoch) for session, epoch in self._flying.pop(dispatch)}
        emissions = []
        for outcome in outcomes:
            session, epoch = flying[outcome.session]
            session.flights -= 1
            self.counters.overrun_tokens += outcome.overrun
            if session.state is types.State.ENDED:  # aborted while the slice ran
                self.counters.overrun_tokens += len(outcome.tokens)
                continue
            emissions.append(self._take(session, epoch, outcome, now))
        return emissions

    def copied(self, completion: types.Completion, now: float) -> None:
        """Takes in a completed copy: arrivals run, departures are away, failures recompute."""
        failed = completion.error is not None
        self.counters.copy_errors += failed
        for arrived in self.memory.finish(completion.ticket, ok=not failed):
            session = self.sessions[arrived.session]
            if failed and session.state in (
                types.State.LEAVING,
                types.State.AWAY,
                types.State.ARRIVING,
            ):
                self._lose(session, now)
            elif session.state is types.State.LEAVING:
                self._settle_away(session)
            elif session.state is types.State.ARRIVING and not self.memory.is_arriving(session):
                session.state = types.State.RUNNING
                if session.parked:
                    self._pause(session)

    def lose_all(self, now: float) -> None:
        """The pool was rebuilt: every session with state on the device, or in flight, recomputes."""
        for dispatch in sorted(self._flying):
            for session, _ in self._flying.pop(dispatch):
                session.flights = 0
                session.planned_known = session.known
            self.memory.device.complete_dispatch(dispatch)
        self._lane_state.clear()
        for session in list(self.sessions.values()):
            on_device = session.state not in (types.State.WAITING, types.State.AWAY)
            if on_device or session.planned_cached != session.cached:
                self._lose(session, now)

    def check_integrity(self) -> None:
        """Lanes, queue, states and memory agree. Raises InternalError with the first violation."""
        self.memory.check_integrity()
        lanes = sorted([*self._free_lanes, *self._running])
        if lanes != list(range(self.settings.lanes)):
            raise errors.InternalError(f"lanes {lanes} are not each free or held once")
        for session in self.sessions.values():
            _check_session(session, in_queue=session in self._queue, running=self._running)

    # -- deciding, in call order -------------------------------------------------------------

    def _steps(self) -> int:
        """Many when the set is stable and nobody waits; few when somebody does."""
        contended = bool(self._queue) or any(s.prefill_left for s in self._running.values())
        most = self.settings.steps_max
        return min(most, self.settings.steps_contended) if contended else most

    def _retire_finishing(self) -> None:
        """Sessions whose last step is in flight need their lane no more."""
        for session in list(self._running.values()):
            if session.state is types.State.RUNNING and session.steps_left <= 0:
                self._give_up_lane(session)

    def _runnable(self) -> list[types.Session]:
        """RUNNING sessions in the policy's order."""
        running = [s for s in self._running.values() if s.state is types.State.RUNNING]
        return sorted(running, key=self.policy.key)

    def _keep_room_for_growth(self, slice_: _Slice, now: float) -> None:
        """Running sessions continue first: if they would run out of pages, some make room.

        Looks one slice ahead, because a victim's pages turn FREE only when
        the slice in flight has completed.
        """
        running = self._runnable()
        self._reserve_growth(slice_, running)
        while slice_.available + slice_.incoming < 0 and len(running) + len(self._paused) > 1:
            victim = self._growth_victim(running)
            if victim.lane >= 0:
                running.remove(victim)
                slice_.available += self._growth(victim, slice_)
            slice_.incoming += self.memory.held(victim)
            self._evict(victim, slice_, now)

    def _growth_victim(self, running: Sequence[types.Session]) -> types.Session:
        """PAUSED before running, the last in the policy's order; if that would recompute, the latest.

        Recomputing charges for work that is lost, so victims chosen by
        service could take turns for ever; the oldest must stay. So must the last that runs:
        nobody would get on if it left and came back, the first in order, again and again.
        """
        leaving = reversed(running) if len(running) > 1 else ()
        candidates = [*self._paused_last_first(), *leaving]
        first = next((s for s in candidates if not s.fragile), candidates[0])
        if self._pages_out_now(first, self.memory.slots_free) and not first.fragile:
            return first
        return max(candidates, key=lambda session: session.id)

    def _pages_out_now(self, session: types.Session, slots_free: int) -> bool:
        """True when leaving would not mean to recompute."""
        wanted = self.memory.slots_wanted(session, units=session.planned_cached)
        return self.policy.pages_out and wanted <= slots_free

    def _reserve_growth(self, slice_: _Slice, running: Sequence[types.Session]) -> None:
        growth = sum(self._growth(session, slice_) for session in running)
        device = self.memory.device
        slice_.available = device.free_count - growth
        slice_.incoming = device.pending_count + sum(self.memory.held(s) for s in self._finishing())

    def _finishing(self) -> list[types.Session]:
        """Sessions that end with a slice in flight: they gave up their lanes already."""
        flights = self._flying.values()
        return [
            s
            for flight in flights
            for s, _ in flight
            if s.lane < 0 and s.state is types.State.RUNNING
        ]

    def _growth(self, session: types.Session, slice_: _Slice) -> int:
        """Pages it will want for this slice and the next."""
        if session.prefill_left:
            more = min(session.prefill_left, 2 * self.settings.chunk_units)
        else:
            more = min(session.steps_left, 2 * slice_.steps)
        units = session.planned_cached + more
        return max(0, self.memory.pages_for(session, units) - self.memory.held(session))

    def _admit(self, slice_: _Slice, now: float, *, displace: bool) -> None:
        """Walks the queue in the policy's order; see `Policy` for what it may do."""
        blocked: list[types.Session] = []
        slice_.prefilling = [s for s in self._running.values() if s.prefill_left]
        for session in list(itertools.islice(self._queue, self.settings.looks_max)):
            waiting = session.state is types.State.WAITING
            if session.flights:  # its last known unit is not on the host yet
                if not self.policy.backfills:
                    return
                continue
            need = self._admission_pages(session, slice_)
            if self._free_lanes and need <= slice_.available:
                if waiting and not (displace and self._has_rows(session, slice_)):
                    slice_.available -= need  # kept for it: it joins at the next decision
                    if not self.policy.backfills:
                        return
                    continue
                self._join(session, slice_, now)
                slice_.available -= need
                for earlier in blocked:
                    earlier.passed_over += 1
                continue
            if self._make_room(session, need, slice_, now, displace=displace):
                continue
            if not self.policy.backfills or session.passed_over >= self.settings.passes_max:
                return
            blocked.append(session)

    def _has_rows(self, session: types.Session, slice_: _Slice) -> bool:
        """True when prefill rows are left for it after those who get them first."""
        if not session.prefill_left:
            return True
        key = self.policy.prefill_key(session)
        before = (s.prefill_left for s in slice_.prefilling if self.policy.prefill_key(s) < key)
        return sum(before) < self._rows_max

    def _admission_pages(self, session: types.Session, slice_: _Slice) -> int:
        """Pages that must be FREE before the session joins."""
        request = session.request
        if self.policy.reserves_output:
            units = request.prompt_units + request.steps_max - 1
            return self.memory.pages_for(session, units) - self.memory.held(session)
        if session.state is types.State.WAITING:
            rows = min(session.prefill_left, self.settings.chunk_units) or 1
            return self.memory.pages_for(session, rows)
        units = session.planned_cached + min(session.steps_left, slice_.steps)
        return self.memory.pages_for(session, units) - self.memory.held(session)

    def _make_room(
        self, session: types.Session, need: int, slice_: _Slice, now: float, *, displace: bool
    ) -> bool:
        """True when the pages (and a lane) for `session` are on their way, with or without victims."""
        short = need - max(slice_.available, 0) - slice_.incoming
        victims: list[types.Session] = []
        if short > 0 or not self._free_lanes:
            if not displace:
                return False
            victims = self._victims(session, short)
            if not victims:
                return False
        for victim in victims:
            slice_.incoming += self.memory.held(victim)
            if short > 0:
                self._evict(victim, slice_, now)
            else:
                slice_.incoming -= self.memory.held(victim)
                self._pause(victim)
                self._enter_queue(victim)
        if need <= slice_.available and self._free_lanes and self._has_rows(session, slice_):
            self._join(session, slice_, now)  # it lacked a lane only
            slice_.available -= need
            return True
        slice_.incoming -= max(0, need - max(slice_.available, 0))
        slice_.available = 0
        return True

    def _victims(self, waiting: types.Session, short: int) -> list[types.Session]:
        """Most-served sessions whose pages cover `short`, or a lane's holder; empty when they cannot."""
        chosen: list[types.Session] = []
        wants_lane = not self._free_lanes
        slots_free = self.memory.slots_free
        busy = bool(self._running or self._flying)
        for victim in [*self._paused_last_first(), *reversed(self._runnable())]:
            if short <= 0 and not (wants_lane and not chosen):
                break
            if victim is waiting or not self._may_displace(waiting, victim):
                continue
            if short <= 0 and victim.lane < 0:
                continue
            # One that would lose its state keeps it until it has gained something, or two
            # sessions could take turns at the same prefill for ever; unless nobody else gets on.
            gained = victim.planned_known > victim.known_at_join
            pages_out = self._pages_out_now(victim, slots_free)
            if busy and not gained and (victim.fragile or not pages_out):
                continue
            if short > 0:
                slots_free -= self.memory.slots_wanted(victim, units=victim.planned_cached)
            chosen.append(victim)
            short -= self.memory.held(victim)
        return chosen if short <= 0 else []

    def _may_displace(self, waiting: types.Session, victim: types.Session) -> bool:
        if victim.state is types.State.PAUSED:
            return victim.parked or self.policy.key(waiting) < self.policy.key(victim)
        return self.policy.may_displace(waiting, victim)

    def _paused_last_first(self) -> list[types.Session]:
        """PAUSED sessions, parked ones first, then the last in order."""
        return sorted(
            self._paused.values(), key=lambda s: (s.parked, self.policy.key(s)), reverse=True
        )

    # -- transitions -------------------------------------------------------------------------

    def _join(self, session: types.Session, slice_: _Slice, now: float) -> None:
        """WAITING, PAUSED -> RUNNING; AWAY -> ARRIVING. It gets a lane."""
        self._leave_queue(session)
        self._paused.pop(session.id, None)
        session.lane = heapq.heappop(self._free_lanes)
        session.served = 0.0
        session.passed_over = 0
        session.vtime_at_join = session.vtime
        session.known_at_join = session.planned_known
        self._running[session.lane] = session
        if session.state is types.State.AWAY:
            slice_.copies += self.memory.arrive(session)
            session.state = types.State.ARRIVING
            self.log.add(now, "arrive", session.id, self.memory.held(session))
            return
        if session.state is types.State.WAITING:
            if self.policy.reserves_output:
                request = session.request
                self.memory.grow(
                    session,
                    self.memory.pages_for(session, request.prompt_units + request.steps_max - 1),
                )
            else:
                self.memory.grow(session, self._admission_pages(session, slice_))
            slice_.joined.add(session.id)
            slice_.prefilling.append(session)
        session.state = types.State.RUNNING
        self.log.add(now, "join", session.id)

    def _pause(self, session: types.Session) -> None:
        """RUNNING -> PAUSED: loses its lane, keeps its pages."""
        self._give_up_lane(session)
        session.state = types.State.PAUSED
        self._paused[session.id] = session

    def _evict(self, victim: types.Session, slice_: _Slice, now: float) -> None:
        """RUNNING, PAUSED -> LEAVING, or -> WAITING when it must recompute."""
        self.counters.preemptions += 1
        victim.preemptions += 1
        self._leave_queue(victim)
        self._give_up_lane(victim)
        self._paused.pop(victim.id, None)
        copies = None
        if self.policy.pages_out and victim.planned_cached:
            copies = self.memory.leave(
                victim, units=victim.planned_cached, last_dispatch=victim.last_dispatch
            )
        if copies is None:
            self._lose(victim, now)
            return
        slice_.copies += copies
        victim.state = types.State.LEAVING
        self.log.add(now, "leave", victim.id, sum(len(c.moves) for c in copies))
        if not copies:
            self._settle_away(victim)

    def _settle_away(self, session: types.Session) -> None:
        """LEAVING -> AWAY once its copies are complete and its last slice was observed."""
        if session.flights or not self.memory.is_whole_away(session):
            return
        session.state = types.State.AWAY
        if not session.parked:
            self._enter_queue(session)

    def _lose(self, session: types.Session, now: float) -> None:
        """Any -> WAITING: its state is given up, it recomputes from its known units."""
        self._leave_queue(session)
        self._give_up_lane(session)
        self._paused.pop(session.id, None)
        self.counters.recomputed_tokens += session.planned_cached
        self.log.add(now, "recompute", session.id, session.planned_cached)
        self.memory.drop(session, last_dispatch=session.last_dispatch)
        session.epoch += 1
        session.fragile = True
        session.cached = session.planned_cached = 0
        session.state = types.State.WAITING
        if not session.parked:
            self._enter_queue(session)

    def _enter_queue(self, session: types.Session) -> None:
        if session not in self._queue:
            self._queue.add(session)

    def _leave_queue(self, session: types.Session) -> None:
        self._queue.discard(session)

    def _give_up_lane(self, session: types.Session) -> None:
        if session.lane >= 0:
            del self._running[session.lane]
            self._lane_state.pop(session.lane, None)
            heapq.heappush(self._free_lanes, session.lane)
            session.lane = -1

    # -- shaping the slice -------------------------------------------------------------------

    def _plan_lanes(self, slice_: _Slice) -> list[types.LanePlan]:
        """One plan for each RUNNING session that can do something with the pages there are.

        Rows go in the policy's order of prefill. Pages go in its order of
        running: the first always gets what there is, so it always gets on.
        """
        running = self._runnable()
        rows_left = self._rows_max
        rows: dict[int, int] = {}
        for session in sorted((s for s in running if s.prefill_left), key=self.policy.prefill_key):
            rows[session.id] = min(session.prefill_left, rows_left)
            rows_left -= rows[session.id]
        plans = []
        for session in running:
            prefill, steps = rows.get(session.id, 0), 0
            if prefill == session.prefill_left:
                steps = min(slice_.steps, session.steps_left - bool(prefill))
            prefill, steps = self._fit(session, prefill, steps, slice_)
            if prefill or steps:
                plans.append(self._plan_lane(session, prefill, steps))
        return plans

    def _fit(
        self, session: types.Session, prefill: int, steps: int, slice_: _Slice
    ) -> tuple[int, int]:
        """Cuts the plan to the pages it holds and those FREE, and takes them.

        One that joined in this very decision makes do with what it was admitted for.
        """
        memory = self.memory
        units = session.planned_cached + prefill + steps
        room = memory.held(session)
        if session.id not in slice_.joined:
            room += memory.device.free_count
        if memory.pages_for(session, units) > room:
            low = session.planned_cached
            while low < units:  # the most units that fit: pages_for never shrinks
                middle = (low + units + 1) // 2
                if memory.pages_for(session, middle) <= room:
                    low = middle
                else:
                    units = middle - 1
            done = units - session.planned_cached
            prefill, steps = min(prefill, done), max(0, done - prefill)
        memory.grow(session, memory.pages_for(session, session.planned_cached + prefill + steps))
        return prefill, steps

    def _plan_lane(self, session: types.Session, prefill: int, steps: int) -> types.LanePlan:
        on_device = (session.id, session.epoch)
        joins = self._lane_state.get(session.lane) != on_device
        self._lane_state[session.lane] = on_device
        return types.LanePlan(
            session.lane,
            session,
            self.memory.table(session),
            session.planned_cached,
            prefill,
            steps,
            joins,
        )

    def _count_planned(self, batch: types.Batch) -> None:
        flight = []
        for plan in batch.lanes:
            session = plan.session
            completes = plan.prefill and plan.prefill == session.prefill_left
            session.planned_cached += plan.prefill + plan.steps
            session.planned_known += plan.steps + bool(completes)
            session.flights += 1
            session.last_dispatch = self._dispatch
            self.policy.charge(session, plan.prefill, plan.steps)
            flight.append((session, session.epoch))
        self._flying[self._dispatch] = flight

    def _copy_early(self, slice_: _Slice) -> None:
        """Full pages of likely victims leave early, while no other copy wants the link."""
        budget = self.settings.early_pages
        if not budget or not self.policy.pages_out or not self._queue or not self.memory.tiers:
            return
        if slice_.copies or self.memory.copies_in_flight:
            return
        for session in reversed(self._runnable()):
            copies = self.memory.copy_early(session, pages_max=budget)
            slice_.copies += copies
            budget -= sum(len(copy.moves) for copy in copies)
            if budget <= 0:
                return

    def _take(
        self, session: types.Session, epoch: int, outcome: types.Outcome, now: float
    ) -> Emission:
        session.emitted.extend(outcome.tokens)
        session.service += self.policy.service(outcome.prefill_units, outcome.step_units)
        if outcome.tokens:
            session.fragile = False
        if epoch == session.epoch:
            session.cached += outcome.prefill_units + outcome.step_units
        if outcome.finished:
            self.end(session, outcome.finished, now)
        elif session.state is types.State.LEAVING:
            self._settle_away(session)
        return Emission(session, outcome.tokens, outcome.finished)

    def _least_vtime(self) -> float:
        """The least virtual time among the living; 0 when there are none."""
        least = [s.vtime for s in self._running.values()]
        if self._queue:
            least.append(self._queue[0].vtime)  # pyright: ignore
        return min(least, default=0.0)


def _check_session(
    session: types.Session, *, in_queue: bool, running: dict[int, types.Session]
) -> None:
    state = session.state
    queued = state in (types.State.WAITING, types.State.AWAY, types.State.PAUSED)
    if in_queue != (queued and not session.parked):
        raise errors.InternalError(
            f"session {session.id} is {state.value}, in the queue: {in_queue}"
        )
    if session.lane >= 0 and running.get(session.lane) is not session:
        raise errors.InternalError(f"session {session.id} believes it holds lane {session.lane}")
    if state is types.State.ARRIVING and session.lane < 0:
        raise errors.InternalError(f"session {session.id} is arriving without a lane")
    if session.flights == 0 and session.planned_cached != session.cached:
        raise errors.InternalError(
            f"session {session.id} has {session.cached} cached units, {session.planned_cached} planned"
        )
