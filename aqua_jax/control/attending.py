"""Pages that slices read where they are, in slots of a tier, and not on the device.

Knows: whose pages may be attended away, which are shed next, when their device pages go. Does
not know: who needs the room (`shedding.py`), copies under way and page tables (`residency.py`).

A session that sheds runs with its newest pages on the device and its oldest full ones in slots.
A page is shed once its copy has completed; its slot is then busy with dispatches as a device
page is (invariant 1), and it is not brought back while the session keeps its state.
"""

from __future__ import annotations

from collections.abc import Mapping

from aqua_jax.control import claims, copying, holdings, pages, planning, types


class Attending:
    """The pages attended away, of all sessions of one runner."""

    def __init__(
        self,
        mode: types.AttendAway,
        device: pages.PagePool,
        held: Mapping[int, holdings.Holding],
        planner: planning.Planner,
        claimed: claims.Claims,
    ) -> None:
        self.mode = mode
        self._device = device
        self._holdings = held
        self._planner = planner
        self._claims = claimed

    @property
    def is_on(self) -> bool:
        """True when some sessions may shed."""
        return self.mode.is_on

    @property
    def is_for_all(self) -> bool:
        """True when sessions shed that the pool could hold whole."""
        return self.mode is types.AttendAway.ALL

    def pages(self, session: types.Session) -> int:
        """Pages attended away."""
        holding = self._holdings.get(session.id)
        return len(holding.attended) if holding else 0

    def leaving(self, session: types.Session) -> int:
        """Device pages that it gives up, as its oldest, once copies in flight have completed."""
        holding = self._holdings.get(session.id)
        return holding.leaving if holding else 0

    def slots_obtainable(self, session: types.Session) -> int:
        """Slots that are FREE or hold clean copies of others."""
        return self._claims.obtainable(session.id)

    def slots_kept(self, session: types.Session) -> int:
        """Its slots that others cannot obtain while it keeps its state."""
        holding = self._holdings.get(session.id)
        return self._claims.kept(session.id, holding) if holding else 0

    def sheddable(self, session: types.Session) -> int:
        """Pages not attended yet that could be: full, and with slots for them."""
        holding = self._holdings.get(session.id)
        if holding is None:
            return 0
        first = len(holding.attended)
        return max(first, self._end(session, holding, len(holding.away))) - first

    def shed(self, session: types.Session, count: int) -> list[copying.Copy]:
        """Plans that up to `count` more of its oldest pages give up their device pages.

        Pages that are clean are given up now, others once the copies returned here have
        completed and `settle` was called. Until they were begun it must not leave.
        """
        holding = self._holdings[session.id]
        first = max(holding.shed_to, len(holding.attended))
        end = max(first, self._end(session, holding, first + count))
        units = session.planned_cached
        dirty = self._planner.dirty(session, holding, range(first, end), units)
        self._claims.take(session.id, holding, dirty)
        copies = self._planner.out(session, holding, dirty, units)
        if copies:
            self._claims.withdraw(session.id)  # its slots are in use until they complete
        holding.shed_to = end
        self.settle(session)
        return copies

    def settle(self, session: types.Session) -> None:
        """Gives up the device pages that are to be shed and whose copies have completed."""
        holding = self._holdings[session.id]
        self._device.release(holding.shed(), session.id, session.last_dispatch)

    def _end(self, session: types.Session, holding: holdings.Holding, end: int) -> int:
        """Before which page, at most `end`, all are full and have a slot or could get one."""
        end = min(end, self._planner.full_pages(session, holding))
        first = len(holding.attended)  # those have theirs
        new = [i for i, away in enumerate(holding.away[first:end], first) if away is None]
        if len(new) <= self._claims.slots.free_count:
            return end
        most = self._claims.obtainable(session.id)
        return end if len(new) <= most else new[most]
