"""What every mover and decorator here shares: the protocol, plans checked on the host, tracks.

Knows: moves, page stores by space. Does not know: how bytes travel.
Invariant 5 (ARCHITECTURE.md): a plan is checked whole before anything starts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.engine import protocols
from aqua_jax.memory import page_store, paged

# (track, name, start_seconds, end_seconds, args): the fields of `workloads.records.Span`.
SpanArgs = dict[str, int | float | str]
SpanSink = Callable[[str, str, float, float, SpanArgs], None]

Store = TypeVar("Store", bound=page_store.PageStore)


class PageMover(protocols.Mover, Protocol):
    """A mover that can also say beforehand what a plan is worth: what decorators wrap."""

    def check(self, moves: Sequence[types.Move]) -> int:
        """Bytes that the plan moves. Raises MoveError when `submit` would refuse it."""
        ...

    def fence(self, space: int) -> tickets.Ticket:
        """Every program enqueued on that pool from now on runs after the copies submitted so far.

        Returns at once. For who lets programs touch pages under copy; the
        engine does not (`protocols.Mover`). The ticket is done when those
        programs may run, and has failed when they ran too early; `poll` does
        not report it. Raises MoveError when `space` is no pool of this mover.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Plan(Generic[Store]):
    """A checked batch of moves. `bytes` counts real pages, no padding."""

    source: Store
    target: Store
    sources: list[int]
    targets: list[int]

    @property
    def bytes(self) -> int:
        """Bytes over all shards."""
        return len(self.sources) * self.source.page_bytes


class Stores(Generic[Store]):
    """The page stores that a mover serves, by space."""

    def __init__(self, stores: Mapping[int, Store]) -> None:
        for space, store in stores.items():
            if store.space != space:
                raise errors.ConfigError(
                    f"{store.label} was given as space {space}, but its space is {store.space}"
                )
        self._stores = dict(stores)

    def values(self) -> list[Store]:
        """Every store."""
        return list(self._stores.values())

    def of(self, space: int) -> Store:
        """The store of a space. Raises MoveError for an unknown one."""
        if space not in self._stores:
            raise errors.MoveError(f"unknown space {space} (known: {sorted(self._stores)})")
        return self._stores[space]

    def rebuild_arenas(self) -> None:
        """Makes every store but the pools anew; what they held is lost."""
        for store in self._stores.values():
            if not isinstance(store, paged.PagedPool):
                store.rebuild()

    def check_pool(self, space: int) -> None:
        """Raises MoveError when `space` is no pool: programs run on pools only."""
        if not isinstance(self._stores.get(space), paged.PagedPool):
            pools = [s for s, store in self._stores.items() if isinstance(store, paged.PagedPool)]
            raise errors.MoveError(f"space {space} is no pool to fence (pools: {pools})")

    def plan(self, moves: Sequence[types.Move]) -> Plan[Store]:
        """Checks `moves` and splits them into indices. Raises MoveError; touches no array."""
        if not moves:
            raise errors.MoveError("refused an empty plan: expected at least one move")
        source = self._one("source", {move.source.space for move in moves})
        target = self._one("target", {move.target.space for move in moves})
        sources = [move.source.index for move in moves]
        targets = [move.target.index for move in moves]
        source.check_indices(sources)
        target.check_indices(targets)
        _check_targets(source, target, sources, targets)
        if (source.page_shape, source.dtype) != (target.page_shape, target.dtype):
            raise errors.MoveError(
                f"refused: pages of {source.label} are {source.dtype}{list(source.page_shape)}, of "
                f"{target.label} {target.dtype}{list(target.page_shape)}: of two kinds"
            )
        return Plan(source, target, sources, targets)

    def _one(self, end: str, spaces: set[int]) -> Store:
        if len(spaces) > 1:
            raise errors.MoveError(
                f"refused: {end} spaces {sorted(spaces)} in one plan; submit one plan for each pair"
            )
        (space,) = spaces
        if space not in self._stores:
            raise errors.MoveError(
                f"refused: unknown {end} space {space} (known: {sorted(self._stores)})"
            )
        return self._stores[space]


def _check_targets(
    source: page_store.PageStore,
    target: page_store.PageStore,
    sources: list[int],
    targets: list[int],
) -> None:
    if len(set(targets)) < len(targets):
        twice = sorted({index for index in targets if targets.count(index) > 1})
        raise errors.MoveError(f"refused: indices {twice} of {target.label} are a target twice")
    if source is target and (both := set(sources).intersection(targets)):
        raise errors.MoveError(
            f"refused: indices {sorted(both)} of {target.label} are source and target of one plan; "
            "submit two plans in the order that is meant"
        )


class Tracks:
    """Names of spans: `tiers` is space -> tier name, nearest first ("device", "peer", "host")."""

    def __init__(self, tiers: Mapping[int, str]) -> None:
        self._tiers = dict(tiers)
        self._order = {space: rank for rank, space in enumerate(tiers)}

    def name(self, source: int, target: int) -> tuple[str, str]:
        """(track, name) of a copy between spaces, e.g. ("device->peer", "page_out")."""
        for space in (source, target):
            if space not in self._tiers:
                raise errors.ConfigError(
                    f"space {space} has no tier name (known: {self._tiers}): name every space"
                )
        outward = self._order[source] <= self._order[target]
        track = f"{self._tiers[source]}->{self._tiers[target]}"
        return track, "page_out" if outward else "page_in"


def settle(
    ticket: tickets.Ticket, nbytes: int, *, at: float, error: BaseException | None = None
) -> types.Completion:
    """Completes or fails `ticket` at clock time `at` and returns what `poll` reports of it.

    `seconds` counts from the ticket's `started_at`; bytes of a failed copy count as none.
    """
    if error is None:
        ticket.complete(at=at)
    else:
        ticket.fail(error, at=at)
    return completion_of(ticket, nbytes)


def completion_of(ticket: tickets.Ticket, nbytes: int) -> types.Completion:
    """What `poll` reports of a ticket that is done."""
    finished_at = ticket.started_at if ticket.finished_at is None else ticket.finished_at
    return types.Completion(
        ticket.id,
        nbytes if ticket.error is None else 0,
        finished_at - ticket.started_at,
        ticket.error,
    )


def new_ticket(clock: clocks.Clock, moves: Sequence[types.Move]) -> tickets.Ticket:
    """A pending ticket, started now."""
    source, target = moves[0].source.space, moves[0].target.space
    label = f"{len(moves)} pages of space {source} to {target}"
    return tickets.Ticket(label, started_at=clock.now())


def new_fence(clock: clocks.Clock, space: int) -> tickets.Ticket:
    """A pending ticket of a fence, started now."""
    return tickets.Ticket(f"a fence on space {space}", started_at=clock.now())


def passed_fence(clock: clocks.Clock, space: int) -> tickets.Ticket:
    """The ticket of a fence that had nothing to wait for."""
    ticket = new_fence(clock, space)
    ticket.complete(at=ticket.started_at)
    return ticket
