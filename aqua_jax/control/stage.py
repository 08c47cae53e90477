"""Where every session stands, and the only functions that change it.

Knows: the queue, lanes, pages given up and taken back. Does not know: who
ought to run (`admission.py`), what a slice does (`slices.py`).

The state of a session, each transition beside the function that makes it:

                  join                  pause
    WAITING ---------------> RUNNING --------> PAUSED --join--> RUNNING
       ^                      |    ^              |
       |                 evict|    |arrived       |evict
       |lose                  v    |              v
       +---- LEAVING <--------+  ARRIVING      LEAVING
       |        | settle_away      ^
       |        v                  |
       +------ AWAY ------join-----+            any ---end--> ENDED

A WAITING session that reuses pages which are away joins as ARRIVING.

Who waits for the device (WAITING, AWAY, PAUSED) is in the queue, in the
policy's order, unless its client does not read (`parked`).
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
from collections.abc import Sequence

from aqua_jax.control import copying, errors, queue, residency, trace, types
from aqua_jax.control.policies import base

_QUEUED = (types.State.WAITING, types.State.AWAY, types.State.PAUSED)


@dataclasses.dataclass(slots=True)
class Counters:
    """Sums over the controller's life; units as the names say."""

    preemptions: int = 0
    recomputed_tokens: int = 0
    overrun_tokens: int = 0
    copy_errors: int = 0
    homes_lost: int = 0  # sessions that recompute because their pages had no home any more
    decisions: int = 0
    prefix_query_tokens: int = 0  # known units of sessions without state that joined
    prefix_hit_tokens: int = 0  # those of them whose pages were there
    prefill_tokens: int = 0  # computed by prefill programs


class Stage:
    """Sessions, queue and lanes of one controller. Not thread-safe.

    queue: WAITING, AWAY and PAUSED sessions in the policy's order. running:
    lane -> session, ARRIVING ones included. paused: id -> session.
    """

    def __init__(
        self, lanes: int, policy: base.Policy, memory: residency.Residency, log: trace.EventLog
    ) -> None:
        self.policy = policy
        self.memory = memory
        self.log = log
        self.counters = Counters()
        self.sessions: dict[int, types.Session] = {}
        self.queue = queue.Queue(policy)
        self.running: dict[int, types.Session] = {}
        self.paused: dict[int, types.Session] = {}
        self._lanes = lanes
        self._free_lanes = list(range(lanes))
        self._order: list[types.Session] | None = None  # of the runnable; None: to be made

    # -- reading -----------------------------------------------------------------------------

    @property
    def has_lane(self) -> bool:
        """True when a lane is free."""
        return bool(self._free_lanes)

    @property
    def lanes_free(self) -> int:
        """Lanes that nobody holds."""
        return len(self._free_lanes)

    def runnable(self) -> Sequence[types.Session]:
        """RUNNING sessions with a lane, in the policy's order. Later changes make a new list.

        Sorted once for a decision: who comes and goes in it is put in and taken out.
        """
        if self._order is None:
            self._order = self._sorted()
        return self._order

    def reorder(self) -> None:
        """The keys of running sessions have changed."""
        self._order = None

    def paused_last_first(self) -> list[types.Session]:
        """PAUSED sessions: parked ones first, then the last in the policy's order."""
        if not self.paused:
            return []
        return sorted(
            self.paused.values(), key=lambda s: (s.parked, self.policy.key(s)), reverse=True
        )

    def least_vtime(self, newcomer: types.Session) -> float:
        """The least virtual time among the living of its group; 0 when there are none."""
        groups = self.policy.groups
        group = groups and groups.of(newcomer)
        least = [
            session.vtime
            for session in self.running.values()
            if groups is None or groups.of(session) == group
        ]
        least += [session.vtime for session in self.queue.heads(newcomer)]
        return min(least, default=0.0)

    # -- transitions -------------------------------------------------------------------------

    def enter(self, session: types.Session) -> None:
        """A newcomer -> WAITING."""
        self.policy.arrive(session, self.least_vtime(session))
        self.sessions[session.id] = session
        self.queue.add(session)

    def join(self, session: types.Session, pages: int, now: float) -> list[copying.Copy]:
        """WAITING, PAUSED -> RUNNING with `pages` FREE pages; -> ARRIVING, by copies returned.

        AWAY arrives, and WAITING where it reuses pages that are away.
        """
        self.leave_queue(session)
        self.paused.pop(session.id, None)
        session.lane = heapq.heappop(self._free_lanes)
        self.running[session.lane] = session
        session.joins = True
        session.served, session.passed_over, session.waits = 0.0, 0, 0
        session.vtime_at_join = session.vtime
        session.known_at_join = session.planned_known
        if session.state is types.State.AWAY:
            copies = self.memory.arrive(session)
            session.state = types.State.ARRIVING
            self.log.add(now, "arrive", session.id, self.memory.held(session))
            if not (copies or self.memory.is_arriving(session)):  # all are attended or shared
                self.arrived(session)
            return copies
        if session.state is types.State.WAITING:
            copies = self._begin(session, pages, now)
            if self.memory.is_arriving(session) or copies:
                session.state = types.State.ARRIVING
                return copies
        self._run(session)
        self.log.add(now, "join", session.id)
        return []

    def arrived(self, session: types.Session) -> None:
        """ARRIVING -> RUNNING."""
        self._run(session)
        if session.parked:
            self.pause(session)

    def pause(self, session: types.Session) -> None:
        """RUNNING -> PAUSED: loses its lane, keeps its pages."""
        self.give_up_lane(session)
        session.state = types.State.PAUSED
        self.paused[session.id] = session
        self.enter_queue(session)

    def evict(self, victim: types.Session, now: float) -> list[copying.Copy]:
        """RUNNING, PAUSED -> LEAVING by copies returned, or -> WAITING when it must recompute."""
        self.counters.preemptions += 1
        victim.preemptions += 1
        self._withdraw(victim)
        copies = None
        if self.policy.pages_out and victim.planned_cached:
            copies = self.memory.leave(
                victim, units=victim.planned_cached, last_dispatch=victim.last_dispatch
            )
        if copies is None:
            self.lose(victim, now)
            return []
        victim.state = types.State.LEAVING
        self.log.add(now, "leave", victim.id, sum(len(copy.moves) for copy in copies))
        if not copies:
            self.settle_away(victim)
        return copies

    def settle_away(self, session: types.Session) -> None:
        """LEAVING -> AWAY once its copies are complete and its last slice was observed."""
        if session.flights or not self.memory.is_whole_away(session):
            return
        session.state = types.State.AWAY
        self.enter_queue(session)

    def lose(self, session: types.Session, now: float) -> None:
        """Any -> WAITING: its state is given up, it recomputes from its known units."""
        self._withdraw(session)
        self.counters.recomputed_tokens += session.planned_cached
        self.log.add(now, "recompute", session.id, session.planned_cached)
        self.memory.drop(session, last_dispatch=session.last_dispatch)
        session.epoch += 1
        session.fragile = True
        session.fresh = False  # a place ahead that lost work does not cost could be had for ever
        session.cached = session.planned_cached = 0
        session.state = types.State.WAITING
        self.enter_queue(session)

    def give_way(self, session: types.Session, now: float) -> None:
        """Any -> WAITING: it gives up its state so that others get its pages and slots."""
        self.counters.preemptions += 1
        session.preemptions += 1
        self.lose(session, now)

    def end(self, session: types.Session, reason: str, now: float) -> None:
        """Any -> ENDED. Owners drop at once; pages follow their tickets (invariant 1)."""
        self._withdraw(session)
        self.memory.drop(session, last_dispatch=session.last_dispatch)
        session.state, session.reason = types.State.ENDED, reason
        self.policy.end(session)
        del self.sessions[session.id]
        self.log.add(now, f"end {reason}", session.id)

    # -- queue and lanes ---------------------------------------------------------------------

    def enter_queue(self, session: types.Session) -> None:
        """Puts a session that waits into the queue, unless its client does not read."""
        if not session.parked and session.state in _QUEUED and session not in self.queue:
            self.queue.add(session)

    def leave_queue(self, session: types.Session) -> None:
        """Takes a session out of the queue, if it is there. Before its key changes."""
        self.queue.discard(session)

    def give_up_lane(self, session: types.Session) -> None:
        """Its lane is free; what the device has of it there is void."""
        if session.lane >= 0:
            del self.running[session.lane]
            heapq.heappush(self._free_lanes, session.lane)
            session.lane = -1
            if self._order is not None:
                self._order = without(self._order, session)

    def forget_lanes(self) -> None:
        """The device lost its lane state: every session joins anew."""
        for session in self.running.values():
            session.joins = True

    def check_integrity(self) -> None:
        """Lanes, queue and states agree. Raises InternalError with the first violation."""
        lanes = sorted([*self._free_lanes, *self.running])
        if lanes != list(range(self._lanes)):
            raise errors.InternalError(f"lanes {lanes} are not each free or held once")
        if self._order is not None and self._order != self._sorted():
            raise errors.InternalError("the order of the running is not that of the policy")
        for session in self.sessions.values():
            _check(session, in_queue=session in self.queue, running=self.running)

    def _begin(self, session: types.Session, pages: int, now: float) -> list[copying.Copy]:
        """One without state takes `pages` FREE pages, and what can be reused."""
        copies = self.memory.begin_with(session, pages)
        if self.memory.sharing.is_on:
            self.counters.prefix_query_tokens += session.known
            self.counters.prefix_hit_tokens += session.cached
            if session.cached:
                self.log.add(now, "reuse", session.id, session.cached)
        return copies

    def _run(self, session: types.Session) -> None:
        session.state = types.State.RUNNING
        if self._order is not None:
            self._order = list(self._order)
            bisect.insort(self._order, session, key=self.policy.key)

    def _sorted(self) -> list[types.Session]:
        running = [s for s in self.running.values() if s.state is types.State.RUNNING]
        return sorted(running, key=self.policy.key)

    def _withdraw(self, session: types.Session) -> None:
        self.leave_queue(session)
        self.give_up_lane(session)
        self.paused.pop(session.id, None)


def rank(session: types.Session) -> tuple[bool, int]:
    """Who must recompute so that others get on: the last; who does not read after all who do."""
    return session.parked, session.id


def without(sessions: Sequence[types.Session], one: types.Session) -> list[types.Session]:
    """The sessions but for one."""
    return [session for session in sessions if session is not one]


def _check(session: types.Session, *, in_queue: bool, running: dict[int, types.Session]) -> None:
    state = session.state
    if in_queue != (state in _QUEUED and not session.parked):
        raise errors.InternalError(f"session {session.id} is {state.value}, queued: {in_queue}")
    if session.lane >= 0 and running.get(session.lane) is not session:
        raise errors.InternalError(f"session {session.id} believes it holds lane {session.lane}")
    if state is types.State.ARRIVING and session.lane < 0:
        raise errors.InternalError(f"session {session.id} is arriving without a lane")
    if session.flights == 0 and session.planned_cached != session.cached:
        raise errors.InternalError(
            f"session {session.id} has {session.cached} cached units,"
            f" {session.planned_cached} planned and nothing in flight"
        )
