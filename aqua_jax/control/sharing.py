"""Prefix reuse: which of a session's pages are there already, and who waits for whose copies.

Knows: the keys of sessions' full pages, the index. Does not know: who should
run (`admission.py`), which copies are in flight, tokens.

A session that has no state begins with the longest chain of pages that the
index has: those on the device are shared as they are, those in slots are copied
in. It always computes its last known unit, which gives the next one, so a prompt
that is a whole number of cached pages computes its last page anew: that is its
private copy, and no shared page is ever written to (invariant 10).

A session that leaves takes the away copies that others have made; who comes
back takes the device pages that others have. If such a copy is still under way
it waits for that (`Holding.waits`), and what becomes of the copy becomes of it.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aqua_jax.control import copying, errors, holdings, pages, prefixes, types

PageKeys = Callable[[types.Session, int, int], Sequence[int]]
PagesNeeded = Callable[[types.Request, int], int]


class Match(NamedTuple):
    """The first pages of a session, of those that are there, and the units that they hold.

    taken: FREE pages that it takes to have them: those CACHED, and those to be copied in.
    """

    pages: int = 0
    units: int = 0
    taken: int = 0


_NONE = Match()


class Sharing:
    """Shares full pages among the sessions of one residency, whose `by_session` it reads.

    page_keys: of a session, those of full pages [first, end) of its known units; None: nothing
    is shared.
    """

    def __init__(
        self,
        device: pages.PagePool,
        by_session: dict[int, holdings.Holding],
        pages_needed: PagesNeeded,
        page_keys: PageKeys | None,
    ) -> None:
        self.index = prefixes.Index(device)
        self._device = device
        self._holdings = by_session
        self._pages_needed = pages_needed
        self._page_keys = page_keys
        self._waiters: dict[types.Place, set[int]] = {}  # by the target of a copy

    @property
    def is_on(self) -> bool:
        """True when pages are shared."""
        return self._page_keys is not None

    def match(self, session: types.Session) -> Match:
        """What a session without state would begin with."""
        if self._page_keys is None or session.sheds:
            return _NONE
        count = taken = 0
        for key in self._keys(session, self._full(session, session.known - 1)):
            entry = self.index.get(key)
            if entry is None:
                break
            if entry.page >= 0:
                taken += self._device.is_cached(entry.page)
            elif entry.can_come_back:
                taken += 1
            else:
                break
            count += 1
        return Match(count, self._units(session, count), taken) if count else _NONE

    def begin(self, session: types.Session, match: Match) -> list[int]:
        """A session without state gets the pages of its match; those to be copied in."""
        holding = self._holdings[session.id] = holdings.Holding(away=[None] * match.pages)
        for index, key in enumerate(session.page_keys[: match.pages]):
            entry = self.index.get(key)
            if entry is not None and entry.page < 0:
                self._attach(session, holding, index, entry)
        session.cached = session.planned_cached = match.units
        holding.indexed = match.pages
        return self.land(session, holding)

    def land(self, session: types.Session, holding: holdings.Holding) -> list[int]:
        """Every page but those attended away gets a device page: one that is there, or a FREE one.

        Returns the pages that are to be copied in.
        """
        first, count = len(holding.attended), len(holding.away)
        full = self._keyed(session)
        table = [-1] * (count - first)
        for index in range(first, full):
            entry = self.index.get(session.page_keys[index])
            if entry is not None and entry.page >= 0:
                table[index - first] = entry.page
                self._device.share((entry.page,), session.id)
                if entry.arriving:
                    self._wait(session, holding, self._device.place(entry.page))
        missing = [index for index, page in enumerate(table, first) if page < 0]
        for index, page in zip(
            missing, self._device.acquire(session.id, len(missing)), strict=True
        ):
            table[index - first] = page
            if index < full:
                self.index.add(session.page_keys[index], page, arriving=True)
        holding.device = table
        return missing

    def at_hand(self, session: types.Session) -> int:
        """Pages of its table for which it takes no FREE page if it joins now."""
        if session.state is types.State.WAITING:
            match = self.match(session)
            return match.pages - match.taken
        holding = self._holdings.get(session.id)
        if holding is None or holding.device:
            return len(holding.away) if holding else 0
        return len(holding.attended) + sum(
            entry.page >= 0 and not self._device.is_cached(entry.page)
            for entry in map(self.index.get, self._keys_held(session))
            if entry is not None
        )

    def register(self, session: types.Session, units: int) -> None:
        """Its pages that `units` of its known units fill are there for others from now on."""
        holding = self._holdings.get(session.id)
        if self._page_keys is None or holding is None or not holding.device or session.sheds:
            return
        full = self._full(session, min(units, session.known))
        if full > holding.indexed:
            keys = self._keys(session, full)
            for index in range(holding.indexed, len(keys)):
                self.index.add(keys[index], holding.device[index])
            holding.indexed = full

    def next_key(self, session: types.Session, units: int) -> int | None:
        """The key of the page that it fills next when `units` of its units are cached."""
        page = self._full(session, units)
        keys = self._keys(session, self._full(session, session.known))
        return keys[page] if page < len(keys) else None

    # -- away copies -------------------------------------------------------------------------

    def attach(self, session: types.Session, holding: holdings.Holding) -> None:
        """It leaves: its pages have the copies that others have made, or are making."""
        for index, entry in self._copied(session, holding):
            self._attach(session, holding, index, entry)

    def slots_spared(self, session: types.Session, holding: holdings.Holding) -> int:
        """Slots that leaving would not take, since others have them."""
        return sum(
            entry.away is not None and not entry.away.tier.slots.is_cached(entry.away.slot)
            for _, entry in self._copied(session, holding)
        )

    def is_copied(self, session: types.Session, index: int) -> bool:
        """True when somebody has, or is making, a copy of this page."""
        if index >= len(session.page_keys) or index >= self._keyed(session):
            return False
        entry = self.index.get(session.page_keys[index])
        return entry is not None and entry.is_copied

    def note_copies(
        self, session: types.Session, holding: holdings.Holding, indices: Sequence[int]
    ) -> None:
        """It makes copies of these pages."""
        if not session.page_keys:
            return
        full = self._keyed(session)
        for index in indices:
            if index < full:
                self.index.note_away(session.page_keys[index], holding.copy_of(index))

    def finish(self, copy: copying.Copy, *, ok: bool) -> list[int]:
        """A copy completed or failed; the sessions that waited for it though it is another's."""
        if not self._page_keys:
            return []
        waited: dict[int, None] = {}
        for place in (move.target for move in copy.moves):
            self.index.arrived(place, ok=ok)
            for id in sorted(self._waiters.pop(place, ())):
                waited[id] = None
                holding = self._holdings[id]
                holding.waits.discard(place)
                if not ok and copy.direction == "out":
                    _give_up(id, holding, place)
        return list(waited)

    def drop(self, session: int, holding: holdings.Holding) -> None:
        """It gives up everything: it waits for nothing any more."""
        for place in holding.waits:
            self._waiters[place].discard(session)

    def gives_up(self, session: types.Session, dropped: dict[int, int]) -> int:
        """Its device pages that nobody else has but those who drop theirs too.

        dropped: by page, how many who share it give it up; this one is added.
        """
        holding = self._holdings.get(session.id)
        if holding is None or not self.is_on:
            return len(holding.device) if holding else 0
        alone = 0
        for page in holding.device:
            owners = self._device.owner_count(page)
            if owners > 1:
                dropped[page] = owners_gone = dropped.get(page, 0) + 1
                alone += owners_gone == owners
            else:
                alone += 1
        return alone

    def check_integrity(self, sessions: Sequence[types.Session]) -> None:
        """Nobody writes to a page that others may read. Raises InternalError."""
        self.index.check_integrity()
        for place, waiters in self._waiters.items():
            for id in waiters:
                if place not in self._holdings[id].waits:
                    raise errors.InternalError(f"session {id} does not wait for {place}")
        for session in sessions:
            holding = self._holdings.get(session.id)
            if holding is None:
                continue
            if not holding.device:
                self._check_away(session, holding)
                continue
            full = self._full(session, session.planned_cached) - len(holding.attended)
            for page in holding.device[full:]:
                if self._device.is_kept(page) or self._device.owner_count(page) > 1:
                    raise errors.InternalError(
                        f"session {session.id} will write to page {page}, which owners"
                        f" {self._device.owners(page)} share or the index names"
                    )

    # -- helpers, in call order --------------------------------------------------------------

    def _check_away(self, session: types.Session, holding: holdings.Holding) -> None:
        if session.state is types.State.AWAY and any(a and a.in_flight for a in holding.away):
            raise errors.InternalError(f"session {session.id} is away before its pages are")

    def _keys(self, session: types.Session, count: int) -> Sequence[int]:
        """Those of its first `count` pages, which its known units fill."""
        keys = session.page_keys
        if count > len(keys) and self._page_keys is not None:
            keys += self._page_keys(session, len(keys), count)
        return keys if count == len(keys) else keys[:count]

    def _full(self, session: types.Session, units: int) -> int:
        """Pages that so many units fill."""
        return self._pages_needed(session.request, units + 1) - 1

    def _units(self, session: types.Session, count: int) -> int:
        """The units that fill `count` pages."""
        needed, request = self._pages_needed, session.request
        return bisect.bisect_right(
            range(1, session.known + 1), count, key=lambda units: needed(request, units)
        )

    def _keyed(self, session: types.Session) -> int:
        """Its first pages that are full and have keys."""
        if not session.page_keys:
            return 0
        return min(len(session.page_keys), self._full(session, session.planned_cached))

    def _keys_held(self, session: types.Session) -> Sequence[int]:
        return session.page_keys[: self._keyed(session)]

    def _copied(
        self, session: types.Session, holding: holdings.Holding
    ) -> list[tuple[int, prefixes.Entry]]:
        """Its pages that have no copy of their own, and of which there is one."""
        keys = enumerate(self._keys_held(session))
        found = ((i, self.index.get(key)) for i, key in keys if holding.away[i] is None)
        return [(i, entry) for i, entry in found if entry is not None and entry.is_copied]

    def _attach(
        self, session: types.Session, holding: holdings.Holding, index: int, entry: prefixes.Entry
    ) -> None:
        away = entry.away
        assert away is not None, "an entry without a copy"
        away.tier.slots.share((away.slot,), session.id)
        holding.away[index] = away
        if away.in_flight:
            self._wait(session, holding, away.place)

    def _wait(self, session: types.Session, holding: holdings.Holding, place: types.Place) -> None:
        holding.waits.add(place)
        self._waiters.setdefault(place, set()).add(session.id)


def _give_up(session: int, holding: holdings.Holding, place: types.Place) -> None:
    """The copy that it was to have there was not made."""
    for index, away in enumerate(holding.away):
        if away is not None and away.place == place:
            away.tier.slots.release((away.slot,), session)
            holding.away[index] = None
