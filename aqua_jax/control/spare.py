"""Spare memory off the device: tiers of slots, nearest first, and the copies that lie in them.

Knows: which slots are free in which tier, which tiers come and go. Does not
know: page tables (`residency.py`), when a copy runs, what a page holds, who
lends (`borrowing.py`).

A tier is fixed (generation 0) or a grant of a lender's memory, which has a
space and a generation of its own. A space id may be used again by a later
grant, once nothing touches the slots of the former:

    UNKNOWN --add--> THERE --remove, every slot RETIRED--> UNKNOWN
                       |
                       +--void--> VOID --last owner, ticket, dispatch--> UNKNOWN

Whoever has a copy in a VOID tier still gives it up there; nobody gets a slot of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from aqua_jax.control import errors, pages, types


@dataclasses.dataclass(slots=True, eq=False)
class Tier:
    """Spare memory off the device. `name` is "peer" or "host"; several may have the same.

    unit_slots: of a grant, neighbouring slots that can go back to the lender only together.
    """

    name: str
    slots: pages.PagePool
    unit_slots: int = 1

    @property
    def is_fixed(self) -> bool:
        """True when nobody can call it back."""
        return self.slots.generation == 0


@dataclasses.dataclass(slots=True, eq=False)
class Away:
    """The copy of one page in a slot of a tier.

    units: of the page, in it once the copy under way has completed. in_flight: a copy into it
    is planned or under way. used: it was read since, so it was not made for nothing.
    """

    tier: Tier
    slot: int
    units: int = 0
    in_flight: bool = False
    used: bool = False

    @property
    def place(self) -> types.Place:
        """Where the copy is."""
        return self.tier.slots.place(self.slot)

    @property
    def is_called(self) -> bool:
        """True when its slot is to be vacated."""
        return self.tier.slots.is_called(self.slot)


class Slots:
    """The slots of all tiers. Not thread-safe."""

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self.tiers: tuple[Tier, ...] = tuple(tiers)
        self._void: list[Tier] = []
        self._generations: dict[int, int] = {}  # of grants: the latest, by space
        self._completed_dispatch = 0

    # -- tiers -------------------------------------------------------------------------------

    def add(self, tier: Tier) -> None:
        """UNKNOWN -> THERE: behind those of its name, or nearest of all when it is the first.

        So lenders' memory comes before the host's.
        """
        space, generation = tier.slots.space, tier.slots.generation
        if self.is_known(space) or generation <= self._generations.get(space, 0):
            raise errors.InternalError(
                f"space {space} is added with generation {generation}, but the latest was"
                f" {self._generations.get(space, 0)} and something touches it:"
                f" {self.is_known(space)}; use a space that nothing touches, generations that grow"
            )
        self._generations[space] = generation
        tier.slots.complete_dispatch(self._completed_dispatch)
        named = [number for number, other in enumerate(self.tiers, 1) if other.name == tier.name]
        at = named[-1] if named else 0
        self.tiers = (*self.tiers[:at], tier, *self.tiers[at:])

    def remove(self, space: int) -> Tier:
        """THERE -> UNKNOWN for a tier that has no slot left."""
        tier = self.of(space)
        if tier.slots.capacity:
            raise errors.InternalError(
                f"space {space} is removed with {tier.slots.capacity} slots: call them back first"
            )
        self.tiers = tuple(other for other in self.tiers if other is not tier)
        return tier

    def void(self, space: int) -> Tier:
        """THERE -> VOID: what was in it is lost."""
        tier = self.of(space)
        self.tiers = tuple(other for other in self.tiers if other is not tier)
        self._void.append(tier)
        return tier

    def of(self, space: int) -> Tier:
        """The tier that is THERE with this space."""
        for tier in self.tiers:
            if tier.slots.space == space:
                return tier
        raise errors.InternalError(
            f"no tier has space {space} (known: {[tier.slots.space for tier in self.tiers]})"
        )

    def is_known(self, space: int) -> bool:
        """True while the space is a tier's, or something touches the slots of a VOID one."""
        return any(pool.space == space for pool in self.pools())

    def pools(self) -> list[pages.PagePool]:
        """The slots of every tier, VOID ones included as long as something touches them."""
        self._void = [tier for tier in self._void if tier.slots.used_count]
        return [tier.slots for tier in (*self.tiers, *self._void)]

    # -- slots -------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Slots in all."""
        return sum(tier.slots.capacity for tier in self.tiers)

    @property
    def fixed_capacity(self) -> int:
        """Slots that nobody can call back: what may be promised."""
        return sum(tier.slots.capacity for tier in self.tiers if tier.is_fixed)

    @property
    def free_count(self) -> int:
        """Slots FREE in all tiers."""
        return sum(tier.slots.free_count for tier in self.tiers)

    def take(
        self, session: int, count: int, *, after: Away | None = None, avoid: Sequence[Tier] = ()
    ) -> list[Away]:
        """`count` slots, which must be FREE, nearest tier first; where they can, behind `after`.

        Those of the tiers `avoid` come last.
        """
        taken: list[Away] = []
        for tier in sorted(self.tiers, key=lambda tier: tier in avoid) if avoid else self.tiers:
            most = min(tier.slots.free_count, count - len(taken))
            if most > 0:
                last = after.slot if after is not None and after.tier is tier else -1
                slots = tier.slots.acquire(session, most, after=last)
                taken += [Away(tier, slot) for slot in slots]
        if len(taken) < count:
            raise errors.InternalError(
                f"session {session} takes {count} slots with {len(taken)} FREE:"
                " check free_count first"
            )
        return taken

    def give_up(self, session: int, aways: Iterable[Away], last_dispatch: int = 0) -> None:
        """Releases their slots, read by dispatches up to `last_dispatch` where they are."""
        by_tier: dict[Tier, list[int]] = {}
        for away in aways:
            by_tier.setdefault(away.tier, []).append(away.slot)
        for tier, slots in by_tier.items():
            tier.slots.release(slots, session, last_dispatch)

    def complete_dispatch(self, dispatch: int) -> None:
        """`dispatch` and all before it no longer read any slot."""
        self._completed_dispatch = max(self._completed_dispatch, dispatch)
        for pool in self.pools():
            pool.complete_dispatch(dispatch)
