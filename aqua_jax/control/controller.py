"""The time-slice controller: who runs next, for how long, and which pages move.

Knows: policy, stage, admission, shape of a slice, each in its own file. Does
not know: tokens' meaning, clocks that wait, tickets of dispatches, jax.
`decide` plans one slice and the copies around it; `observe` and `copied` take
in what happened. What is decided counts at once in `planned_*`, so slice k+1
can be decided before the outcomes of slice k are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aqua_jax.control import (
    admission,
    copying,
    errors,
    homes,
    residency,
    shedding,
    slices,
    stage,
    trace,
    types,
)
from aqua_jax.control.policies import base

_ENDED, _LEAVING = types.State.ENDED, types.State.LEAVING

ControllerSettings = slices.ControllerSettings

_OUTS_FAILED_MAX = 8  # copies out failed in a row before one that sheds does so no more
_LIKELY_VICTIM = 0.5  # of its quantum used: worth copying out ahead


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """One slice. `copies` go before `batch` is dispatched; `batch` None: nothing can run.

    evicted: sessions that made room; with no batch it is worth deciding again at once.
    """

    batch: types.Batch | None
    dispatch: int
    copies: tuple[copying.Copy, ...]
    evicted: int


class Emission(NamedTuple):
    """What an observed slice gave one session. `finished` is "" or why it ended."""

    session: types.Session
    tokens: Sequence[Any]
    finished: str


class Controller:
    """Composes policy, residency and lanes of one runner. Not thread-safe."""

    def __init__(
        self,
        settings: slices.ControllerSettings,
        policy: base.Policy,
        memory: residency.Residency,
        *,
        log: trace.EventLog | None = None,
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.memory = memory
        self._stage = stage.Stage(settings.lanes, policy, memory, log or trace.EventLog())
        self._shaper = slices.Shaper(settings, self._stage)
        self._shedder = shedding.Shedder(self._stage, self._shaper)
        self._admission = admission.Admission(settings, self._stage, self._shaper, self._shedder)
        self.homes = homes.Homes(self._stage, pages_max=settings.relocate_pages)
        self._flying: dict[int, dict[int, homes.Flight]] = {}  # dispatch -> its sessions by id
        self._dispatch = 0

    @property
    def sessions(self) -> dict[int, types.Session]:
        """The living sessions by id."""
        return self._stage.sessions

    @property
    def counters(self) -> stage.Counters:
        """Sums since the beginning."""
        return self._stage.counters

    @property
    def log(self) -> trace.EventLog:
        """What happened, latest last."""
        return self._stage.log

    # -- sessions come and go ----------------------------------------------------------------

    def check_fits(self, request: types.Request) -> None:
        """Raises RequestError for a request that no schedule can run."""
        memory = self.memory
        units = request.prompt_units + request.steps_max - 1
        need = memory.request_pages(request, units)
        capacity = memory.device.capacity_most
        if need > capacity + (memory.slots.fixed_capacity if memory.attending.is_on else 0):
            tiers = ", ".join(f"{t.name} {t.slots.capacity}" for t in memory.tiers) or "none"
            rule = (
                "a session must fit into both together: shorten it or raise memory.pool_pages or a"
                " tier's bytes"
                if memory.attending.is_on
                else "a session must be whole on the device to run: shorten it, raise"
                " memory.pool_pages, or set memory.attend_away"
            )
            raise errors.RequestError(
                f"a request of {request.prompt_units} prompt units and up to"
                f" {request.steps_max} more needs {need} pages; the pool has {capacity} (tiers:"
                f" {tiers}) and {rule}"
            )

    def submit(self, session: types.Session, now: float) -> None:
        """A new session: WAITING. Raises QueueFullError beyond `sessions_max`."""
        if len(self.sessions) >= self.settings.sessions_max:
            raise errors.QueueFullError(
                f"{len(self.sessions)} sessions are living, the limit sessions_max: retry later"
            )
        session.planned_known = session.known
        session.sheds = self._may_shed(session)
        self._stage.enter(session)
        self.log.add(now, "submit", session.id)

    def end(self, session: types.Session, reason: str, now: float) -> None:
        """Ends a session wherever it stands; its pages follow their tickets (invariant 1)."""
        self._stage.end(session, reason, now)

    def park(self, session: types.Session) -> None:
        """Its client does not read: it is scheduled no more until `unpark`."""
        session.parked = True
        self._stage.leave_queue(session)
        if session.state is types.State.RUNNING and session.lane >= 0:
            self._stage.pause(session)

    def unpark(self, session: types.Session) -> None:
        """Its client reads again."""
        session.parked = False
        self._stage.enter_queue(session)

    # -- deciding ----------------------------------------------------------------------------

    def decide(self, now: float) -> Decision:
        """Plans the next slice and the copies around it. Everything planned counts at once."""
        self.counters.decisions += 1
        preempted = self.counters.preemptions
        self._retire_finishing()
        slice_ = self._shaper.begin()
        self._admission.keep_room_for_growth(slice_, self._finishing(), now)
        self._admission.walk(slice_, now, displace=True)
        self._shedder.shed(slice_)
        plans = self._shaper.plan(slice_)
        sheds = slice_.shed and slice_.copies  # copies not begun: nobody of them may leave
        if slice_.waits and not (plans or sheds):  # whoever it is that computes cannot run
            slice_.patient = False
            self._admission.walk(slice_, now, displace=True)
            plans = self._shaper.plan(slice_)
        self._copy_early(slice_)
        batch, made_room = None, self.counters.preemptions > preempted
        if plans:
            self._dispatch += 1
            batch = types.Batch(tuple(plans), max(plan.steps for plan in plans))
            self._count_planned(batch)
        elif not (made_room or slice_.copies or self.memory.copies_in_flight or self._flying):
            self._shedder.free_slots(now)
        return Decision(
            batch=batch,
            dispatch=self._dispatch,
            copies=tuple(copying.merge(slice_.copies)),
            evicted=self.counters.preemptions - preempted,
        )

    def bring_back(self, now: float) -> tuple[copying.Copy, ...]:
        """Copies for sessions that can come back into pages FREE now, between decisions."""
        if not (self.policy.pages_out and self._stage.has_lane and self._stage.queue.states):
            return ()
        slice_ = self._shaper.begin()
        self._admission.count_pages(slice_, self._stage.runnable(), self._finishing())
        if not self._admission.may_bring_back(slice_):
            return ()
        self._admission.walk(slice_, now, displace=False)
        return tuple(copying.merge(slice_.copies))

    @property
    def waits_for_copies(self) -> bool:
        """True while some session is held up by a copy and by nothing else."""
        held_up = any(
            session.state is types.State.ARRIVING or self.memory.attending.leaving(session)
            for session in self._stage.running.values()
        )
        return held_up or bool(self.memory.waits_in_flight and self._stage.queue)

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
        self.memory.complete_dispatch(dispatch)
        flying, overrun_tokens = self._flying.pop(dispatch), 0
        emissions, shares = [], self.memory.sharing.is_on
        for outcome in outcomes:
            id, tokens, finished, prefill_units, step_units, overrun = outcome
            session, epoch, _ = flying[id]
            session.flights -= 1
            overrun_tokens += overrun
            if session.state is _ENDED:  # aborted while the slice ran
                overrun_tokens += len(tokens)
                continue
            if dispatch <= session.void_until:
                self.homes.drop_outcome(session)
                continue
            session.service += self.policy.service(prefill_units, step_units)
            if epoch == session.epoch:
                session.cached += prefill_units + step_units
            if tokens:
                if session.first_emitted_at is None:
                    session.first_emitted_at = now
                session.emitted.extend(tokens)
                session.fragile = False
            if shares and epoch == session.epoch:
                self.memory.sharing.register(session, session.cached)
            if finished:
                self.end(session, finished, now)
            elif session.state is _LEAVING:
                self._stage.settle_away(session)
            emissions.append(Emission(session, tokens, finished))
        self.counters.overrun_tokens += overrun_tokens
        return emissions

    def copied(self, completion: types.Completion, now: float) -> list[types.Session]:
        """Takes in a completed copy: arrivals run, departures are away, failures recompute.

        Returns sessions larger than the pool whose copies out fail again and again: no schedule
        can run them. The caller ends them.
        """
        given_up = []
        error = completion.error is not None
        self.counters.copy_errors += error
        for arrived in self.memory.finish(completion.ticket, ok=not error):
            session, failed = self.sessions[arrived.session], not arrived.ok
            if arrived.direction == "move":
                self.memory.settle_moves(session)
            elif failed and session.state in (
                types.State.LEAVING,
                types.State.AWAY,
                types.State.ARRIVING,
            ):
                self._stage.lose(session, now)
            elif session.state is types.State.LEAVING:
                self._stage.settle_away(session)
            elif session.state is types.State.ARRIVING and not self.memory.is_arriving(session):
                self._stage.arrived(session)
            elif session.sheds:
                self.memory.attending.settle(session)
            if session.sheds and arrived.direction == "out":
                session.outs_failed = session.outs_failed + 1 if failed else 0
                if session.outs_failed >= _OUTS_FAILED_MAX:
                    self._stop_shedding(session, given_up, now)
        return given_up

    def void(self, space: int, now: float) -> None:
        """A grant is lost: clean copies vanish, who had pages only there recomputes."""
        flights = [flight for flying in self._flying.values() for flight in flying.values()]
        self.homes.void(space, flights, now)

    def lose_all(self, now: float) -> None:
        """Pool and arenas were rebuilt: every session that had state recomputes."""
        self.memory.sharing.index.void()
        for dispatch in sorted(self._flying):
            for session, _, _ in self._flying.pop(dispatch).values():
                session.flights = 0
                session.planned_known = session.known
            self.memory.complete_dispatch(dispatch)
        self._stage.forget_lanes()
        for session in list(self.sessions.values()):
            if session.state is not types.State.WAITING or session.planned_cached:
                self._stage.lose(session, now)

    def check_integrity(self) -> None:
        """Lanes, queue, states and memory agree. Raises InternalError with the first violation."""
        self.memory.check_integrity(list(self.sessions.values()))
        self._stage.check_integrity()

    # -- helpers, in call order --------------------------------------------------------------

    def _may_shed(self, session: types.Session) -> bool:
        attending = self.memory.attending
        return attending.is_for_all or (attending.is_on and self.memory.outgrows(session.request))

    def _stop_shedding(
        self, session: types.Session, given_up: list[types.Session], now: float
    ) -> None:
        """Its copies out fail and fail: if the pool can hold it whole, it begins again there."""
        if self.memory.outgrows(session.request):
            given_up.append(session)
        elif session.sheds:
            session.sheds = False
            self._stage.lose(session, now)

    def _retire_finishing(self) -> None:
        """Sessions whose last step is in flight need their lane no more."""
        finishing = [s for s in self._stage.runnable() if s.planned_known >= s.units_end]
        for session in finishing:
            self._stage.give_up_lane(session)

    def _finishing(self) -> list[types.Session]:
        """Sessions that end with a slice in flight: they gave up their lanes already."""
        return [
            session
            for flight in self._flying.values()
            for session, _, _ in flight.values()
            if session.lane < 0 and session.state is types.State.RUNNING
        ]

    def _copy_early(self, slice_: slices.Slice) -> None:
        """Full pages of likely victims leave early, while no other copy wants the link."""
        budget = self.settings.early_pages
        wanted = self.policy.pages_out and self._stage.queue and self.memory.tiers
        if not wanted or slice_.copies or self.memory.copies_in_flight:
            return
        for session in reversed(self._stage.runnable()):
            if budget <= 0:
                return
            if not session.prefill_left and self.policy.quantum_used(session) >= _LIKELY_VICTIM:
                copies = self.memory.copy_early(session, pages_max=budget)
                slice_.copies += copies
                budget -= sum(len(copy.moves) for copy in copies)

    def _count_planned(self, batch: types.Batch) -> None:
        dispatch, charge = self._dispatch, self.policy.charge
        flight = self._flying[dispatch] = {}
        for _, session, pages, _, prefill, steps, _ in batch.lanes:
            flight[session.id] = homes.Flight(session, session.epoch, pages)
            session.flights += 1
            session.last_dispatch = dispatch
            if prefill and prefill == session.prefill_left:
                session.planned_known += 1  # the last row emits one
                session.fresh = False
                charge(session, prefill, 0)
                session.served = 0.0  # its prefill quantum is over, the quantum for steps begins
                charge(session, 0, steps)
            else:
                charge(session, prefill, steps)
                if steps:  # where one row was left of the prompt, a step gives the first token
                    session.fresh = False
            session.planned_cached += prefill + steps
            session.planned_known += steps
            if prefill:
                self.counters.prefill_tokens += prefill
                self.memory.sharing.register(session, session.planned_cached)
        self._stage.reorder()
