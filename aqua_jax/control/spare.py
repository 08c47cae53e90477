"""Spare memory off the device: tiers of slots, nearest first, and the copies that lie in them.

Knows: which slots are free in which tier. Does not know: page tables
(`residency.py`), when a copy runs, what a page holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from aqua_jax.control import errors, pages, types


@dataclasses.dataclass(slots=True)
class Tier:
    """Spare memory off the device. `name` is "peer" or "host"."""

    name: str
    slots: pages.PagePool


@dataclasses.dataclass(slots=True, eq=False)
class Away:
    """The copy of one page in a slot of tier number `tier`.

    units: of the page, in it once the copy under way has completed. in_flight: a copy into it
    is planned or under way. used: it was read since, so it was not made for nothing.
    """

    tier: int
    slot: int
    units: int = 0
    in_flight: bool = False
    used: bool = False


class Slots:
    """The slots of all tiers. Not thread-safe."""

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self.tiers = tuple(tiers)

    @property
    def capacity(self) -> int:
        """Slots in all."""
        return sum(tier.slots.capacity for tier in self.tiers)

    @property
    def free_count(self) -> int:
        """Slots FREE in all tiers."""
        return sum(tier.slots.free_count for tier in self.tiers)

    def take(self, session: int, count: int, *, after: Away | None = None) -> list[Away]:
        """`count` slots, which must be FREE, nearest tier first; where they can, behind `after`."""
        taken: list[Away] = []
        for number, tier in enumerate(self.tiers):
            most = min(tier.slots.free_count, count - len(taken))
            if most > 0:
                last = after.slot if after is not None and after.tier == number else -1
                slots = tier.slots.acquire(session, most, after=last)
                taken += [Away(number, slot) for slot in slots]
        if len(taken) < count:
            raise errors.InternalError(
                f"session {session} takes {count} slots with {len(taken)} FREE:"
                " check free_count first"
            )
        return taken

    def give_up(self, session: int, aways: Iterable[Away], last_dispatch: int = 0) -> None:
        """Releases their slots, read by dispatches up to `last_dispatch` where they are."""
        by_tier: dict[int, list[int]] = {}
        for away in aways:
            by_tier.setdefault(away.tier, []).append(away.slot)
        for tier, slots in by_tier.items():
            self.tiers[tier].slots.release(slots, session, last_dispatch)

    def place(self, away: Away) -> types.Place:
        """Where the copy is."""
        return types.Place(self.tiers[away.tier].slots.space, away.slot)

    def complete_dispatch(self, dispatch: int) -> None:
        """`dispatch` and all before it no longer read any slot."""
        for tier in self.tiers:
            tier.slots.complete_dispatch(dispatch)
