"""Slots that are called back or lost: who leaves, what is copied first, what is given up."""

from __future__ import annotations

import pytest

from aqua_jax.control import copying, errors, pages, spare, types
from tests.control import desk

LENT = 5  # the space of the grant


class Home:
    """A residency with a grant and a host tier; copies complete when told to."""

    def __init__(self, *, lent: int = 6, host: int = 8, unit_slots: int = 1) -> None:
        self.memory = desk.make_memory(12, {"host": host}, attend_away=types.AttendAway.LONG)
        self.lend(lent, unit_slots=unit_slots)
        self.ticket = 0
        self.tickets: list[int] = []  # of the moves planned last

    def lend(self, count: int, *, space: int = LENT, generation: int = 1, **fields: int) -> None:
        slots = pages.PagePool(space, count, generation=generation)
        self.memory.slots.add(spare.Tier("peer", slots, **fields))

    @property
    def lent(self) -> pages.PagePool:
        return self.memory.slots.of(LENT).slots

    def session(self, count: int, id: int = 1) -> types.Session:
        """A session with `count` full pages on the device."""
        session = types.Session(id, desk.make_request(4 * count, 8), 0.0)
        session.cached = session.planned_cached = 4 * count
        self.memory.grow(session, count)
        return session

    def away(self, count: int, id: int = 1) -> types.Session:
        """A session with `count` pages away."""
        session = self.session(count, id)
        copies = self.memory.leave(session, units=session.cached, last_dispatch=0)
        assert copies is not None
        self.finish(self.begin(copies))
        return session

    def begin(self, copies: list[copying.Copy]) -> list[int]:
        first = self.ticket + 1
        for copy in copies:
            self.ticket += 1
            self.memory.begin(copy, self.ticket)
        self.memory.check_integrity()
        return list(range(first, self.ticket + 1))

    def finish(self, tickets: list[int], *, ok: bool = True) -> list[copying.Arrived]:
        return [one for ticket in tickets for one in self.memory.finish(ticket, ok=ok)]

    def relocate(self, pages_max: int = 64) -> list[copying.Copy]:
        copies = self.memory.relocation.plan(pages_max)
        self.tickets = self.begin(copies) or self.tickets
        return copies

    def tiers(self, session: types.Session) -> list[str]:
        """The tier of each copy that a session has; "": none."""
        return [away.tier.name if away else "" for away in self.memory._holdings[session.id].away]


def count_moves(copies: list[copying.Copy]) -> list[tuple[str, str, int]]:
    return [(copy.origin, copy.tier, len(copy.moves)) for copy in copies]


def test_free_slots_retire_at_once_and_the_rest_stays_in_use() -> None:
    home = Home()
    home.away(2)
    assert home.memory.relocation.call_back(LENT, 3) == 3
    assert (home.lent.retired_count, home.lent.free_count, home.lent.called_count) == (3, 1, 0)
    assert home.memory.relocation.plan(64) == []
    assert home.memory.relocation.call_back(LENT, 9) == 3  # all there are
    assert (home.lent.retired_count, home.lent.called_count) == (4, 2)
    assert home.memory.slots_free == 8


def test_the_old_slot_is_given_up_once_the_copy_to_the_new_home_is_complete() -> None:
    home = Home()
    session = home.away(3)
    home.memory.relocation.call_back(LENT, 6)
    assert count_moves(home.relocate()) == [("peer", "host", 3)]
    assert (home.lent.retired_count, home.lent.called_count) == (3, 3)
    assert home.tiers(session) == ["peer"] * 3  # it could still come from there
    assert home.relocate() == []  # they are under way
    home.finish(home.tickets)
    assert home.tiers(session) == ["host"] * 3
    assert home.lent.retired_count == 6
    assert home.memory.moved.relocated == {"host": 3, "peer": 0}
    assert home.memory.slots.remove(LENT).slots.space == LENT
    assert home.memory.is_whole_away(session)
    home.memory.check_integrity()


def test_another_grant_with_room_comes_before_the_host() -> None:
    home = Home()
    home.away(4)
    home.lend(3, space=6, generation=2)
    home.memory.relocation.call_back(LENT, 6)
    assert count_moves(home.relocate()) == [("peer", "peer", 3), ("peer", "host", 1)]


def test_a_budget_bounds_what_moves_at_once() -> None:
    home = Home()
    home.away(5)
    home.memory.relocation.call_back(LENT, 6)
    assert count_moves(home.relocate(2)) == [("peer", "host", 2)]
    assert count_moves(home.relocate(2)) == [("peer", "host", 2)]
    assert count_moves(home.relocate(2)) == [("peer", "host", 1)]


def test_a_copy_whose_page_is_on_the_device_is_given_up_not_moved() -> None:
    home = Home()
    session = home.session(3)
    home.finish(home.begin(home.memory.copy_early(session, pages_max=8)))
    home.memory.relocation.call_back(LENT, 6)
    assert home.relocate() == []
    assert home.tiers(session) == [""] * 3
    assert home.lent.retired_count == 6


def test_a_copy_into_the_slot_is_waited_for() -> None:
    home = Home()
    session = home.session(3)
    leaving = home.begin(home.memory.leave(session, units=12, last_dispatch=0) or [])
    home.memory.relocation.call_back(LENT, 6)
    assert home.relocate() == []
    home.finish(leaving)
    assert count_moves(home.relocate()) == [("peer", "host", 3)]


def test_a_failed_move_is_tried_again_elsewhere() -> None:
    home = Home(lent=2)
    session = home.away(2)
    home.lend(2, space=6, generation=2)
    home.memory.relocation.call_back(LENT, 2)
    (copy,) = home.relocate()
    assert copy.moves[0].target.space == 6
    (arrived,) = home.finish(home.tickets, ok=False)
    assert not arrived.ok
    home.memory.check_integrity()
    assert home.tiers(session) == ["peer"] * 2
    assert count_moves(home.relocate()) == [("peer", "host", 2)]
    home.finish(home.tickets)
    assert home.memory.moved.relocated == {"host": 2, "peer": 0}


def test_it_may_arrive_from_the_old_slot_and_then_needs_no_new_one() -> None:
    home = Home()
    session = home.away(2)
    home.memory.relocation.call_back(LENT, 6)
    home.relocate()
    moving = home.tickets
    arriving = home.begin(home.memory.arrive(session))
    home.finish(arriving)
    home.memory.check_integrity()
    assert home.tiers(session) == ["", ""]
    assert (home.lent.called_count, home.memory.slots_free) == (2, 6)  # until the move is over
    home.finish(moving)
    assert (home.lent.retired_count, home.memory.slots_free) == (6, 8)


def test_it_may_arrive_from_the_old_slot_after_it_has_moved() -> None:
    home = Home()
    session = home.away(2)
    home.memory.relocation.call_back(LENT, 6)
    home.relocate()
    moving = home.tickets
    arriving = home.begin(home.memory.arrive(session))
    home.finish(moving)
    assert home.tiers(session) == ["host", "host"]
    assert home.lent.called_count == 2  # the copy in reads them
    home.finish(arriving)
    assert home.lent.retired_count == 6
    home.memory.check_integrity()


@pytest.mark.parametrize("ok", [True, False])
def test_who_ends_while_it_moves_is_not_heard_of_again(ok: bool) -> None:
    home = Home()
    session = home.away(2)
    home.memory.relocation.call_back(LENT, 6)
    home.relocate()
    home.memory.drop(session, last_dispatch=0)
    assert (home.lent.called_count, home.memory.slots_free) == (2, 6)
    assert home.finish(home.tickets, ok=ok) == []
    assert (home.lent.retired_count, home.memory.slots_free) == (6, 8)
    home.memory.check_integrity()


def test_what_is_attended_is_read_in_the_old_slot_by_slices_in_flight() -> None:
    home = Home()
    session = home.session(6)
    session.sheds = True
    home.finish(home.begin(home.memory.attending.shed(session, 3)))
    home.memory.attending.settle(session)
    session.last_dispatch = 4  # it reads the slots of the grant
    home.memory.relocation.call_back(LENT, 6)
    home.relocate()
    before = list(home.memory.table(session))
    home.finish(home.tickets)
    home.memory.settle_moves(session)
    home.memory.check_integrity()
    after = list(home.memory.table(session))
    assert [types.entry_place(entry).space for entry in (*before[:3], *after[:3])] == [
        *[LENT] * 3,
        *[1] * 3,
    ]
    assert home.lent.called_count == 3
    home.memory.complete_dispatch(4)
    assert home.lent.retired_count == 6


def test_slots_that_turn_free_retire_in_the_place_of_those_in_use() -> None:
    home = Home()
    first, second = home.away(3), home.away(3, id=2)
    home.memory.relocation.call_back(LENT, 3)
    assert home.lent.called_count == 3
    called = first if home.lent.is_called(0) else second
    home.memory.drop(second if called is first else first, last_dispatch=0)
    assert home.relocate() == []
    assert (home.lent.retired_count, home.lent.called_count, home.lent.capacity) == (3, 0, 3)


def test_units_are_called_whole_and_the_cheapest_first() -> None:
    home = Home(lent=6, unit_slots=2)
    stays = home.away(1, id=1)
    home.away(2, id=2)
    home.memory.drop(stays, last_dispatch=0)  # slots 1 and 2 are in use, units 0 and 1 half full
    assert home.memory.relocation.call_back(LENT, 3) == 4
    assert [slot for slot in range(6) if home.lent.is_retired(slot)] == [3, 4, 5]
    assert home.lent.is_called(2)
    assert home.memory.slots_free == 9  # slot 0 and the host's
    assert count_moves(home.relocate()) == [("peer", "host", 1)]


def test_without_room_they_stay_and_are_named() -> None:
    home = Home(host=1)
    first, second = home.away(2), home.away(2, id=2)
    home.memory.relocation.call_back(LENT, 6)
    assert count_moves(home.relocate()) == [("peer", "host", 1)]
    assert home.relocate() == []
    assert home.memory.relocation.homeless() == [first.id, second.id]
    home.memory.drop(second, last_dispatch=0)  # the highest slots are called first, and move first
    home.finish(home.tickets)
    assert count_moves(home.relocate()) == [("peer", "host", 1)]
    assert home.memory.relocation.homeless() == [first.id]


def test_clean_copies_of_others_give_way() -> None:
    home = Home(lent=2, host=2)
    home.away(2)
    other = home.session(2, id=2)
    home.finish(home.begin(home.memory.copy_early(other, pages_max=8)))
    home.memory.relocation.call_back(LENT, 2)
    assert count_moves(home.relocate()) == [("peer", "host", 2)]
    assert home.tiers(other) == ["", ""]


def test_slots_called_back_count_for_nobody() -> None:
    home = Home(lent=2, host=1)
    other = home.session(2)
    home.finish(home.begin(home.memory.copy_early(other, pages_max=2)))
    newcomer = home.session(3, id=2)
    assert home.memory.attending.slots_obtainable(newcomer) == 3
    home.memory.relocation.call_back(LENT, 2)
    assert (
        home.memory.attending.slots_obtainable(newcomer),
        home.memory.attending.slots_kept(other),
    ) == (1, 0)
    assert home.memory.leave(newcomer, units=12, last_dispatch=0) is None


# -- homes that are lost -------------------------------------------------------------------------


def test_a_lost_home_takes_what_was_nowhere_else() -> None:
    home = Home(lent=4)
    away, clean = home.away(2), home.session(2, id=2)
    home.finish(home.begin(home.memory.copy_early(clean, pages_max=2)))
    assert home.memory.relocation.void(LENT) == [away.id]
    home.memory.drop(away, last_dispatch=0)
    home.memory.check_integrity()
    assert home.tiers(clean) == ["", ""]
    assert [tier.name for tier in home.memory.tiers] == ["host"]
    home.lend(2, generation=2)  # nothing touched the space any more


def test_the_space_of_a_lost_home_is_not_used_while_anything_touches_it() -> None:
    home = Home()
    session = home.session(2)
    early = home.begin(home.memory.copy_early(session, pages_max=2))
    assert home.memory.relocation.void(LENT) == []
    with pytest.raises(errors.InternalError, match="and something touches it: True"):
        home.lend(2, generation=2)
    (arrived,) = home.finish(early)  # though the copy says that it is complete
    assert arrived.ok  # nothing waits for it any more
    assert home.memory.moved.out == {"host": 0}
    home.lend(2, generation=2)
    with pytest.raises(errors.InternalError, match="the latest was 2"):
        home.lend(2, space=LENT, generation=2)


def test_a_completion_of_a_lost_home_says_nothing_of_a_later_copy() -> None:
    home = Home()
    session = home.session(2)
    early = home.begin(home.memory.copy_early(session, pages_max=2))
    home.memory.relocation.void(LENT)
    again = home.begin(home.memory.leave(session, units=8, last_dispatch=0) or [])
    home.finish(early, ok=False)
    assert home.tiers(session) == ["host", "host"]
    assert not home.memory.is_whole_away(session)
    home.finish(again)
    assert home.memory.is_whole_away(session)


@pytest.mark.parametrize("lost", [LENT, 6])
def test_a_move_from_or_to_a_lost_home_is_over(lost: int) -> None:
    home = Home(lent=2)
    session = home.away(2)
    home.lend(2, space=6, generation=2)
    home.memory.relocation.call_back(LENT, 2)
    home.relocate()
    moving = home.tickets
    losers = home.memory.relocation.void(lost)
    if lost == LENT:
        assert losers == [session.id]
        home.memory.drop(session, last_dispatch=0)
    else:
        assert losers == []
        assert count_moves(home.relocate()) == [("peer", "host", 2)]
    home.finish(moving)
    home.memory.check_integrity()
    assert home.memory.moved.relocated["peer"] == 0
    assert home.memory.slots_free == (10 if lost == LENT else 6)


def test_who_arrives_from_a_lost_home_has_lost_its_pages() -> None:
    home = Home()
    session = home.away(2)
    arriving = home.begin(home.memory.arrive(session))
    assert home.memory.relocation.void(LENT) == [session.id]
    home.memory.drop(session, last_dispatch=0)
    assert home.finish(arriving) == []
    assert home.memory.device.free_count == 12


def test_what_is_not_there_cannot_be_called_or_removed() -> None:
    home = Home()
    with pytest.raises(errors.InternalError, match=r"no tier has space 9 \(known: \[5, 1\]\)"):
        home.memory.relocation.call_back(9, 1)
    with pytest.raises(errors.InternalError, match="space 5 is removed with 6 slots: call them ba"):
        home.memory.slots.remove(LENT)
