"""Copies: moves of one source and one target space, submitted as one ticket.

Knows: whose pages a copy carries, which copies are in flight and what they read
and write. Does not know: page tables (`residency.py`), when a copy runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from aqua_jax.control import errors, pages, types


class Part(NamedTuple):
    """One session's share of a copy: page indices of its table.

    release: device pages it gives up once the copy reads them, busy until
    dispatch `busy_until`; none for a session that stays.
    """

    session: int
    epoch: int
    indices: tuple[int, ...]
    release: tuple[int, ...] = ()
    busy_until: int = 0


class Copy(NamedTuple):
    """Moves of one source and one target space, submitted as one ticket."""

    direction: str  # "out", "in"
    tier: str
    moves: tuple[types.Move, ...]
    parts: tuple[Part, ...]


class Arrived(NamedTuple):
    """What a finished copy means for one session."""

    session: int
    epoch: int
    direction: str
    ok: bool


@dataclasses.dataclass(slots=True)
class PagedBytes:
    """Pages moved, by tier. `wasted` were copied out and never read back."""

    out: dict[str, int]
    into: dict[str, int]
    wasted: int = 0


class InFlight:
    """Copies submitted and not completed; while one is, its pages have it as reader or writer."""

    def __init__(self, pools: Iterable[pages.PagePool]) -> None:
        self._pools = {pool.space: pool for pool in pools}
        self._copies: dict[int, Copy] = {}

    def __len__(self) -> int:
        return len(self._copies)

    def __contains__(self, ticket: int) -> bool:
        return ticket in self._copies

    def begin(self, copy: Copy, ticket: int) -> None:
        """It was submitted as `ticket`."""
        source, target = self._ends(copy)
        source.begin_read([m.source.index for m in copy.moves], ticket)
        target.begin_write([m.target.index for m in copy.moves], ticket)
        self._copies[ticket] = copy

    def end(self, ticket: int) -> Copy:
        """It completed or failed: its pages are free of it."""
        copy = self._copies.pop(ticket)
        for pool in self._ends(copy):
            pool.end_copy(ticket)
        return copy

    def _ends(self, copy: Copy) -> tuple[pages.PagePool, pages.PagePool]:
        spaces = copy.moves[0].source.space, copy.moves[0].target.space
        for space in spaces:
            if space not in self._pools:
                raise errors.InternalError(f"no pool has space {space}")
        return self._pools[spaces[0]], self._pools[spaces[1]]


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
