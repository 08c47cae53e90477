"""A mover that keeps bytes and tickets in flight within bounds and queues the rest in order.

Knows: bytes of plans. Does not know: where they go.

A plan that waits here is submitted later than the caller thinks. That is safe
because the pages of a pending ticket are neither freed nor reused
(invariant 1), and in order because the queue is one: a plan never overtakes
an earlier one.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import NamedTuple

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.memory.movers import base


class _Waiting(NamedTuple):
    """A plan not yet submitted."""

    ticket: tickets.Ticket
    moves: Sequence[types.Move]
    after: tickets.Ticket | None
    bytes: int


class LimitedMover:
    """Submits to `inner` while it has fewer than `tickets_max` and `bytes_max` in flight.

    A plan larger than `bytes_max` goes alone. At most `queue_max` plans wait;
    one more raises QueueFullError. Tickets are its own, done by the next `poll`
    after the clock was woken.
    """

    def __init__(
        self,
        inner: base.PageMover,
        clock: clocks.Clock,
        *,
        bytes_max: int,
        tickets_max: int,
        queue_max: int = 1024,
    ) -> None:
        for name, value in (("bytes_max", bytes_max), ("tickets_max", tickets_max)):
            if value < 1:
                raise errors.ConfigError(f"{name} is {value}: expected at least 1")
        self._inner = inner
        self._clock = clock
        self._bytes_max = bytes_max
        self._tickets_max = tickets_max
        self._queue_max = queue_max
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._flying: dict[int, _Waiting] = {}
        self._completions: list[types.Completion] = []
        self._closed = False

    @property
    def bytes_in_flight(self) -> int:
        """Bytes submitted to the inner mover and not completed."""
        return sum(plan.bytes for plan in self._flying.values())

    @property
    def tickets_in_flight(self) -> int:
        """Plans submitted to the inner mover and not completed."""
        return len(self._flying)

    def check(self, moves: Sequence[types.Move]) -> int:
        """As the inner mover's."""
        return self._inner.check(moves)

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """Starts the plan or queues it. Raises as the inner mover, or QueueFullError."""
        nbytes = self._inner.check(moves)
        if self._closed:
            raise errors.MoveError("refused: the mover is closed")
        if len(self._waiting) >= self._queue_max:
            raise errors.QueueFullError(
                f"{len(self._waiting)} plans wait for a link: retry after a completion or raise "
                "queue_max"
            )
        ticket = base.new_ticket(self._clock, moves)
        self._waiting.append(_Waiting(ticket, tuple(moves), after, nbytes))
        self._start()
        return ticket

    def fence(self, space: int) -> tickets.Ticket:
        """As the inner mover's; what waits starts first, since it counts as submitted."""
        while self._waiting:
            self._start_first()
        return self._inner.fence(space)

    def poll(self) -> list[types.Completion]:
        """Completions since the last call; starts what has room now."""
        self._land()
        self._start()
        completions, self._completions = self._completions, []
        return completions

    def rebuild(self) -> None:
        """As the inner mover's."""
        self._inner.rebuild()

    def close(self) -> None:
        """Waits for what is in flight; what still waits fails, so that every ticket completes."""
        self._closed = True
        self._inner.close()
        self._land()
        while self._waiting:
            plan = self._waiting.popleft()
            error = errors.MoveError("the mover was closed before the copy started")
            self._finish(plan, error)

    def _land(self) -> None:
        for completion in self._inner.poll():
            self._finish(self._flying.pop(completion.ticket), completion.error)

    def _start(self) -> None:
        while self._waiting and self._has_room(self._waiting[0].bytes):
            self._start_first()

    def _start_first(self) -> None:
        plan = self._waiting.popleft()
        try:
            inner = self._inner.submit(plan.moves, plan.after)
        except Exception as error:  # the caller has its ticket: a completion must come
            self._finish(plan, error)
        else:
            self._flying[inner.id] = plan

    def _has_room(self, nbytes: int) -> bool:
        if not self._flying:
            return True
        fits = self.bytes_in_flight + nbytes <= self._bytes_max
        return fits and len(self._flying) < self._tickets_max

    def _finish(self, plan: _Waiting, error: BaseException | None) -> None:
        completion = base.settle(plan.ticket, plan.bytes, at=self._clock.now(), error=error)
        self._completions.append(completion)
