"""A mover that compares what arrived with what left, page by page.

Knows: checksums of pages in place. Does not know: how bytes travel.

Peer copies have silently delivered wrong data on real hardware; a wrong page
would become wrong tokens. So the pages are summed where they are when the
copy is submitted, summed again where they arrived, and a difference turns the
completion into an error: the session recomputes, late but never wrong.
Costs one more gather of the pages at either end. Wraps a mover that copies at
submission (no `LimitedMover` inside), so that both see the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.memory import page_array, watch
from aqua_jax.memory.movers import base


class _Copy(NamedTuple):
    """A submitted plan and the checksums of its sources, on the device."""

    ticket: tickets.Ticket
    plan: base.Plan
    sums: list[jax.Array]


class VerifiedMover:
    """Fails the completion of a plan of which a page arrived changed; names the pages."""

    def __init__(
        self,
        inner: base.PageMover,
        clock: clocks.Clock,
        stores: Mapping[int, page_array.PageArray],
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._stores = base.Stores(stores)
        self._watcher = watch.ReadyWatcher(clock, "checks of copied pages")
        self._copying: dict[int, _Copy] = {}
        self._checking: list[_Copy] = []

    def warm_up(self) -> None:
        """Compiles the checksum programs of every store; waits."""
        for store in self._stores.values():
            for pages in store.buckets():
                jax.block_until_ready(store.checksums([store.scratch] * pages))

    def check(self, moves: Sequence[types.Move]) -> int:
        """As the inner mover's."""
        return self._inner.check(moves)

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """As the inner mover's; sums the source pages first."""
        self._inner.check(moves)
        plan = self._stores.plan(moves)
        ticket = base.new_ticket(self._clock, moves)
        sums = _checksums(plan.source, plan.sources)
        inner = self._inner.submit(moves, after)
        self._copying[inner.id] = _Copy(ticket, plan, sums)
        return ticket

    def poll(self) -> list[types.Completion]:
        """Completions since the last call of what was copied and compared."""
        self._land()
        done = [copy for copy in self._checking if copy.ticket.done()]
        for copy in done:
            self._checking.remove(copy)
        return [base.completion_of(copy.ticket, copy.plan.bytes) for copy in done]

    def rebuild(self) -> None:
        """As the inner mover's."""
        self._inner.rebuild()

    def close(self) -> None:
        """Waits (bounded) for copies and comparisons in flight."""
        self._inner.close()
        self._land()
        self._watcher.close()

    def _land(self) -> None:
        for completion in self._inner.poll():
            copy = self._copying.pop(completion.ticket)
            self._checking.append(copy)
            if completion.error is not None:
                copy.ticket.fail(completion.error, at=self._clock.now())
                continue
            try:
                arrived = _checksums(copy.plan.target, copy.plan.targets)
            except Exception as error:  # the target is lost: as a completion, like any failure
                copy.ticket.fail(error, at=self._clock.now())
                continue
            self._watcher.watch((copy.sums, arrived), copy.ticket, _comparison(copy, arrived))


def _checksums(store: page_array.PageArray, indices: list[int]) -> list[jax.Array]:
    """Checksums of the pages as of now, one array for each batch. Enqueues and returns."""
    step = store.batch_pages_max
    return [
        store.checksums(indices[first : first + step]) for first in range(0, len(indices), step)
    ]


def _comparison(copy: _Copy, arrived: list[jax.Array]) -> Callable[[], None]:
    """Run by the watcher once both sides are summed; raises MoveError on a difference."""

    def compare() -> None:
        left, there = jax.device_get((copy.sums, arrived))
        rows = np.flatnonzero(np.concatenate(left) != np.concatenate(there))
        # Rows beyond a batch's pages are scratch, which differs freely: only the last has any.
        wrong = [copy.plan.targets[row] for row in rows if row < len(copy.plan.targets)]
        if wrong:
            raise errors.MoveError(
                f"pages {wrong} of {copy.plan.target.label} arrived changed from "
                f"{copy.plan.source.label}: the copies are void; check the link with a pattern test"
            )

    return compare
