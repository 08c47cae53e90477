"""Homes that are called back or lost: pages leave their slots for others, or go with them.

Knows: which slots are to be vacated, what is in them, where there is room. Does
not know: deadlines and lenders (`borrowing.py`), who gives up its state when
there is no room (`controller.py`), when a copy runs.

Invariant 3. The copy to the new home completes before the old slot is given up.
What becomes of a slot that is called back follows from what is in it:

    nothing, or on its way to FREE    retires by itself
    a page that is on the device too  the copy is given up
    a page that is nowhere else       is copied to another slot, then given up here
    a copy that is under way          waits for it, then one of these

While a page is under way to its new home it can be read in the old one: its
session may arrive from there, or have it attended there by slices. A page that
has arrived on the device needs its new home no more. If the copy fails, it is
tried again, elsewhere if there is an elsewhere.

A copy may be several sessions' (`sharing.py`): then each is a tenant of the slot.
The first moves, the others take what it has moved.

Invariant 6. A page remembers the copy that it waits for, by identity. Whatever
completes for another, made before a slot was given up or its lender was lost,
changes nothing.
"""

from __future__ import annotations

import collections
import enum
from typing import NamedTuple

from aqua_jax.control import claims, copying, holdings, prefixes, spare, types

_LOOKS_A_PAGE = 4  # tenants looked at in one plan, for each page that it may move
_MOVE_COST, _GIVE_UP_COST = 16, 1  # of emptying a slot, when units to call back are compared


class _Tenant(NamedTuple):
    """Page number `page` of a session, whose copy `away` lies in a slot that is called back."""

    session: int
    page: int
    away: spare.Away


class _Fate(enum.Enum):
    GONE = "gone"  # it is not there any more
    WAITS = "waits"  # for a copy under way
    MOVED = "moved"  # somebody who shares it has moved it already
    SPARE = "spare"  # on the device too
    MOVES = "moves"  # nowhere else


_LEFT = (_Fate.GONE, _Fate.MOVED)


class Relocation:
    """Empties slots that are called back. `by_session` is the residency's, and stays its own."""

    def __init__(
        self,
        by_session: dict[int, holdings.Holding],
        claimants: claims.Claims,
        index: prefixes.Index,
    ) -> None:
        self._holdings = by_session
        self._index = index
        self._moved: dict[spare.Away, spare.Away] = {}  # of shared copies: the new home
        self._claims = claimants
        self._slots = claimants.slots
        self._tenants: dict[spare.Tier, collections.deque[_Tenant]] = {}
        self._failed: dict[spare.Away, spare.Tier] = {}  # a page's copy there has failed last

    @property
    def is_pending(self) -> bool:
        """True while pages are in slots that are called back."""
        return bool(self._tenants)

    def call_back(self, space: int, count: int) -> int:
        """At least `count` slots (whole units of them, all there are at most) are to be vacated.

        Those that cost the least to vacate; FREE ones retire at once. Returns how many.
        """
        tier = self._slots.of(space)
        tenants = self._find_tenants(tier)
        costs = {slot: sum(map(self._cost, of_slot)) for slot, of_slot in tenants.items()}
        slots = _cheapest(tier, count, costs)
        tier.slots.call_back(slots)
        queue = self._tenants.setdefault(tier, collections.deque())
        queue.extend(tenant for slot in slots for tenant in tenants.get(slot, ()))
        return len(slots)

    def give_back(self, space: int, count: int) -> int:
        """Up to `count` slots retire, of units that are wholly FREE; returns how many."""
        tier = self._slots.of(space)
        slots = _cheapest(tier, count, {}, only_free=True)[:count]
        slots = slots[: len(slots) - len(slots) % tier.unit_slots]
        tier.slots.call_back(slots)
        return len(slots)

    def plan(self, pages_max: int) -> list[copying.Copy]:
        """Gives up copies that are spare and plans to move others, at most `pages_max`.

        Looks at a bounded number of them. The copies must be begun before anything else changes.
        """
        moves: list[tuple[_Tenant, spare.Away]] = []
        moving: set[spare.Away] = set()
        looks_left = _LOOKS_A_PAGE * pages_max
        for tier, tenants in list(self._tenants.items()):
            self._let_stay(tier, tenants)
            looks = min(len(tenants), looks_left)
            looks_left -= looks
            for _ in range(looks):
                tenant = tenants.popleft()
                fate = self._fate(tenant)
                if fate is _Fate.SPARE:
                    self._give_up_spare(tenant)
                if fate is _Fate.MOVED:
                    self._follow(tenant)
                if fate in (_Fate.SPARE, _Fate.MOVED, _Fate.GONE):
                    self._failed.pop(tenant.away, None)
                    continue
                tenants.append(tenant)
                if fate is _Fate.MOVES and tenant.away not in moving and len(moves) < pages_max:
                    home = self._find_home(tenant)
                    if home is None:
                        break
                    moves.append((tenant, home))
                    moving.add(tenant.away)
            if not tenants:
                del self._tenants[tier]
        if not self._tenants:
            self._moved.clear()
        return _copies(moves)

    def homeless(self) -> list[int]:
        """Sessions with pages in slots that are called back and in no other place, oldest first."""
        found = (
            tenant.session
            for tenants in self._tenants.values()
            for tenant in tenants
            if self._fate(tenant) is _Fate.MOVES
        )
        return sorted(dict.fromkeys(found))

    def finish(self, part: copying.Part, holding: holdings.Holding, *, ok: bool) -> None:
        """The copies to new homes completed, or failed; what gave up meanwhile is left out."""
        for index, home in zip(part.indices, part.aways, strict=True):
            if holding.moves.get(index) is not home:
                continue  # invariant 6
            if not ok:
                self._failed[holding.copy_of(index)] = home.tier
                self._slots.give_up(part.session, [holding.moves.pop(index)])
                continue
            former = holding.move(index)
            if former.tier.slots.owner_count(former.slot) > 1:
                self._moved[former] = home
            self._index.moved(former, home)
            if index < len(holding.attended):
                holding.left.append(former)  # slices in flight may read it
            else:
                self._slots.give_up(part.session, [former])

    def stay(self, session: int, holding: holdings.Holding) -> None:
        """Its pages are on the device: those under way to another slot need none."""
        for index in [index for index in holding.moves if holding.is_on_device(index)]:
            self._slots.give_up(session, [holding.moves.pop(index)])
            self._claims.give_up(session, [holding.away[index]])
            holding.away[index] = None

    def void(self, space: int) -> list[int]:
        """What is in the tier is lost. Returns the sessions whose pages were nowhere else.

        They must be dropped before anything else changes. Copies in flight from and to it end
        as failed, and the space is known until they have.
        """
        tier = self._slots.void(space)
        self._index.void_space(tier)
        self._tenants.pop(tier, None)
        lost = []
        for session, holding in self._holdings.items():
            for index in [i for i, home in holding.moves.items() if home.tier is tier]:
                self._slots.give_up(session, [holding.moves.pop(index)])
            gone = [i for i, away in enumerate(holding.away) if away and away.tier is tier]
            arriving = holding.ins or holding.waits
            if gone and (arriving or not all(map(holding.is_on_device, gone))):
                lost.append(session)
                continue
            self._claims.give_up(session, [holding.away[index] for index in gone])
            for index in gone:
                holding.away[index] = None
        return lost

    # -- helpers, in call order --------------------------------------------------------------

    def _find_tenants(self, tier: spare.Tier) -> dict[int, list[_Tenant]]:
        """By slot: what is in the tier or under way to it, for each session that has it."""
        found: dict[int, list[_Tenant]] = {}
        for session, holding in self._holdings.items():
            for index, away in (*enumerate(holding.away), *holding.moves.items()):
                if away is not None and away.tier is tier:
                    found.setdefault(away.slot, []).append(_Tenant(session, index, away))
        return found

    def _cost(self, tenant: _Tenant) -> int:
        return _GIVE_UP_COST if self._fate(tenant) is _Fate.SPARE else _MOVE_COST

    def _fate(self, tenant: _Tenant) -> _Fate:
        holding, index, away = self._holdings.get(tenant.session), tenant.page, tenant.away
        if holding is None:
            return _Fate.GONE
        home = holding.moves.get(index)
        if home is away:
            return _Fate.WAITS  # it is still under way to the slot that it must leave
        if index >= len(holding.away) or holding.away[index] is not away:
            return _Fate.GONE
        if home is not None or away.in_flight:
            return _Fate.WAITS
        if not holding.is_on_device(index):
            return self._fate_of_shared(away)
        # Not what is being read, nor what is about to be attended here.
        is_wanted = holding.ins or holding.waits or index < holding.shed_to
        return _Fate.WAITS if is_wanted else _Fate.SPARE

    def _fate_of_shared(self, away: spare.Away) -> _Fate:
        """Of a page that is nowhere else, as far as its session knows."""
        home = self._moved.get(away)
        if home is not None and self._index.has(home):
            return _Fate.MOVED
        slots = away.tier.slots
        is_shared = slots.owner_count(away.slot) > 1
        return _Fate.WAITS if is_shared and slots.is_copying(away.slot) else _Fate.MOVES

    def _follow(self, tenant: _Tenant) -> None:
        """Its page is in its new home already."""
        session, index, away = tenant
        home = self._moved[away]
        home.tier.slots.share((home.slot,), session)
        self._holdings[session].away[index] = home
        self._slots.give_up(session, [away])

    def _let_stay(self, tier: spare.Tier, tenants: collections.deque[_Tenant]) -> None:
        """Slots that turned FREE meanwhile retire in the place of called ones: less to copy.

        Where a unit is of several slots, it is the chosen ones that must become whole.
        """
        free = min(tier.slots.free_count, len(tenants)) if tier.unit_slots == 1 else 0
        if not free:
            return
        staying: dict[int, None] = {}
        for _ in range(len(tenants)):
            tenant = tenants.popleft()
            if tenant.away.slot in staying:  # another one of it
                continue
            holding = self._holdings.get(tenant.session)
            is_moving = holding is not None and tenant.page in holding.moves
            if len(staying) == free or is_moving or self._fate(tenant) in _LEFT:
                tenants.append(tenant)
            else:
                staying[tenant.away.slot] = None
        tier.slots.restore(staying)
        tier.slots.retire(len(staying))

    def _give_up_spare(self, tenant: _Tenant) -> None:
        self._claims.give_up(tenant.session, [tenant.away])
        self._holdings[tenant.session].away[tenant.page] = None

    def _find_home(self, tenant: _Tenant) -> spare.Away | None:
        """Another slot for the page, which is under way to it from now on; None: there is none."""
        session, index, away = tenant
        holding = self._holdings[session]
        before = holding.moves.get(index - 1) or (holding.away[index - 1] if index else None)
        avoid = [away.tier]
        if away in self._failed:
            avoid.append(self._failed[away])
        home = self._claims.take_home(session, after=before, avoid=avoid)
        if home is not None:
            home.units, home.in_flight = away.units, True
            holding.moves[index] = home
        return home


def _cheapest(
    tier: spare.Tier, count: int, costs: dict[int, int], *, only_free: bool = False
) -> list[int]:
    """Slots of the units that cost the least to vacate, the highest of equal ones."""
    pool, size = tier.slots, tier.unit_slots
    units = []
    for first in range(0, pool.pages, size):
        slots = range(first, min(first + size, pool.pages))
        gone = any(pool.is_called(slot) or pool.is_retired(slot) for slot in slots)
        if not gone and not (only_free and not all(map(pool.is_free, slots))):
            units.append((sum([costs.get(slot, 0) for slot in slots]), -first, slots))
    chosen = sorted(units)[: -(-count // size)]
    return [slot for _, _, slots in chosen for slot in slots]


def _copies(moves: list[tuple[_Tenant, spare.Away]]) -> list[copying.Copy]:
    """One copy for each pair of tiers, one part for each session in it."""
    pairs: dict[tuple[spare.Tier, spare.Tier], dict[int, list[tuple[_Tenant, spare.Away]]]] = {}
    for tenant, home in moves:
        sessions = pairs.setdefault((tenant.away.tier, home.tier), {})
        sessions.setdefault(tenant.session, []).append((tenant, home))
    copies = []
    for (origin, goal), sessions in pairs.items():
        parts = tuple(
            copying.Part(session, tuple(t.page for t, _ in of), tuple(home for _, home in of))
            for session, of in sessions.items()
        )
        plan = tuple(
            types.Move(tenant.away.place, home.place, home.units)
            for of in sessions.values()
            for tenant, home in of
        )
        copies.append(copying.Copy("move", goal.name, plan, parts, origin.name))
    return copies
