"""Where each session's pages are: device, away, or both; and the plans that move them.

Knows: page tables, tiers and their slots, clean and dirty copies, copy tickets.
Does not know: who should run, clocks, what a page holds. It plans copies;
the engine submits them; `begin` and `finish` bracket each ticket.

Invariant 2. A page whose away copy was made at its present units is clean and
is never sent again; a preemption sends only dirty pages. The count of final
units in a page comes from the runner (`units_in_page`), so kinds whose pages
change on every step work too.
Invariant 3. A page that leaves the device is given up only when its copy has
begun, and the device page is not FREE before the copy has completed
(invariant 1). If a copy fails, the session is lost: it recomputes.

One page of one session:

    ON_DEVICE --copy out--> BOTH (clean) --append--> BOTH (dirty)
        ^                    |    ^                      |
        |                    |    +------- copy out -----+
        +---- slot given up  v
                            AWAY --copy in--> BOTH (clean)
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

from aqua_jax.control import copying, errors, pages, types

PagesNeeded = Callable[[types.Request, int], int]
UnitsInPage = Callable[[types.Request, int, int], int]


@dataclasses.dataclass(slots=True)
class Tier:
    """Spare memory off the device, nearest tiers first. `name` is "peer" or "host"."""

    name: str
    slots: pages.PagePool


@dataclasses.dataclass(slots=True, eq=False)
class _Away:
    """The copy of one page in a tier. `units` is 0 until its first copy has completed."""

    tier: int
    slot: int
    units: int = 0
    read_back: bool = False


@dataclasses.dataclass(slots=True)
class _Holding:
    device: list[int] = dataclasses.field(default_factory=list)
    away: list[_Away | None] = dataclasses.field(default_factory=list)
    outs: set[int] = dataclasses.field(default_factory=set)
    ins: set[int] = dataclasses.field(default_factory=set)


class Residency:
    """The page tables of all sessions of one runner. Not thread-safe."""

    def __init__(
        self,
        device: pages.PagePool,
        tiers: Sequence[Tier],
        *,
        pages_needed: PagesNeeded,
        units_in_page: UnitsInPage,
    ) -> None:
        self.device = device
        self.tiers = tuple(tiers)
        self.moved = copying.PagedBytes({t.name: 0 for t in tiers}, {t.name: 0 for t in tiers})
        self._pages_needed = pages_needed
        self._units_in_page = units_in_page
        self._holdings: dict[int, _Holding] = {}
        self._copies: dict[int, copying.Copy] = {}
        self._cached_away: dict[
            int, None
        ] = {}  # sessions on the device with away copies, oldest first

    # -- the device side ---------------------------------------------------------------------

    def pages_for(self, session: types.Session, units: int) -> int:
        """Pages that `units` units of the session need."""
        return self._pages_needed(session.request, units)

    def request_pages(self, request: types.Request, units: int) -> int:
        """Pages that `units` units of such a request would need."""
        return self._pages_needed(request, units)

    def most_units(self, session: types.Session, count: int) -> int:
        """The most units that `count` pages would hold, of those that it may ever have."""
        request, needed = session.request, self._pages_needed
        held, end = self.held(session), session.units_end
        # Where all pages hold the same, as those do that it owns, this is it.
        guess = session.room * count // held if held else 0
        if guess < end and needed(request, guess) <= count < needed(request, guess + 1):
            return guess
        return bisect.bisect_right(range(1, end + 1), count, key=lambda u: needed(request, u))

    @property
    def copies_in_flight(self) -> int:
        """Copies that were submitted and have not completed."""
        return len(self._copies)

    def table(self, session: types.Session) -> Sequence[int]:
        """Its device pages in order. The live list: valid until the next call that changes it."""
        return self._holdings[session.id].device

    def held(self, session: types.Session) -> int:
        """Device pages it owns."""
        holding = self._holdings.get(session.id)
        return len(holding.device) if holding else 0

    def grow(self, session: types.Session, count: int) -> None:
        """Extends its table to `count` pages. Raises InternalError when too few are FREE."""
        holding = self._holdings.get(session.id)
        if holding is None:
            holding = self._holdings[session.id] = _Holding()
        more = count - len(holding.device)
        if more > 0:
            room = self.most_units(session, count)
            holding.device += self.device.acquire(session.id, more)
            holding.away += [None] * (count - len(holding.away))
            session.room = room

    # -- leaving -----------------------------------------------------------------------------

    def leave(
        self, session: types.Session, *, units: int, last_dispatch: int
    ) -> list[copying.Copy] | None:
        """Plans the copies that take a session off the device; None when the tiers lack room.

        units: those final once `last_dispatch` has completed. Clean pages cost
        nothing. The device pages are given up: they turn FREE when the copies
        and the dispatch have completed.
        """
        holding = self._holdings[session.id]
        dirty = self._dirty(session, holding, units)
        if not self._find_slots(session, holding, dirty):
            return None
        self._cached_away.pop(session.id, None)
        device, holding.device, session.room = holding.device, [], 0
        del holding.away[self.pages_for(session, units) :]
        clean = set(range(len(device))) - set(dirty)
        self.device.release([device[i] for i in sorted(clean)], session.id, last_dispatch)
        # Dirty pages are let go in `begin`, once the copies are their readers.
        return [
            copy._replace(
                parts=(part._replace(release=copying.sources(copy), busy_until=last_dispatch),)
            )
            for copy in self._plan_out(session, holding, dirty, units, device)
            for part in copy.parts
        ]

    def slots_wanted(self, session: types.Session, *, units: int) -> int:
        """Slots that leaving would need beyond those it has."""
        holding = self._holdings[session.id]
        return holding.away[: self.pages_for(session, units)].count(None)

    @property
    def slots_free(self) -> int:
        """Slots FREE in all tiers."""
        return sum(tier.slots.free_count for tier in self.tiers)

    def copy_early(self, session: types.Session, *, pages_max: int) -> list[copying.Copy]:
        """Plans copies of full, final pages of a session that stays on the device.

        Uses only slots that are free: nobody gives up memory for a guess.
        """
        holding = self._holdings[session.id]
        most = min(pages_max, self.slots_free)
        only_here = (index for index, away in enumerate(holding.away) if away is None)
        full = list(itertools.islice((i for i in only_here if self._is_full(session, i)), most))
        if not full or not self._find_slots(session, holding, full):
            return []
        return self._plan_out(session, holding, full, session.cached, holding.device)

    # -- coming back -------------------------------------------------------------------------

    def arrive(self, session: types.Session) -> list[copying.Copy]:
        """Plans the copies that bring every page back. The pages must be FREE (checked)."""
        holding = self._holdings[session.id]
        count = len(holding.away)
        if holding.device or None in holding.away:
            raise errors.InternalError(f"session {session.id} is not wholly away")
        session.room = self.most_units(session, count)
        holding.device = self.device.acquire(session.id, count)
        by_tier: dict[int, list[int]] = {}
        for index, away in enumerate(holding.away):
            assert away is not None
            by_tier.setdefault(away.tier, []).append(index)
        planned = []
        for tier, indices in sorted(by_tier.items()):
            moves = []
            for index in indices:
                away = _known(holding.away[index])
                source, target = self._slot_place(away), self._page_place(holding.device[index])
                moves.append(types.Move(source, target, away.units))
            part = copying.Part(session.id, session.epoch, tuple(indices))
            planned.append(copying.Copy("in", self.tiers[tier].name, tuple(moves), (part,)))
        return planned

    def is_arriving(self, session: types.Session) -> bool:
        """True while a copy into its pages is in flight."""
        holding = self._holdings.get(session.id)
        return bool(holding and holding.ins)

    # -- giving up ---------------------------------------------------------------------------

    def drop(self, session: types.Session, *, last_dispatch: int) -> None:
        """Gives up everything: device pages and away copies. Copies in flight keep their pages."""
        session.room = 0
        holding = self._holdings.pop(session.id, None)
        if holding is None:
            return
        self._cached_away.pop(session.id, None)
        self.device.release(holding.device, session.id, last_dispatch)
        self._release_slots(session.id, holding.away)

    # -- copies in flight --------------------------------------------------------------------

    def begin(self, copy: copying.Copy, ticket: int) -> None:
        """The copy was submitted as `ticket`: its pages get their readers and writers."""
        source = self._pool(copy.moves[0].source.space)
        target = self._pool(copy.moves[0].target.space)
        source.begin_read([m.source.index for m in copy.moves], ticket)
        target.begin_write([m.target.index for m in copy.moves], ticket)
        self._copies[ticket] = copy
        for part in copy.parts:
            holding = self._holdings[part.session]
            (holding.outs if copy.direction == "out" else holding.ins).add(ticket)
            self.device.release(part.release, part.session, part.busy_until)

    def finish(self, ticket: int, *, ok: bool) -> list[copying.Arrived]:
        """The copy completed: who is affected. Parts of sessions that dropped are left out."""
        copy = self._copies.pop(ticket)
        self._pool(copy.moves[0].source.space).end_copy(ticket)
        self._pool(copy.moves[0].target.space).end_copy(ticket)
        if ok:
            totals = self.moved.out if copy.direction == "out" else self.moved.into
            totals[copy.tier] += len(copy.moves)
        arrived = []
        for part in copy.parts:
            holding = self._holdings.get(part.session)
            tickets = (
                (holding.outs if copy.direction == "out" else holding.ins) if holding else None
            )
            if holding is None or tickets is None or ticket not in tickets:
                continue  # invariant 6: it gave up these pages meanwhile
            tickets.discard(ticket)
            if copy.direction == "out":
                self._note_copied_out(part, holding, ok)
            elif ok:
                for index in part.indices:
                    _known(holding.away[index]).read_back = True
            if holding.device:  # not before: a slot that a planned copy uses is not to be given up
                self._cached_away[part.session] = None
            arrived.append(copying.Arrived(part.session, part.epoch, copy.direction, ok))
        return arrived

    def is_whole_away(self, session: types.Session) -> bool:
        """True when every page has a finished copy off the device."""
        holding = self._holdings.get(session.id)
        return bool(holding and not holding.outs and holding.away and None not in holding.away)

    def check_integrity(self) -> None:
        """Pools, tables and copies agree. Raises InternalError with the first violation."""
        for pool in (self.device, *(t.slots for t in self.tiers)):
            pool.check_integrity()
        seen: set[int] = set()
        for session, holding in self._holdings.items():
            if len(holding.device) not in (0, len(holding.away)):
                raise errors.InternalError(
                    f"session {session} has {len(holding.device)} device pages"
                    f" and {len(holding.away)} in all"
                )
            for page in holding.device:
                if page in seen or self.device.is_free(page):
                    raise errors.InternalError(
                        f"session {session} holds page {page}, which is free or held twice"
                    )
                seen.add(page)
            for index, away in enumerate(holding.away):
                if away is not None and self.tiers[away.tier].slots.is_free(away.slot):
                    raise errors.InternalError(
                        f"session {session} keeps page {index} in a free slot"
                    )
            for ticket in holding.outs | holding.ins:
                if ticket not in self._copies:
                    raise errors.InternalError(
                        f"session {session} waits for copy {ticket}, which is unknown"
                    )

    # -- helpers, in call order --------------------------------------------------------------

    def _dirty(self, session: types.Session, holding: _Holding, units: int) -> list[int]:
        """Indices of pages with final units that no away copy (made or under way) holds."""
        dirty = []
        for index, away in enumerate(holding.away):
            final = self._units_in_page(session.request, index, units)
            if final and (away is None or away.units != final):
                dirty.append(index)
        return dirty

    def _is_full(self, session: types.Session, index: int) -> bool:
        """True when the page holds something that more units would not change."""
        now = self._units_in_page(session.request, index, session.cached)
        return now > 0 and now == self._units_in_page(session.request, index, session.units_end)

    def _find_slots(
        self, session: types.Session, holding: _Holding, indices: Iterable[int]
    ) -> bool:
        """Gives each page a slot, nearest tier first; all or nothing."""
        new = [i for i in indices if holding.away[i] is None]
        short = len(new) - self.slots_free
        if short > 0:
            self._give_up_clean_copies(session.id, short)
        if len(new) > self.slots_free:
            return False
        position = 0
        for number, tier in enumerate(self.tiers):
            take = min(tier.slots.free_count, len(new) - position)
            for slot in tier.slots.acquire(session.id, take) if take else ():
                holding.away[new[position]] = _Away(number, slot)
                position += 1
        return True

    def _give_up_clean_copies(self, keep: int, count: int) -> None:
        """Frees slots of copies whose pages are on the device too, oldest sessions first."""
        for session in list(self._cached_away):
            holding = self._holdings[session]
            if session == keep or holding.outs or holding.ins:
                continue
            count -= self._release_slots(session, holding.away)
            holding.away = [None] * len(holding.away)
            del self._cached_away[session]
            if count <= 0:
                return

    def _plan_out(
        self,
        session: types.Session,
        holding: _Holding,
        indices: list[int],
        units: int,
        device: Sequence[int],
    ) -> list[copying.Copy]:
        by_tier: dict[int, list[int]] = {}
        for index in indices:
            by_tier.setdefault(_known(holding.away[index]).tier, []).append(index)
        planned = []
        for tier, chosen in sorted(by_tier.items()):
            moves = []
            for index in chosen:
                away = _known(holding.away[index])
                # Taken back if the copy fails.
                away.units = self._units_in_page(session.request, index, units)
                source, target = self._page_place(device[index]), self._slot_place(away)
                moves.append(types.Move(source, target, away.units))
            part = copying.Part(session.id, session.epoch, tuple(chosen))
            planned.append(copying.Copy("out", self.tiers[tier].name, tuple(moves), (part,)))
        return planned

    def _note_copied_out(self, part: copying.Part, holding: _Holding, ok: bool) -> None:
        for index in part.indices:
            away = _known(holding.away[index])
            if ok:
                away.read_back = False
            else:
                self.tiers[away.tier].slots.release([away.slot], part.session)
                holding.away[index] = None

    def _release_slots(self, session: int, aways: Iterable[_Away | None]) -> int:
        """Gives up the slots of its away copies; returns how many there were."""
        by_tier: dict[int, list[int]] = {}
        for away in aways:
            if away is not None:
                by_tier.setdefault(away.tier, []).append(away.slot)
                self.moved.wasted += not away.read_back
        for tier, slots in by_tier.items():
            self.tiers[tier].slots.release(slots, session)
        return sum(map(len, by_tier.values()))

    def _page_place(self, page: int) -> types.Place:
        return types.Place(self.device.space, page)

    def _slot_place(self, away: _Away) -> types.Place:
        return types.Place(self.tiers[away.tier].slots.space, away.slot)

    def _pool(self, space: int) -> pages.PagePool:
        for pool in (self.device, *(t.slots for t in self.tiers)):
            if pool.space == space:
                return pool
        raise errors.InternalError(f"no pool has space {space}")


def _known(away: _Away | None) -> _Away:
    assert away is not None, "a page without an away copy"
    return away
