"""The mover for every backend: gather, `jax.device_put`, scatter.

Knows: page arrays, batches. Does not know: policy, links, who waits.

    source --gather--> staged --send--> staged' --scatter--> target

Gather and scatter are programs on the arrays themselves, so they are ordered
against the runner's dispatches by the arrays: a copy reads what every program
enqueued before it has written, and every program enqueued later sees what it
wrote. Only the send overlaps with compute. Nothing here waits.

An error of the device in the middle of a copy voids the array it writes: the
pool after a page-in, an arena after a page-out. It shows at the next slice or
copy on it; the engine then has pool and arenas rebuilt and sessions recompute.

Plans are split into batches of at most `batch_pages_max` pages; batches are
padded to powers of two. `warm_up()` compiles every program there is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.memory import page_array, page_store, transfer, watch
from aqua_jax.memory.movers import base

_Plan = base.Plan[page_array.PageArray]


class _Copy(NamedTuple):
    """A submitted plan."""

    ticket: tickets.Ticket
    bytes: int


class XlaMover:
    """Copies pages between pools and arenas through XLA programs.

    stores: space -> pool or arena, all of them jax arrays. They must outlive
    the mover.
    """

    def __init__(self, stores: Mapping[int, page_store.PageStore], clock: clocks.Clock) -> None:
        self._stores = base.Stores(_arrays(stores))
        self._clock = clock
        self._open: list[_Copy] = []
        self._closed = False
        for source, target in self._pairs():
            transfer.check(source.staging_sharding, target.staging_sharding)
        # One thread for each target: a slow copy to the host does not hide a fast one to a peer.
        self._watchers = {
            store.space: watch.ReadyWatcher(clock, f"copies to {store.label}")
            for store in self._stores.values()
        }

    def warm_up(self) -> None:
        """Compiles every program by copying scratch pages between every pair; waits."""
        for source, target in self._pairs():
            for pages in source.buckets():
                plan = base.Plan(source, target, [source.scratch] * pages, [target.scratch] * pages)
                jax.block_until_ready(_copy(plan))

    def check(self, moves: Sequence[types.Move]) -> int:
        """Bytes that the plan moves. Raises MoveError for a plan that cannot be."""
        return self._stores.plan(moves).bytes

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """Enqueues the copies and returns. `after` was dispatched before, which orders it."""
        del after  # the source array of the gather is what `after` returned, or newer
        if self._closed:
            raise errors.MoveError("refused: the mover is closed")
        plan = self._stores.plan(moves)
        ticket = base.new_ticket(self._clock, moves)
        self._open.append(_Copy(ticket, plan.bytes))
        try:
            tokens = _copy(plan)
        except Exception as error:  # a lost pool or a device out of memory: as a completion
            ticket.fail(error, at=self._clock.now())
            self._clock.wake()
        else:
            self._watchers[plan.target.space].watch(tokens, ticket)
        return ticket

    def fence(self, space: int) -> tickets.Ticket:
        """Nothing to hold back: gathers and scatters are programs on the pool themselves."""
        self._stores.check_pool(space)
        return base.passed_fence(self._clock, space)

    def poll(self) -> list[types.Completion]:
        """Completions since the last call, in order of completion. Never blocks."""
        done = [copy for copy in self._open if copy.ticket.done()]
        if done:
            finished = {copy.ticket.id for copy in done}
            self._open = [copy for copy in self._open if copy.ticket.id not in finished]
            done.sort(key=lambda copy: copy.ticket.finished_at or 0.0)
        return [base.completion_of(copy.ticket, copy.bytes) for copy in done]

    def rebuild(self) -> None:
        """Fresh arenas, zeroed; the pool is its runner's."""
        self._stores.rebuild_arenas()

    def close(self) -> None:
        """Waits (bounded) for copies in flight; their completions can still be polled."""
        self._closed = True
        for watcher in self._watchers.values():
            watcher.close()

    def _pairs(self) -> list[tuple[page_array.PageArray, page_array.PageArray]]:
        """Every (source, target) with pages of one kind, a store and itself included."""
        pairs = itertools.product(self._stores.values(), repeat=2)
        return [(a, b) for a, b in pairs if (a.page_shape, a.dtype) == (b.page_shape, b.dtype)]


def _arrays(stores: Mapping[int, page_store.PageStore]) -> dict[int, page_array.PageArray]:
    """`stores`, of which every one is a jax array: XLA reaches no other memory."""
    arrays: dict[int, page_array.PageArray] = {}
    for space, store in stores.items():
        if not isinstance(store, page_array.PageArray):
            raise errors.ConfigError(
                f"{store.label} is a {type(store).__name__}, which XLA cannot reach: give the xla "
                "mover a DeviceArena or HostArena, or use the ffi mover"
            )
        arrays[space] = store
    return arrays


def _copy(plan: _Plan) -> list[jax.Array]:
    """Enqueues the plan, batch after batch; tokens that are ready when all has been written."""
    step = plan.source.batch_pages_max
    return [
        _copy_batch(plan, slice(first, first + step)) for first in range(0, len(plan.sources), step)
    ]


def _copy_batch(plan: _Plan, batch: slice) -> jax.Array:
    staged = plan.source.gather(plan.sources[batch])
    moved = transfer.send(staged, plan.target.staging_sharding)
    return plan.target.scatter(plan.targets[batch], moved)
