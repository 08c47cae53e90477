"""The mover to check others by: pages go through numpy, one by one, while the caller waits.

Knows: snapshot and write. Does not know: batches, padding, devices, order of
programs beyond "everything before has happened".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.memory import page_store
from aqua_jax.memory.movers import base


class ReferenceMover:
    """Copies inside `submit`; tickets are done when it returns.

    stores: space -> pool or arena. They must outlive the mover.
    """

    def __init__(self, stores: Mapping[int, page_store.PageStore], clock: clocks.Clock) -> None:
        self._stores = base.Stores(stores)
        self._clock = clock
        self._completions: list[types.Completion] = []
        self._closed = False

    def check(self, moves: Sequence[types.Move]) -> int:
        """Bytes that the plan moves. Raises MoveError for a plan that cannot be."""
        return self._stores.plan(moves).bytes

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """Copies the pages. Waits for every program enqueued on them, `after` among these."""
        del after  # the snapshot waits for it
        if self._closed:
            raise errors.MoveError("refused: the mover is closed")
        plan = self._stores.plan(moves)
        ticket = base.new_ticket(self._clock, moves)
        error: Exception | None = None
        try:
            plan.target.write(plan.targets, plan.source.snapshot(plan.sources))
        except Exception as failure:  # the device's: as a completion, like any failed copy
            error = failure
        self._completions.append(base.settle(ticket, plan.bytes, at=self._clock.now(), error=error))
        self._clock.wake()
        return ticket

    def fence(self, space: int) -> tickets.Ticket:
        """Nothing to hold back: copies are complete when `submit` returns."""
        self._stores.check_pool(space)
        return base.passed_fence(self._clock, space)

    def poll(self) -> list[types.Completion]:
        """Completions since the last call, in order of submission."""
        completions, self._completions = self._completions, []
        return completions

    def rebuild(self) -> None:
        """Fresh arenas, zeroed; the pool is its runner's."""
        self._stores.rebuild_arenas()

    def close(self) -> None:
        """Refuses submissions from now on; completions can still be polled."""
        self._closed = True
