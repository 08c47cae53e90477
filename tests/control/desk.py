"""A controller run by hand: slices and copies complete when the test says so.

Knows: the controller's public methods, pages of `page_units` units. Does not
know: clocks, engine, tokens; every token is 0.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable
from typing import Any

from aqua_jax.control import controller, copying, errors, pages, residency, spare, types
from aqua_jax.control.policies import base, registry

PAGE_UNITS = 4


def pages_needed(request: types.Request, units: int) -> int:
    """Pages of `PAGE_UNITS` units."""
    return -(-units // PAGE_UNITS)


def units_in_page(request: types.Request, index: int, units: int) -> int:
    """Units of page `index` that are final when `units` are cached."""
    return max(0, min(units - index * PAGE_UNITS, PAGE_UNITS))


def make_memory(
    pool_pages: int, tiers: dict[str, int], *, attend_away: types.AttendAway = types.AttendAway.OFF
) -> residency.Residency:
    """`pool_pages` pages that can be handed out, and slots by name of tier."""
    return residency.Residency(
        pages.PagePool(0, pool_pages + 1, reserved=1),
        [spare.Tier(name, pages.PagePool(i, tiers[name])) for i, name in enumerate(tiers, 1)],
        pages_needed=pages_needed,
        units_in_page=units_in_page,
        attend_away=attend_away,
    )


def make_request(prompt_units: int, steps_max: int, **fields: Any) -> types.Request:
    """A request of the toy kind without a payload."""
    return types.Request(prompt_units=prompt_units, steps_max=steps_max, kind="toy", **fields)


class Desk:
    """One controller; `ids` of what each slice ran, in order, are in `ran`."""

    def __init__(
        self,
        policy: str = "cfs",
        *,
        pool_pages: int = 16,
        tiers: dict[str, int] | None = None,
        quantum_tokens: int = 4,
        prefill_quantum_tokens: int = 4,
        newcomer_quantum_tokens: int = 1000,
        tenant_weights: dict[str, float] | None = None,
        attend_away: types.AttendAway = types.AttendAway.OFF,
        **settings: int,
    ) -> None:
        tiers = {"peer": 64} if tiers is None else tiers
        self.memory = make_memory(pool_pages, tiers, attend_away=attend_away)
        limits = {"lanes": 4, "chunk_units": 8, "steps_max": 4, "early_pages": 0} | settings
        self.controller = controller.Controller(
            controller.ControllerSettings(**limits),
            registry.make(
                base.PolicySettings(
                    name=policy,
                    quantum_tokens=quantum_tokens,
                    prefill_quantum_tokens=prefill_quantum_tokens,
                    newcomer_quantum_tokens=newcomer_quantum_tokens,
                    tenant_weights=tenant_weights or {},
                )
            ),
            self.memory,
        )
        self.ran: list[list[int]] = []
        self.copies: dict[int, copying.Copy] = {}
        self._flights: collections.deque[tuple[int, types.Batch, dict[int, int]]]
        self._flights = collections.deque()
        self._ids = itertools.count(1)
        self._tickets = itertools.count(1)

    def submit(self, prompt_units: int, steps_max: int, **fields: Any) -> types.Session:
        """A new session; ids count from 1."""
        session = types.Session(next(self._ids), make_request(prompt_units, steps_max, **fields), 0)
        self.controller.submit(session, 0.0)
        return session

    def decide(self) -> controller.Decision:
        """Decides one slice and submits its copies; the slice is in flight."""
        before = {id: s.planned_known for id, s in self.controller.sessions.items()}
        decision = self.controller.decide(0.0)
        self.begin(decision.copies)
        if decision.batch is not None:
            sessions = [plan.session for plan in decision.batch.lanes]
            emits = {s.id: s.planned_known - before[s.id] for s in sessions}
            self._flights.append((decision.dispatch, decision.batch, emits))
            self.ran.append([session.id for session in sessions])
        self.check()
        return decision

    def begin(self, copies: tuple[copying.Copy, ...]) -> None:
        """The copies are in flight."""
        for copy in copies:
            ticket = next(self._tickets)
            self.memory.begin(copy, ticket)
            self.copies[ticket] = copy

    def observe(self, *, stops: tuple[types.Session, ...] = ()) -> list[controller.Emission]:
        """The oldest slice in flight completes; `stops` end with it."""
        dispatch, batch, emits = self._flights.popleft()
        outcomes = [
            types.Outcome(
                plan.session.id,
                [0] * emits[plan.session.id],
                self._finish(plan.session, emits[plan.session.id], stops),
                plan.prefill,
                plan.steps,
            )
            for plan in batch.lanes
        ]
        emissions = self.controller.observe(dispatch, outcomes, 0.0)
        self.check()
        return emissions

    def land(self, *, ok: bool = True) -> None:
        """Every copy in flight completes, or fails."""
        error = None if ok else errors.MoveError("failed on purpose")
        for ticket in list(self.copies):
            del self.copies[ticket]
            self.controller.copied(types.Completion(ticket, 0, 0.0, error), 0.0)
        self.check()

    def round(self) -> list[int]:
        """One slice from decision to outcome, its copies done before; the ids that ran."""
        decision = self.decide()
        self.land()
        if self._flights:
            self.observe()
        return self.ran[-1] if decision.batch is not None else []

    def advance(self) -> list[int]:
        """One slice from decision to outcome while every copy stays in flight; the ids that ran."""
        if self.decide().batch is None:
            return []
        self.observe()
        return self.ran[-1]

    def overlap(self, *, lands: bool = True) -> None:
        """One decision while the slice before it is in flight, as an engine makes it.

        lands: copies complete one decision later; else never.
        """
        begun = list(self.copies)
        dispatched = self.decide().batch is not None
        while len(self._flights) > dispatched:
            self.observe()
        for ticket in begun if lands else ():
            del self.copies[ticket]
            self.controller.copied(types.Completion(ticket, 0, 0.0), 0.0)
        self.check()

    def rounds(self, count: int) -> list[list[int]]:
        """So many rounds."""
        return [self.round() for _ in range(count)]

    def run_until(self, done: Callable[[], bool], *, rounds_max: int = 200) -> None:
        """Rounds until `done()`."""
        for _ in range(rounds_max):
            if done():
                return
            self.round()
        raise AssertionError(
            f"not done after {rounds_max} rounds: {self.controller.count_states()}"
        )

    def run_to(self, session: types.Session, state: types.State, *, rounds_max: int = 50) -> None:
        """Rounds until the session is in `state` with nothing in flight."""
        for _ in range(rounds_max):
            if session.state is state:
                return
            self.round()
        raise AssertionError(f"session {session.id} is {session.state.value}, not {state.value}")

    def finish(self, *, rounds_max: int = 500) -> None:
        """Rounds until no session lives; then every page is FREE."""
        for _ in range(rounds_max):
            if not self.controller.sessions:
                break
            self.round()
        assert not self.controller.sessions, self.controller.count_states()
        self.settle()
        for pool in (self.memory.device, *(tier.slots for tier in self.memory.tiers)):
            assert pool.free_count == pool.capacity

    def settle(self) -> None:
        """Everything in flight completes."""
        while self._flights:
            self.observe()
        self.land()

    @property
    def in_flight(self) -> int:
        """Slices in flight."""
        return len(self._flights)

    def check(self) -> None:
        """Invariants hold."""
        self.controller.check_integrity()

    def _finish(self, session: types.Session, tokens: int, stops: tuple[types.Session, ...]) -> str:
        if session in stops:
            return "stop"
        done = len(session.emitted) + tokens >= session.request.steps_max
        return "length" if done and tokens else ""


def short_of_pages(**fields: Any) -> Desk:
    """A pool of 8 pages of 4 units, 64 slots, prefill of up to 4 pages in a slice."""
    settings: dict[str, Any] = {
        "pool_pages": 8,
        "chunks_max": 2,
        "attend_away": types.AttendAway.LONG,
    }
    return Desk(**(settings | fields))
