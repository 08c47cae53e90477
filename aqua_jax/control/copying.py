"""Copies: moves of one source and one target space, submitted as one ticket.

Knows: whose pages a copy carries, which copies are in flight and what they read
and write. Does not know: page tables (`residency.py`), when a copy runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from aqua_jax.control import errors, pages, spare, types


class Part(NamedTuple):
    """One session's share of a copy: page indices of its table.

    aways: of each page the copy that is made or read. A page that has another by the time the
    ticket completes, since its slot was given up meanwhile, has no more to do with it.
    release: device pages it gives up once the copy reads them, busy until
    dispatch `busy_until`; none for a session that stays.
    """

    session: int
    indices: tuple[int, ...]
    aways: tuple[spare.Away, ...]
    release: tuple[int, ...] = ()
    busy_until: int = 0


class Copy(NamedTuple):
    """Moves of one source and one target space, submitted as one ticket.

    direction: "out" of the device, "in" to it, or "move" from slot to slot. tier: the name of
    the tier at the other end; of a move, of the one it goes to, and `origin` where it comes from.
    """

    direction: str
    tier: str
    moves: tuple[types.Move, ...]
    parts: tuple[Part, ...]
    origin: str = ""


class Arrived(NamedTuple):
    """What a finished copy means for one session."""

    session: int
    direction: str
    ok: bool


@dataclasses.dataclass(slots=True)
class PagedBytes:
    """Pages moved, by name of tier. `wasted` were copied out and never read back.

    relocated: from another tier, by the one they went to.
    """

    out: dict[str, int] = dataclasses.field(default_factory=dict)
    into: dict[str, int] = dataclasses.field(default_factory=dict)
    relocated: dict[str, int] = dataclasses.field(default_factory=dict)
    wasted: int = 0

    def know(self, tier: str) -> None:
        """Its totals are 0 if nothing has moved."""
        for totals in (self.out, self.into, self.relocated):
            totals.setdefault(tier, 0)

    def add(self, copy: Copy) -> None:
        """The copy has arrived."""
        totals = {"out": self.out, "in": self.into, "move": self.relocated}[copy.direction]
        totals[copy.tier] = totals.get(copy.tier, 0) + len(copy.moves)


class InFlight:
    """Copies submitted and not completed; while one is, its pages have it as reader or writer."""

    def __init__(self, device: pages.PagePool, slots: spare.Slots) -> None:
        self._device = device
        self._slots = slots
        self._copies: dict[int, tuple[Copy, list[pages.PagePool]]] = {}
        self.moves = 0  # copies from slot to slot
        self.pages_moving = 0  # in them

    def __len__(self) -> int:
        return len(self._copies)

    def __contains__(self, ticket: int) -> bool:
        return ticket in self._copies

    def begin(self, copy: Copy, ticket: int) -> None:
        """It was submitted as `ticket`."""
        source, target = (self._pool(end) for end in copy.moves[0][:2])
        source.begin_read([m.source.index for m in copy.moves], ticket)
        target.begin_write([m.target.index for m in copy.moves], ticket)
        self._copies[ticket] = copy, [source, target]
        if copy.direction == "move":
            self.moves += 1
            self.pages_moving += len(copy.moves)

    def end(self, ticket: int) -> Copy:
        """It completed or failed: its pages are free of it."""
        copy, ends = self._copies.pop(ticket)
        if copy.direction == "move":
            self.moves -= 1
            self.pages_moving -= len(copy.moves)
        for pool in ends:
            pool.end_copy(ticket)
        return copy

    def _pool(self, place: types.Place) -> pages.PagePool:
        for pool in (self._device, *self._slots.pools()):
            if (pool.space, pool.generation) == (place.space, place.generation):
                return pool
        raise errors.InternalError(f"no pool has {place}")


def sources(copy: Copy) -> tuple[int, ...]:
    """The pages that it reads."""
    return tuple(move.source.index for move in copy.moves)


def merge(copies: Iterable[Copy]) -> list[Copy]:
    """Joins copies between the same two spaces into one each: fewer, larger transfers."""
    merged: dict[tuple[str, int, int], Copy] = {}
    for copy in copies:
        key = (copy.direction, copy.moves[0].source.space, copy.moves[0].target.space)
        first = merged.get(key)
        if first is None:
            merged[key] = copy
        else:
            merged[key] = first._replace(
                moves=first.moves + copy.moves, parts=first.parts + copy.parts
            )
    return list(merged.values())
