"""Copies: moves of one source and one target space, submitted as one ticket.

Knows: whose pages a copy carries. Does not know: page tables (`residency.py`),
when it runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from aqua_jax.control import types


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
