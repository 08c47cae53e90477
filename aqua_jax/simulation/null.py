"""A runner and a mover that compute and copy nothing: what is left is the control plane.

Knows: the protocols, counts of units, clock seconds that a slice takes. Does
not know: what a page holds, tokens' meaning, jax. Every session runs to its
full length and every token is 0, so a run costs the host what the controller
and the engine cost. `toy.py` is for finding faults; this is for measuring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets, types

SliceSeconds = Callable[[types.Batch], float]


def request(prompt_units: int, steps_max: int) -> types.Request:
    """A request for the null runner."""
    return types.Request(kind="null", prompt_units=prompt_units, steps_max=steps_max)


class NullRunner:
    """Slices that take `seconds(batch)` of the clock, one after the other.

    Pages hold `page_units` units; page 0 is scratch.
    """

    kind = "null"
    space = 0

    def __init__(
        self,
        clock: clocks.Clock,
        *,
        pages: int,
        page_units: int,
        lanes: int,
        chunk_units: int,
        steps_max: int,
        units_max: int,
        seconds: SliceSeconds,
    ) -> None:
        self.pages = pages
        self.page_bytes = page_units
        self.lanes = lanes
        self.chunk_units = chunk_units
        self.steps_max = steps_max
        self.units_max = units_max
        self._clock = clock
        self._page_units = page_units
        self._seconds = seconds
        self._busy_until = 0.0
        self._known: list[int] = [0] * lanes  # units known to the device's lane

    def check(self, request: types.Request) -> None:
        """Takes every request."""

    def pages_needed(self, request: types.Request, units: int) -> int:
        return -(-units // self._page_units)

    def units_in_page(self, request: types.Request, index: int, units: int) -> int:
        return max(0, min(units - index * self._page_units, self._page_units))

    def dispatch(self, batch: types.Batch) -> tickets.Ticket:
        """Starts a slice behind those in flight."""
        outcomes = [self._run(plan) for plan in batch.lanes]
        ticket = tickets.Ticket("null slice", started_at=self._clock.now())
        self._busy_until = max(self._busy_until, self._clock.now()) + self._seconds(batch)
        ends_at = self._busy_until
        self._clock.at(ends_at, lambda: ticket.complete(outcomes, at=ends_at))
        return ticket

    def collect(self, ticket: tickets.Ticket) -> list[types.Outcome]:
        return ticket.result()

    def rebuild(self) -> None:
        """Nothing is kept that could be lost."""

    def close(self) -> None:
        """Nothing to release."""

    def _run(self, plan: types.LanePlan) -> types.Outcome:
        session = plan.session
        if plan.joins:
            self._known[plan.lane] = session.known
        known = self._known[plan.lane]
        emitted = plan.steps + (plan.prefill > 0 and plan.first + plan.prefill == known)
        self._known[plan.lane] = known + emitted
        ends_at = session.request.prompt_units + session.request.steps_max
        finished = "length" if known + emitted == ends_at else ""
        return types.Outcome(session.id, (0,) * emitted, finished, plan.prefill, plan.steps)


class NullMover:
    """Copies that are done when they are submitted; `memory.movers.links` gives them time."""

    def __init__(self, clock: clocks.Clock, *, page_bytes: int) -> None:
        self._clock = clock
        self._page_bytes = page_bytes
        self._completions: list[types.Completion] = []

    def check(self, moves: Sequence[types.Move]) -> int:
        """Bytes that the plan would move."""
        return len(moves) * self._page_bytes

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        now = self._clock.now()
        ticket = tickets.Ticket("null copy", started_at=now)
        ticket.complete(at=now)
        self._completions.append(types.Completion(ticket.id, self.check(moves), 0.0))
        return ticket

    def fence(self, space: int) -> tickets.Ticket:
        """Nothing to hold back."""
        now = self._clock.now()
        ticket = tickets.Ticket(f"null fence on space {space}", started_at=now)
        ticket.complete(at=now)
        return ticket

    def poll(self) -> list[types.Completion]:
        completions, self._completions = self._completions, []
        return completions

    def rebuild(self) -> None:
        """There is nothing to lose."""

    def close(self) -> None:
        """Nothing to release."""
