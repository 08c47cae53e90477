"""A mover that compares what arrived with what left, page by page.

Knows: checksums of pages in place. Does not know: how bytes travel.

Peer copies have silently delivered wrong data on real hardware; a wrong page
would become wrong tokens. So the pages are summed where they are when the
copy is submitted, summed again where they arrived, and a difference turns the
completion into an error: the session recomputes, late but never wrong.
Costs one more gather of the pages at either end. Wraps a mover that copies at
submission (no `LimitedMover` inside), so that both see the same bytes.

A source page into which an earlier plan still copies does not hold its bytes
yet. Of a pool it is summed behind a fence; of an arena, where no program can
change it meanwhile, its sum will be that of the page it is copied from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import numpy as np

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.memory import page_store, paged, watch
from aqua_jax.memory.movers import base

_Sums: TypeAlias = Sequence[jax.Array | np.ndarray]
_Plan: TypeAlias = base.Plan[page_store.PageStore]


class _Sum(NamedTuple):
    """One page's checksum: the row of a batch's, on the device."""

    batch: jax.Array | np.ndarray
    row: int


class _Copy(NamedTuple):
    """A submitted plan and the checksums of its sources, page by page.

    fence: what the sums were held back by, if by anything.
    """

    ticket: tickets.Ticket
    plan: _Plan
    sums: list[_Sum]
    fence: tickets.Ticket | None


class VerifiedMover:
    """Fails the completion of a plan of which a page arrived changed; names the pages."""

    def __init__(
        self,
        inner: base.PageMover,
        clock: clocks.Clock,
        stores: Mapping[int, page_store.PageStore],
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
            store.warm_up_checksums()

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
        sums, fence = self._sum_sources(plan)
        inner = self._inner.submit(moves, after)
        self._copying[inner.id] = _Copy(ticket, plan, sums, fence)
        return ticket

    def fence(self, space: int) -> tickets.Ticket:
        """As the inner mover's."""
        return self._inner.fence(space)

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

    def _sum_sources(self, plan: _Plan) -> tuple[list[_Sum], tickets.Ticket | None]:
        """The checksums of the source pages as the copy will find them. Enqueues and returns."""
        coming, fence = self._coming(plan.source), None
        if isinstance(plan.source, paged.PagedPool) and not coming.keys().isdisjoint(plan.sources):
            fence = self._inner.fence(plan.source.space)
            coming = {}
        here = [index for index in plan.sources if index not in coming]
        sums = coming | dict(zip(here, _rows(plan.source.checksums(here)), strict=False))
        return [sums[index] for index in plan.sources], fence

    def _coming(self, store: page_store.PageStore) -> dict[int, _Sum]:
        """Index -> what the page will sum to once the plans under way have arrived."""
        return {
            index: sum_
            for copy in self._copying.values()
            if copy.plan.target is store
            for index, sum_ in zip(copy.plan.targets, copy.sums, strict=True)
        }

    def _land(self) -> None:
        for completion in self._inner.poll():
            copy = self._copying.pop(completion.ticket)
            self._checking.append(copy)
            error = completion.error
            if error is None and copy.fence is not None:  # done before what it held back
                error = copy.fence.error  # the sums are of pages that had not arrived
            if error is not None:
                copy.ticket.fail(error, at=self._clock.now())
                continue
            try:
                arrived = copy.plan.target.checksums(copy.plan.targets)
            except Exception as error:  # the target is lost: as a completion, like any failure
                copy.ticket.fail(error, at=self._clock.now())
                continue
            sums = [sum_.batch for sum_ in copy.sums]
            self._watcher.watch((sums, arrived), copy.ticket, _comparison(copy, arrived))


def _rows(batches: _Sums) -> Iterator[_Sum]:
    """Page by page. Rows at the end are padding."""
    for batch in batches:
        for row in range(batch.shape[0]):
            yield _Sum(batch, row)


def _comparison(copy: _Copy, arrived: _Sums) -> Callable[[], None]:
    """Run by the watcher once both sides are summed; raises MoveError on a difference."""

    def compare() -> None:
        fetched = jax.device_get({id(batch): batch for batch, _ in copy.sums})
        there = np.concatenate(jax.device_get(list(arrived)))
        wrong = [
            index
            for index, (batch, row), sum_ in zip(copy.plan.targets, copy.sums, there, strict=False)
            if fetched[id(batch)][row] != sum_
        ]
        if wrong:
            raise errors.MoveError(
                f"pages {wrong} of {copy.plan.target.label} arrived changed from "
                f"{copy.plan.source.label}: the copies are void; check the link with a pattern test"
            )

    return compare
