"""The copies in flight: submitted to the mover, taken in when they have completed.

Knows: the controller's copies, the mover, a clock. Does not know: slices,
streams, policy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.control import copying, tickets, types
from aqua_jax.engine import observer as observers
from aqua_jax.engine import protocols

_RETRY_SECONDS = 0.02  # after a refused copy, unless something happens before


class Failed(NamedTuple):
    """A session that no schedule can run, since copies of its pages fail again and again."""

    session: types.Session
    error: BaseException | None


class _Flight(NamedTuple):
    ticket: tickets.Ticket
    copy: copying.Copy
    submitted_at: float


class Copies:
    """See the module's text. host_seconds: what the controller took for them since it was reset.

    retry_at: the clock second at which it is worth deciding again though nothing happened.
    """

    def __init__(
        self,
        controller: controllers.Controller,
        mover: protocols.Mover,
        clock: clocks.Clock,
        observer: Callable[[], observers.Observer],
    ) -> None:
        """observer: who is told now; an engine's may change."""
        self._controller = controller
        self._mover = mover
        self._clock = clock
        self._observer = observer
        self._flights: dict[int, _Flight] = {}
        self.retry_at = math.inf
        self.host_seconds = 0.0

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def tickets(self) -> list[tickets.Ticket]:
        """Of the copies in flight."""
        return [flight.ticket for flight in self._flights.values()]

    def submit(self, copies: Iterable[copying.Copy], after: tickets.Ticket | None) -> list[Failed]:
        """Submits them, those out of the device behind the slice `after`."""
        refused: list[types.Completion] = []
        for copy in copies:
            try:
                ticket = self._mover.submit(copy.moves, after if copy.direction == "out" else None)
            except Exception as error:  # ours or the device's: a copy that failed
                ticket = tickets.Ticket("refused copy")
                refused.append(types.Completion(ticket.id, 0, 0.0, error))
            begin = time.perf_counter()
            self._controller.memory.begin(copy, ticket.id)
            self.host_seconds += time.perf_counter() - begin
            self._flights[ticket.id] = _Flight(ticket, copy, self._clock.now())
        if refused:  # at once it would be refused again
            self.retry_at = self._clock.now() + _RETRY_SECONDS
        # Only now: a failure gives up a session's pages, which other copies may be about to use.
        return self._take_in(refused)

    def poll(self) -> tuple[bool, list[Failed]]:
        """Takes in the copies that have completed; True when there were any."""
        completions = self._mover.poll()
        return bool(completions), self._take_in(completions)

    @property
    def pauses(self) -> bool:
        """True for a while after a copy was refused."""
        return self._clock.now() < self.retry_at < math.inf

    def retry_due(self) -> bool:
        """True once when `retry_at` has come."""
        due = self.retry_at <= self._clock.now()
        if due:
            self.retry_at = math.inf
        return due

    def _take_in(self, completions: Sequence[types.Completion]) -> list[Failed]:
        failed: list[Failed] = []
        for completion in completions:
            flight = self._flights.pop(completion.ticket)
            now = self._clock.now()
            self._observer().copy_done(flight.copy, completion, flight.submitted_at, now)
            begin = time.perf_counter()
            given_up = self._controller.copied(completion, now)
            self.host_seconds += time.perf_counter() - begin
            failed += [Failed(session, completion.error) for session in given_up]
        return failed
