"""Where each session's pages are: device, away, or both; and the plans that move them.

Knows: page tables, clean and dirty copies, copy tickets. Does not know: who
should run, clocks, what a page holds. It plans copies; the engine submits
them; `begin` and `finish` bracket each ticket. The states of one page are
drawn in `holdings.py`.

Invariant 3. A page that leaves the device is given up only when its copy has
begun, and the device page is not FREE before the copy has completed
(invariant 1). If a copy fails, the session is lost: it recomputes. Tiers come
and go: what leaves a slot for another is in `relocation.py`.
Invariant 6. A completion changes only pages that wait for this very copy.

What runs with its oldest pages in slots is in `attending.py`.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Sequence

from aqua_jax.control import (
    attending,
    claims,
    copying,
    errors,
    holdings,
    pages,
    planning,
    relocation,
    sharing,
    spare,
    types,
)


class Residency:
    """The page tables of all sessions of one runner. Not thread-safe."""

    def __init__(
        self,
        device: pages.PagePool,
        tiers: Sequence[spare.Tier],
        *,
        pages_needed: sharing.PagesNeeded,
        units_in_page: planning.UnitsInPage,
        attend_away: types.AttendAway = types.AttendAway.OFF,
        page_keys: sharing.PageKeys | None = None,
    ) -> None:
        """attend_away: whose pages slices read in the tiers' slots, without paging them in.

        page_keys: of a session, first and end, content addresses of its full pages, by which
        they are shared; None: none is.
        """
        self.device = device
        self.slots = spare.Slots(tiers)
        self._moved = copying.PagedBytes()
        self._pages_needed = pages_needed
        self._planner = planning.Planner(device, units_in_page)
        self._holdings: dict[int, holdings.Holding] = {}
        self._copies = copying.InFlight(device, self.slots)
        self._claims = claims.Claims(self.slots)
        self.attending = attending.Attending(
            attend_away, device, self._holdings, self._planner, self._claims
        )
        self.sharing = sharing.Sharing(device, self._holdings, pages_needed, page_keys)
        self.relocation = relocation.Relocation(self._holdings, self._claims, self.sharing.index)

    @property
    def tiers(self) -> tuple[spare.Tier, ...]:
        """The tiers, nearest first."""
        return self.slots.tiers

    @property
    def moved(self) -> copying.PagedBytes:
        """Pages moved so far, by the names of all tiers that there are or that were used."""
        for tier in self.tiers:
            self._moved.know(tier.name)
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

    def outgrows(self, request: types.Request) -> bool:
        """True when its whole state is more than the pool holds."""
        return self.request_pages(request, request.prompt_units + request.steps_max - 1) > (
            self.device.capacity_most
        )

    def pages_in_all(self, session: types.Session) -> int:
        """Pages of its state, wherever they are."""
        holding = self._holdings.get(session.id)
        return len(holding.away) if holding else 0

    @property
    def copies_in_flight(self) -> int:
        """Copies that were submitted and have not completed."""
        return len(self._copies)

    @property
    def waits_in_flight(self) -> bool:
        """True when some are to or from the device, so that somebody may wait for them."""
        return len(self._copies) > self._copies.moves

    @property
    def pages_moving(self) -> int:
        """Pages under way from slot to slot."""
        return self._copies.pages_moving

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

    def begin_with(self, session: types.Session, count: int) -> list[copying.Copy]:
        """A session without state takes `count` FREE pages, behind those that it can reuse.

        What it reuses counts as cached. Returns the copies that it must wait for.
        """
        copies: list[copying.Copy] = []
        match = self.sharing.match(session)
        if match.pages:
            missing = self.sharing.begin(session, match)
            holding = self._holdings[session.id]
            session.room = match.units
            copies = self._planner.into(session, holding, missing)
        self.grow(session, match.pages + count - match.taken)
        return copies

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
        if self.sharing.is_on:
            self.sharing.attach(session, holding)
        on_device = range(len(holding.attended), len(holding.away))
        dirty = self._planner.dirty(session, holding, on_device, units)
        if not self._claims.take(session.id, holding, dirty):
            return None
        self._claims.withdraw(session.id)
        copies = self._planner.out(session, holding, dirty, units)
        self.sharing.note_copies(session, holding, dirty)
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
        wanted = holding.away[: self.pages_for(session, units)].count(None)
        if wanted and self.sharing.is_on:
            wanted -= self.sharing.slots_spared(session, holding)
        return wanted

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
        all_full = (index for index in only_here if self._planner.is_full(session, index))
        not_copied = (i for i in all_full if not self.sharing.is_copied(session, i))
        full = list(itertools.islice(not_copied, most))
        if not full or not self._claims.take(session.id, holding, full):
            return []
        copies = self._planner.out(session, holding, full, session.cached)
        self.sharing.note_copies(session, holding, full)
        return copies

    # -- coming back -------------------------------------------------------------------------

    def arrive(self, session: types.Session) -> list[copying.Copy]:
        """Plans the copies that bring back every page but those attended away.

        Their pages must be FREE (checked).
        """
        holding = self._holdings[session.id]
        if holding.device or None in holding.away:
            raise errors.InternalError(f"session {session.id} is not wholly away")
        session.room = self.most_units(session, len(holding.away))
        missing = self.sharing.land(session, holding)
        if not (missing or holding.waits):  # others have all of it on the device
            self.relocation.stay(session.id, holding)
        return self._planner.into(session, holding, missing)

    def is_arriving(self, session: types.Session) -> bool:
        """True while a copy into its pages, or into one that it shares, is in flight."""
        holding = self._holdings.get(session.id)
        return bool(holding and (holding.ins or holding.waits))

    # -- giving up ---------------------------------------------------------------------------

    def drop(self, session: types.Session, *, last_dispatch: int) -> None:
        """Gives up everything: device pages and away copies. Copies in flight keep their pages."""
        session.room = 0
        holding = self._holdings.pop(session.id, None)
        if holding is None:
            return
        self._claims.withdraw(session.id)
        self.sharing.drop(session.id, holding)
        self.device.release(holding.device, session.id, last_dispatch)
        read_until = last_dispatch if holding.attended else 0
        self._claims.give_up(session.id, holding.away, read_until)
        self.slots.give_up(session.id, holding.left, read_until)
        self.slots.give_up(session.id, holding.moves.values())

    def settle_moves(self, session: types.Session) -> None:
        """Gives up the slots that its attended pages have left: slices in flight may read them."""
        holding = self._holdings[session.id]
        left, holding.left = holding.left, []
        self.slots.give_up(session.id, left, session.last_dispatch)

    # -- copies in flight --------------------------------------------------------------------

    def begin(self, copy: copying.Copy, ticket: int) -> None:
        """The copy was submitted as `ticket`: its pages get their readers and writers."""
        self._copies.begin(copy, ticket)
        for part in copy.parts:
            if copy.direction != "move":
                holding = self._holdings[part.session]
                (holding.outs if copy.direction == "out" else holding.ins).add(ticket)
            self.device.release(part.release, part.session, part.busy_until)

    def finish(self, ticket: int, *, ok: bool) -> list[copying.Arrived]:
        """The copy completed: who is affected. Parts of sessions that dropped are left out."""
        copy = self._copies.end(ticket)
        ok = ok and all(self._is_there(place) for place in copy.moves[0][:2])
        if ok:
            self._moved.add(copy)
        waited = self.sharing.finish(copy, ok=ok)
        arrived = []
        for part in copy.parts:
            holding = self._holdings.get(part.session)
            if holding is not None:
                arrived += self._finish(copy.direction, ticket, part, holding, ok)
        for id in waited:
            self._settle(id, self._holdings[id])
            arrived.append(copying.Arrived(id, copy.direction, ok))
        return arrived

    def is_whole_away(self, session: types.Session) -> bool:
        """True when every page has a finished copy off the device."""
        holding = self._holdings.get(session.id)
        if holding is None or holding.outs or holding.waits:
            return False
        return bool(holding.away) and None not in holding.away

    def check_integrity(self, sessions: Sequence[types.Session] = ()) -> None:
        """Pools, tables of `sessions` and copies agree. Raises InternalError."""
        pools = [self.device, *self.slots.pools()]
        for pool in pools:
            pool.check_integrity()
        self.sharing.check_integrity(sessions)
        for session, holding in self._holdings.items():
            holding.check(session)
            holding.check_owned(session, pools)
            for ticket in holding.outs | holding.ins:
                if ticket not in self._copies:
                    raise errors.InternalError(f"session {session} waits for unknown copy {ticket}")

    # -- helpers, in call order --------------------------------------------------------------

    def _is_there(self, place: types.Place) -> bool:
        """False for a place in a grant that was lost meanwhile."""
        pools = (self.device, *(tier.slots for tier in self.tiers))
        return any((p.space, p.generation) == (place.space, place.generation) for p in pools)

    def _finish(
        self, direction: str, ticket: int, part: copying.Part, holding: holdings.Holding, ok: bool
    ) -> list[copying.Arrived]:
        """One session's part of a copy; what it means for the session, if anything."""
        if direction == "move":
            self.relocation.finish(part, holding, ok=ok)
            return [copying.Arrived(part.session, direction, ok)]
        tickets = holding.outs if direction == "out" else holding.ins
        if ticket not in tickets:
            return []  # invariant 6: it gave up these pages meanwhile
        tickets.discard(ticket)
        if direction == "out":
            ok = self._note_copied_out(part, holding, ok)
        elif ok:
            self._note_copied_in(part, holding)
        self._settle(part.session, holding)
        return [copying.Arrived(part.session, direction, ok)]

    def _settle(self, session: int, holding: holdings.Holding) -> None:
        """A copy that it waited for has completed."""
        if not holding.device:
            return
        if not (holding.ins or holding.waits):
            self.relocation.stay(session, holding)
        # Not before: a slot that a planned copy uses is not to be given up.
        self._claims.offer(session, holding)

    def _note_copied_out(self, part: copying.Part, holding: holdings.Holding, ok: bool) -> bool:
        """False when a page that waits for this copy has none now."""
        waiting = [
            (index, away)
            for index, away in zip(part.indices, part.aways, strict=True)
            if index < len(holding.away) and holding.away[index] is away  # invariant 6
        ]
        for index, away in waiting:
            if ok:
                away.in_flight = away.used = False
            else:
                self.slots.give_up(part.session, [away])
                holding.away[index] = None
        return ok or not waiting

    def _note_copied_in(self, part: copying.Part, holding: holdings.Holding) -> None:
        for index in part.indices:
            holding.copy_of(index).used = True
