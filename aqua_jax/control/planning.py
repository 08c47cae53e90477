"""Plans of copies: which pages of a session have to be copied, from where to where.

Knows: one session's pages, units in a page, slots that were given to them. Does
not know: who gets slots (`claims.py`), when a copy runs, what is in flight.

Invariant 2. A page whose away copy was made at its present units is clean and
is never sent again; a preemption sends only dirty pages. The count of final
units in a page comes from the runner (`units_in_page`), so kinds whose pages
change on every step work too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aqua_jax.control import copying, holdings, pages, spare, types

UnitsInPage = Callable[[types.Request, int, int], int]


class Planner:
    """Plans copies between the device's pool and the slots of tiers. Holds no state."""

    def __init__(self, device: pages.PagePool, units_in_page: UnitsInPage) -> None:
        self._device = device
        self._units_in_page = units_in_page

    def dirty(
        self, session: types.Session, holding: holdings.Holding, indices: range, units: int
    ) -> list[int]:
        """Those of the pages with final units that no away copy (made or under way) holds."""
        dirty = []
        for index, away in zip(indices, holding.away[indices.start : indices.stop], strict=True):
            final = self._units_in_page(session.request, index, units)
            if final and (away is None or away.units != final):
                dirty.append(index)
        return dirty

    def full_pages(self, session: types.Session, holding: holdings.Holding) -> int:
        """Pages at the start that nothing more is written to, once all dispatches completed.

        Full pages stay full, so they are counted on from those found last time.
        """
        request, units = session.request, session.planned_cached
        full, pages_there = holding.full, len(holding.away)
        while full < pages_there:
            now = self._units_in_page(request, full, units)
            if now < self._units_in_page(request, full, session.units_end):
                break
            full += 1
        holding.full = full
        return full

    def is_full(self, session: types.Session, index: int) -> bool:
        """True when the page holds something that more units would not change."""
        now = self._units_in_page(session.request, index, session.cached)
        return now > 0 and now == self._units_in_page(session.request, index, session.units_end)

    def out(
        self,
        session: types.Session,
        holding: holdings.Holding,
        indices: Sequence[int],
        units: int,
    ) -> list[copying.Copy]:
        """Copies of device pages to their slots, as they are with `units` units final."""
        for index in indices:
            away = holding.copy_of(index)
            away.units = self._units_in_page(session.request, index, units)
            away.in_flight = True  # given up if it fails
        return self._plan("out", session, holding, indices)

    def into(
        self, session: types.Session, holding: holdings.Holding, indices: Sequence[int]
    ) -> list[copying.Copy]:
        """Copies from slots to device pages that it has got for them."""
        return self._plan("in", session, holding, indices)

    def _plan(
        self,
        direction: str,
        session: types.Session,
        holding: holdings.Holding,
        indices: Sequence[int],
    ) -> list[copying.Copy]:
        """Copies of its pages between the device and their slots, one for each tier."""
        by_tier: dict[spare.Tier, list[int]] = {}
        for index in indices:
            by_tier.setdefault(holding.copy_of(index).tier, []).append(index)
        copies = []
        for tier, of_tier in by_tier.items():
            aways = tuple([holding.copy_of(index) for index in of_tier])
            moves = self._moves(direction, holding, of_tier, aways, tier.slots)
            part = copying.Part(session.id, tuple(of_tier), aways)
            copies.append(copying.Copy(direction, tier.name, moves, (part,)))
        return copies

    def _moves(
        self,
        direction: str,
        holding: holdings.Holding,
        indices: Sequence[int],
        aways: Sequence[spare.Away],
        slots: pages.PagePool,
    ) -> tuple[types.Move, ...]:
        """One for each page; there are many, so names are looked up once."""
        first, held = len(holding.attended), holding.device
        place, move = types.Place, types.Move
        space, generation = self._device.space, self._device.generation
        here = [place(space, held[index - first], generation) for index in indices]
        space, generation = slots.space, slots.generation
        there = [place(space, away.slot, generation) for away in aways]
        source, target = (here, there) if direction == "out" else (there, here)
        return tuple([move(s, t, a.units) for s, t, a in zip(source, target, aways, strict=True)])
