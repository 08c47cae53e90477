"""Where each session's pages are: device, away, or both; and the plans that move them.

Knows: page tables, clean and dirty copies, copy tickets. Does not know: who
should run, clocks, what a page holds. It plans copies; the engine submits
them; `begin` and `finish` bracket each ticket. The states of one page are
drawn in `holdings.py`.

Invariant 2. A page whose away copy was made at its present units is clean and
is never sent again; a preemption sends only dirty pages. The count of final
units in a page comes from the runner (`units_in_page`), so kinds whose pages
change on every step work too.
Invariant 3. A page that leaves the device is given up only when its copy has
begun, and the device page is not FREE before the copy has completed
(invariant 1). If a copy fails, the session is lost: it recomputes.

A long session, one that the pool cannot hold whole, runs with its newest pages
on the device and its oldest in slots, where slices attend them in place
(`shed`). A page is shed once its copy has completed, and its slot is then busy
with dispatches as a device page is (invariant 1).
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Sequence

from aqua_jax.control import claims, copying, errors, holdings, pages, spare, types

PagesNeeded = Callable[[types.Request, int], int]
UnitsInPage = Callable[[types.Request, int, int], int]


class Residency:
    """The page tables of all sessions of one runner. Not thread-safe."""

    def __init__(
        self,
        device: pages.PagePool,
        tiers: Sequence[spare.Tier],
        *,
        pages_needed: PagesNeeded,
        units_in_page: UnitsInPage,
        attends_away: bool = False,
    ) -> None:
        """attends_away: slices can read full pages in the tiers' slots, without paging in."""
        self.device = device
        self.slots = spare.Slots(tiers)
        self.attends_away = attends_away
        self._moved = copying.PagedBytes({t.name: 0 for t in tiers}, {t.name: 0 for t in tiers})
        self._pages_needed = pages_needed
        self._units_in_page = units_in_page
        self._holdings: dict[int, holdings.Holding] = {}
        self._copies = copying.InFlight((device, *(tier.slots for tier in tiers)))
        self._claims = claims.Claims(self.slots)

    @property
    def tiers(self) -> tuple[spare.Tier, ...]:
        """The tiers, nearest first."""
        return self.slots.tiers

    @property
    def moved(self) -> copying.PagedBytes:
        """Pages moved so far."""
        return dataclasses.replace(self._moved, wasted=self._claims.wasted)

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
        covered, end = self.covered(session), session.units_end
        # Where all pages hold the same, as those do that it has, this is it.
        guess = session.room * count // covered if covered else 0
        if guess < end and needed(request, guess) <= count < needed(request, guess + 1):
            return guess
        return bisect.bisect_right(range(1, end + 1), count, key=lambda u: needed(request, u))

    @property
    def copies_in_flight(self) -> int:
        """Copies that were submitted and have not completed."""
        return len(self._copies)

    def table(self, session: types.Session) -> Sequence[int]:
        """Its page table, as in `LanePlan.pages`. Valid until the next call that changes it."""
        holding = self._holdings[session.id]
        return holding.table() if holding.attended else holding.device

    def held(self, session: types.Session) -> int:
        """Device pages it owns."""
        holding = self._holdings.get(session.id)
        return len(holding.device) if holding else 0

    def covered(self, session: types.Session) -> int:
        """Pages of its table: those held, and those attended away."""
        holding = self._holdings.get(session.id)
        if holding is None:
            return 0
        return len(holding.away) if holding.device else len(holding.attended)

    def grow(self, session: types.Session, count: int) -> None:
        """Extends its table to `count` pages. Raises InternalError when too few are FREE."""
        holding = self._holdings.get(session.id)
        if holding is None:
            holding = self._holdings[session.id] = holdings.Holding()
        more = count - len(holding.away)  # none of them is away but for those attended
        if more > 0:
            room = self.most_units(session, count)
            after = holding.device[-1] if holding.device else -1
            holding.device += self.device.acquire(session.id, more, after=after)
            holding.away += [None] * more
            session.room = room

    def complete_dispatch(self, dispatch: int) -> None:
        """Dispatches complete in order: no page and no slot is touched by `dispatch` any more."""
        self.device.complete_dispatch(dispatch)
        self.slots.complete_dispatch(dispatch)

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
        on_device = range(len(holding.attended), len(holding.away))
        dirty = self._dirty(session, holding, on_device, units)
        if not self._claims.take(session.id, holding, dirty):
            return None
        self._claims.withdraw(session.id)
        copies = self._plan_out(session, holding, dirty, units)
        first, leaving = len(holding.attended), set(dirty)
        clean = [page for i, page in enumerate(holding.device, first) if i not in leaving]
        holding.device, holding.shed_to, session.room = [], first, 0
        del holding.away[self.pages_for(session, units) :]
        self.device.release(clean, session.id, last_dispatch)
        # Dirty pages are let go in `begin`, once the copies are their readers.
        return [
            copy._replace(
                parts=(part._replace(release=copying.sources(copy), busy_until=last_dispatch),)
            )
            for copy in copies
            for part in copy.parts
        ]

    def slots_wanted(self, session: types.Session, *, units: int) -> int:
        """Slots that leaving would need beyond those it has."""
        holding = self._holdings[session.id]
        return holding.away[: self.pages_for(session, units)].count(None)

    @property
    def slots_free(self) -> int:
        """Slots FREE in all tiers."""
        return self.slots.free_count

    def copy_early(self, session: types.Session, *, pages_max: int) -> list[copying.Copy]:
        """Plans copies of full, final pages of a session that stays on the device.

        Uses only slots that are free: nobody gives up memory for a guess.
        """
        holding = self._holdings[session.id]
        most = min(pages_max, self.slots_free)
        only_here = (index for index, away in enumerate(holding.away) if away is None)
        full = list(itertools.islice((i for i in only_here if self._is_full(session, i)), most))
        if not full or not self._claims.take(session.id, holding, full):
            return []
        return self._plan_out(session, holding, full, session.cached)

    # -- coming back -------------------------------------------------------------------------

    def arrive(self, session: types.Session) -> list[copying.Copy]:
        """Plans the copies that bring back every page but those attended away.

        Their pages must be FREE (checked).
        """
        holding = self._holdings[session.id]
        first, count = len(holding.attended), len(holding.away)
        if holding.device or None in holding.away:
            raise errors.InternalError(f"session {session.id} is not wholly away")
        session.room = self.most_units(session, count)
        holding.device = self.device.acquire(session.id, count - first)
        return self._plan("in", session, holding, range(first, count))

    def is_arriving(self, session: types.Session) -> bool:
        """True while a copy into its pages is in flight."""
        holding = self._holdings.get(session.id)
        return bool(holding and holding.ins)

    # -- long sessions -----------------------------------------------------------------------

    def outgrows(self, request: types.Request) -> bool:
        """True when its whole state is more than the pool holds: it runs as a long session."""
        return self.request_pages(request, request.prompt_units + request.steps_max - 1) > (
            self.device.capacity
        )

    def pages_in_all(self, session: types.Session) -> int:
        """Pages of its state, wherever they are."""
        holding = self._holdings.get(session.id)
        return len(holding.away) if holding else 0

    def attended(self, session: types.Session) -> int:
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
        return max(first, self._shed_end(session, holding, len(holding.away))) - first

    def shed(self, session: types.Session, count: int) -> list[copying.Copy]:
        """Plans that up to `count` more of its oldest pages give up their device pages.

        Pages that are clean are given up now, others once the copies returned here have
        completed and `settle_shed` was called. Until they were begun it must not leave.
        """
        holding = self._holdings[session.id]
        first = max(holding.shed_to, len(holding.attended))
        end = max(first, self._shed_end(session, holding, first + count))
        units = session.planned_cached
        dirty = self._dirty(session, holding, range(first, end), units)
        self._claims.take(session.id, holding, dirty)
        copies = self._plan_out(session, holding, dirty, units)
        if copies:
            self._claims.withdraw(session.id)  # its slots are in use until they complete
        holding.shed_to = end
        self.settle_shed(session)
        return copies

    def settle_shed(self, session: types.Session) -> None:
        """Gives up the device pages that are to be shed and whose copies have completed."""
        holding = self._holdings[session.id]
        self.device.release(holding.shed(self.slots), session.id, session.last_dispatch)

    # -- giving up ---------------------------------------------------------------------------

    def drop(self, session: types.Session, *, last_dispatch: int) -> None:
        """Gives up everything: device pages and away copies. Copies in flight keep their pages."""
        session.room = 0
        holding = self._holdings.pop(session.id, None)
        if holding is None:
            return
        self._claims.withdraw(session.id)
        self.device.release(holding.device, session.id, last_dispatch)
        self._claims.give_up(session.id, holding.away, last_dispatch if holding.attended else 0)

    # -- copies in flight --------------------------------------------------------------------

    def begin(self, copy: copying.Copy, ticket: int) -> None:
        """The copy was submitted as `ticket`: its pages get their readers and writers."""
        self._copies.begin(copy, ticket)
        for part in copy.parts:
            holding = self._holdings[part.session]
            (holding.outs if copy.direction == "out" else holding.ins).add(ticket)
            self.device.release(part.release, part.session, part.busy_until)

    def finish(self, ticket: int, *, ok: bool) -> list[copying.Arrived]:
        """The copy completed: who is affected. Parts of sessions that dropped are left out."""
        copy = self._copies.end(ticket)
        if ok:
            totals = self._moved.out if copy.direction == "out" else self._moved.into
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
                    holding.copy_of(index).used = True
            if holding.device:  # not before: a slot that a planned copy uses is not to be given up
                self._claims.offer(part.session, holding)
            arrived.append(copying.Arrived(part.session, part.epoch, copy.direction, ok))
        return arrived

    def is_whole_away(self, session: types.Session) -> bool:
        """True when every page has a finished copy off the device."""
        holding = self._holdings.get(session.id)
        return bool(holding and not holding.outs and holding.away and None not in holding.away)

    def check_integrity(self) -> None:
        """Pools, tables and copies agree. Raises InternalError with the first violation."""
        pools = {pool.space: pool for pool in (self.device, *(t.slots for t in self.tiers))}
        for pool in pools.values():
            pool.check_integrity()
        seen: set[types.Place] = set()
        for session, holding in self._holdings.items():
            holding.check(session, self.slots)
            places = [types.Place(self.device.space, page) for page in holding.device]
            places += [self.slots.place(away) for away in holding.away if away is not None]
            for place in places:
                if place in seen or pools[place.space].is_free(place.index):
                    raise errors.InternalError(
                        f"session {session} holds {place}, which is free or held twice"
                    )
                seen.add(place)
            for ticket in holding.outs | holding.ins:
                if ticket not in self._copies:
                    raise errors.InternalError(
                        f"session {session} waits for copy {ticket}, which is unknown"
                    )

    # -- helpers, in call order --------------------------------------------------------------

    def _dirty(
        self, session: types.Session, holding: holdings.Holding, indices: range, units: int
    ) -> list[int]:
        """Those of the pages with final units that no away copy (made or under way) holds."""
        dirty = []
        for index, away in zip(indices, holding.away[indices.start : indices.stop], strict=True):
            final = self._units_in_page(session.request, index, units)
            if final and (away is None or away.units != final):
                dirty.append(index)
        return dirty

    def _shed_end(self, session: types.Session, holding: holdings.Holding, end: int) -> int:
        """Before which page, at most `end`, all are full and have a slot or could get one."""
        end = min(end, self._full_pages(session, holding))
        new = [i for i, away in enumerate(holding.away[:end]) if away is None]
        if len(new) <= self.slots_free:
            return end
        most = self._claims.obtainable(session.id)
        return end if len(new) <= most else new[most]

    def _full_pages(self, session: types.Session, holding: holdings.Holding) -> int:
        """Pages at the start that nothing more is written to, once all dispatches completed."""
        request, units = session.request, session.planned_cached

        def grows(index: int) -> bool:
            now = self._units_in_page(request, index, units)
            return now < self._units_in_page(request, index, session.units_end)

        return bisect.bisect_left(range(len(holding.away)), True, key=grows)

    def _is_full(self, session: types.Session, index: int) -> bool:
        """True when the page holds something that more units would not change."""
        now = self._units_in_page(session.request, index, session.cached)
        return now > 0 and now == self._units_in_page(session.request, index, session.units_end)

    def _plan_out(
        self,
        session: types.Session,
        holding: holdings.Holding,
        indices: Sequence[int],
        units: int,
    ) -> list[copying.Copy]:
        for index in indices:
            away = holding.copy_of(index)
            away.units = self._units_in_page(session.request, index, units)
            away.in_flight = True  # given up if it fails
        return self._plan("out", session, holding, indices)

    def _plan(
        self,
        direction: str,
        session: types.Session,
        holding: holdings.Holding,
        indices: Sequence[int],
    ) -> list[copying.Copy]:
        """Copies of its pages between the device and their slots, one for each tier."""
        first, out = len(holding.attended), direction == "out"
        chosen: list[tuple[list[int], list[types.Move]]] = [([], []) for _ in self.tiers]
        for index in indices:
            away = holding.copy_of(index)
            here = types.Place(self.device.space, holding.device[index - first])
            there = types.Place(self.tiers[away.tier].slots.space, away.slot)
            of_tier, moves = chosen[away.tier]
            of_tier.append(index)
            moves.append(types.Move(*((here, there) if out else (there, here)), away.units))
        return [
            copying.Copy(
                direction,
                tier.name,
                tuple(moves),
                (copying.Part(session.id, session.epoch, tuple(of_tier)),),
            )
            for tier, (of_tier, moves) in zip(self.tiers, chosen, strict=True)
            if moves
        ]

    def _note_copied_out(self, part: copying.Part, holding: holdings.Holding, ok: bool) -> None:
        for index in part.indices:
            away = holding.copy_of(index)
            if ok:
                away.in_flight = away.used = False
            else:
                self.slots.give_up(part.session, [away])
                holding.away[index] = None
