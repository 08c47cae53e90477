"""Where a session's pages are: what is sent, what is not sent twice, what comes back."""

from __future__ import annotations

import pytest

from aqua_jax.control import copying, errors, pages, residency, types
from tests.control import desk


class Holder:
    """One residency and one session that grows in it; copies complete when told to."""

    def __init__(self, pool_pages: int = 16, tiers: dict[str, int] | None = None) -> None:
        self.memory = desk.make_memory(
            pool_pages, {"peer": 8, "host": 8} if tiers is None else tiers
        )
        self.ticket = 0

    def session(self, units: int, id: int = 1) -> types.Session:
        """A session with `units` units cached."""
        session = types.Session(id, desk.make_request(4, 60), 0.0)
        self.grow(session, units)
        return session

    def grow(self, session: types.Session, units: int) -> None:
        session.cached = session.planned_cached = units
        self.memory.grow(session, self.memory.pages_for(session, units))

    def leave(self, session: types.Session) -> list[copying.Copy]:
        copies = self.memory.leave(session, units=session.cached, last_dispatch=0)
        assert copies is not None
        return copies

    def begin(self, copies: list[copying.Copy]) -> list[int]:
        tickets = []
        for copy in copies:
            self.ticket += 1
            self.memory.begin(copy, self.ticket)
            tickets.append(self.ticket)
        self.memory.check_integrity()
        return tickets

    def finish(self, tickets: list[int], *, ok: bool = True) -> list[copying.Arrived]:
        arrived = [one for ticket in tickets for one in self.memory.finish(ticket, ok=ok)]
        self.memory.check_integrity()
        return arrived

    def send(self, session: types.Session) -> list[copying.Copy]:
        """Out, to the end."""
        copies = self.leave(session)
        self.finish(self.begin(copies))
        assert self.memory.is_whole_away(session)
        return copies

    def bring(self, session: types.Session) -> list[copying.Copy]:
        """Back, to the end."""
        copies = self.memory.arrive(session)
        self.finish(self.begin(copies))
        assert not self.memory.is_arriving(session)
        return copies

    def free(self) -> list[int]:
        return [pool.free_count for pool in self.pools]

    @property
    def pools(self) -> list[pages.PagePool]:
        return [self.memory.device, *(tier.slots for tier in self.memory.tiers)]


def units(copies: list[copying.Copy]) -> list[int]:
    return [move.units for copy in copies for move in copy.moves]


def test_the_first_time_every_page_with_units_leaves() -> None:
    holder = Holder()
    session = holder.session(10)
    (copy,) = holder.leave(session)
    assert (copy.direction, copy.tier) == ("out", "peer")
    assert units([copy]) == [4, 4, 2]
    assert [move.source for move in copy.moves] == [types.Place(0, page) for page in (1, 2, 3)]
    assert [move.target for move in copy.moves] == [types.Place(1, slot) for slot in (0, 1, 2)]


def test_device_pages_turn_free_when_the_copy_has_completed() -> None:
    holder = Holder()
    session = holder.session(10)
    tickets = holder.begin(holder.leave(session))
    assert holder.memory.held(session) == 0
    assert holder.memory.device.free_count == 13
    assert holder.memory.device.pending_count == 3
    assert not holder.memory.is_whole_away(session)
    arrived = holder.finish(tickets)
    assert arrived == [copying.Arrived(1, "out", True)]
    assert holder.memory.device.free_count == 16
    assert holder.memory.is_whole_away(session)


def test_a_clean_page_is_not_sent_again_and_a_grown_tail_is() -> None:
    holder = Holder()
    session = holder.session(10)
    holder.send(session)
    holder.bring(session)
    assert holder.leave(session) == []  # nothing grew
    assert holder.memory.is_whole_away(session)
    holder.bring(session)
    holder.grow(session, 15)
    assert units(holder.send(session)) == [4, 3]  # the tail that was 2 is full now, and a new one
    assert holder.memory.moved.out == {"peer": 5, "host": 0}


def test_clean_pages_are_free_once_the_dispatch_is_complete() -> None:
    holder = Holder()
    session = holder.session(8)
    holder.send(session)
    holder.bring(session)
    holder.memory.device.complete_dispatch(4)
    assert holder.memory.leave(session, units=8, last_dispatch=5) == []
    assert holder.memory.device.free_count == 14
    holder.memory.device.complete_dispatch(5)
    assert holder.memory.device.free_count == 16


def test_what_a_tier_lacks_goes_to_the_next_and_all_of_it_comes_back() -> None:
    holder = Holder(tiers={"peer": 2, "host": 8})
    session = holder.session(18)
    copies = holder.send(session)
    assert [(copy.tier, len(copy.moves)) for copy in copies] == [("peer", 2), ("host", 3)]
    back = holder.bring(session)
    assert [(copy.direction, copy.tier, len(copy.moves)) for copy in back] == [
        ("in", "peer", 2),
        ("in", "host", 3),
    ]
    assert units(back) == [4, 4, 4, 4, 2]
    assert holder.memory.moved.into == {"peer": 2, "host": 3}
    targets = [move.target.index for copy in back for move in copy.moves]
    assert targets == list(holder.memory.table(session))


def test_it_is_not_back_before_the_last_of_its_copies() -> None:
    holder = Holder(tiers={"peer": 2, "host": 8})
    session = holder.session(18)
    holder.send(session)
    first, second = holder.begin(holder.memory.arrive(session))
    holder.finish([second])
    assert holder.memory.is_arriving(session)
    holder.finish([first])
    assert not holder.memory.is_arriving(session)


def test_without_room_in_any_tier_it_cannot_leave_and_nothing_changed() -> None:
    holder = Holder(tiers={"peer": 1, "host": 1})
    session = holder.session(12)
    before = holder.free()
    assert holder.memory.leave(session, units=12, last_dispatch=0) is None
    assert holder.free() == before
    assert holder.memory.held(session) == 3
    assert holder.memory.slots_wanted(session, units=12) == 3
    assert holder.memory.slots_free == 2


def test_clean_copies_of_those_on_the_device_give_way_to_those_who_leave() -> None:
    holder = Holder(tiers={"peer": 3})
    first, second = holder.session(8), holder.session(12, id=2)
    holder.send(first)
    holder.bring(first)
    assert holder.memory.slots_free == 1
    holder.send(second)
    assert holder.memory.slots_wanted(first, units=8) == 2  # its copies are gone
    assert holder.memory.moved.wasted == 0  # they had been read back


def test_copies_under_way_do_not_give_way() -> None:
    holder = Holder(tiers={"peer": 2})
    first, second = holder.session(8), holder.session(4, id=2)
    holder.send(first)
    tickets = holder.begin(holder.memory.arrive(first))
    assert holder.memory.leave(second, units=4, last_dispatch=0) is None
    holder.finish(tickets)
    assert holder.memory.leave(second, units=4, last_dispatch=0) is not None


def test_full_pages_leave_early_and_are_clean_later() -> None:
    holder = Holder()
    session = holder.session(10)
    early = holder.memory.copy_early(session, pages_max=8)
    assert units(early) == [4, 4]  # the tail may still grow
    holder.finish(holder.begin(early))
    assert holder.memory.held(session) == 3
    assert holder.memory.copy_early(session, pages_max=8) == []
    assert units(holder.send(session)) == [2]


def test_early_copies_keep_to_their_budget_and_to_free_slots() -> None:
    holder = Holder(tiers={"peer": 3})
    session, other = holder.session(16), holder.session(16, id=2)
    assert len(units(holder.memory.copy_early(session, pages_max=1))) == 1
    assert len(units(holder.memory.copy_early(other, pages_max=8))) == 2
    assert holder.memory.copy_early(other, pages_max=8) == []


def test_a_page_copied_early_may_be_let_go_while_it_is_read() -> None:
    holder = Holder()
    session = holder.session(8)
    early = holder.begin(holder.memory.copy_early(session, pages_max=8))
    assert holder.leave(session) == []  # on their way counts as sent
    assert not holder.memory.is_whole_away(session)
    assert holder.memory.device.free_count == 14
    holder.finish(early)
    assert holder.memory.is_whole_away(session)
    assert holder.memory.device.free_count == 16


def test_a_failed_copy_out_leaves_no_copy() -> None:
    holder = Holder()
    session = holder.session(10)
    early = holder.begin(holder.memory.copy_early(session, pages_max=8))
    arrived = holder.finish(early, ok=False)
    assert [one.ok for one in arrived] == [False]
    assert holder.memory.slots_free == 16
    assert holder.memory.moved.out == {"peer": 0, "host": 0}
    assert units(holder.send(session)) == [4, 4, 2]


def test_who_gives_up_while_copies_run_is_not_heard_of_again() -> None:
    holder = Holder()
    session = holder.session(10)
    tickets = holder.begin(holder.leave(session))
    holder.memory.drop(session, last_dispatch=0)
    assert holder.free() == [13, 5, 8]  # read and written until the copy completes
    assert holder.finish(tickets) == []
    assert holder.free() == [16, 8, 8]
    assert holder.memory.moved.wasted == 3


def test_giving_up_while_arriving_keeps_the_pages_until_the_copy_is_done() -> None:
    holder = Holder()
    session = holder.session(10)
    holder.send(session)
    tickets = holder.begin(holder.memory.arrive(session))
    holder.memory.drop(session, last_dispatch=0)
    holder.memory.drop(session, last_dispatch=0)  # twice is once
    assert holder.free() == [13, 5, 8]
    holder.finish(tickets)
    assert holder.free() == [16, 8, 8]


def test_wasted_pages_are_those_never_read_back() -> None:
    holder = Holder()
    session = holder.session(8)
    holder.send(session)
    holder.bring(session)
    holder.grow(session, 12)
    holder.send(session)
    holder.memory.drop(session, last_dispatch=0)
    assert holder.memory.moved.wasted == 1


def test_arriving_takes_one_that_is_wholly_away() -> None:
    holder = Holder()
    session = holder.session(8)
    with pytest.raises(errors.InternalError, match="session 1 is not wholly away"):
        holder.memory.arrive(session)


def test_one_copy_may_carry_pages_of_several_sessions() -> None:
    holder = Holder(tiers={"peer": 3, "host": 8})
    first, second = holder.session(8), holder.session(8, id=2)
    copies = copying.merge([*holder.leave(first), *holder.leave(second)])
    arrived = holder.finish(holder.begin(copies))
    assert [one.session for one in arrived] == [1, 2, 2]
    assert holder.memory.device.free_count == 16


def test_pages_whose_contents_always_change_are_sent_every_time() -> None:
    steps = [1]
    memory = desk.make_memory(8, {"peer": 8})
    changing = residency.Residency(
        memory.device,
        memory.tiers,
        pages_needed=lambda request, units: 2,
        units_in_page=lambda request, index, units: steps[0],
    )
    session = types.Session(1, desk.make_request(1, 9), 0.0)
    changing.grow(session, 2)
    for _ in range(2):
        copies = changing.leave(session, units=1, last_dispatch=0)
        assert copies is not None
        assert len(units(copies)) == 2
        for way in (copies, None):
            for ticket, copy in enumerate(changing.arrive(session) if way is None else way, 1):
                changing.begin(copy, ticket)
                changing.finish(ticket, ok=True)
        steps[0] += 1


def test_new_pages_and_slots_lie_behind_those_a_session_has() -> None:
    holder = Holder()
    session = holder.session(8)
    others = [holder.session(4, id=number) for number in (2, 3, 4, 5)]
    for leaver in (others[0], others[2]):  # free on the device: 3, 5 and all behind 6
        holder.memory.drop(leaver, last_dispatch=0)
    holder.grow(session, 12)
    assert holder.memory.table(session) == [1, 2, 3]
    holder.send(session)
    for other in (others[1], others[3]):
        holder.send(other)
    held = holder.session(4, id=6), holder.session(4, id=7)
    for other in held:
        holder.send(other)
    for leaver in (others[1], held[0]):  # free in the tier: 3, 5 and all behind 6
        holder.memory.drop(leaver, last_dispatch=0)
    holder.bring(session)
    holder.grow(session, 16)
    (copy,) = holder.leave(session)
    assert [move.target.index for move in copy.moves] == [3]
