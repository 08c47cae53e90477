"""Homes that come and go, as sessions feel it: who waits, who gives up its state, what is void."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aqua_jax.control import errors, homes, pages, spare, types
from tests.control import desk

LENT = 9


class Stand:
    """A controller with lent slots and a host tier."""

    def __init__(self, *, lent: int, host: int, lanes: int = 1, **fields: Any) -> None:
        self.desk = desk.Desk(pool_pages=8, tiers={"host": host}, lanes=lanes, **fields)
        self.homes = self.desk.controller.homes
        self.lend(lent)

    def lend(self, count: int, *, space: int = LENT, generation: int = 1) -> None:
        slots = pages.PagePool(space, count, generation=generation)
        self.homes.add(spare.Tier("peer", slots))

    def relocate(self, now: float) -> int:
        copies = self.homes.relocate(now)
        self.desk.begin(tuple(copies))
        self.desk.check()
        return sum(len(copy.moves) for copy in copies)


def park(stand: Stand, session: types.Session) -> types.Session:
    """The session is away, and stays so."""
    while session.state is not types.State.AWAY:
        stand.desk.round()
    stand.desk.controller.park(session)
    return session


def make_two(*, lent: int, host: int) -> tuple[Stand, types.Session, types.Session]:
    """Two sessions away in lent memory whose clients do not read."""
    stand = Stand(lent=lent, host=host)
    first, second = stand.desk.submit(8, 20), stand.desk.submit(8, 20)
    third = stand.desk.submit(8, 20)
    for session in (first, second):
        park(stand, session)
    stand.desk.controller.end(third, "abort", 0.0)
    stand.desk.settle()
    return stand, first, second


def test_who_has_no_other_home_waits_and_then_the_last_in_order_gives_up_its_state() -> None:
    stand, first, second = make_two(lent=16, host=1)
    used = stand.desk.memory.slots.of(LENT).slots.used_count
    stand.homes.call_back(LENT, 16, waits_until=5.0)
    assert stand.relocate(1.0) == 1  # all the room there is
    stand.desk.land()
    assert stand.relocate(1.0) == 0
    assert stand.homes.wakes_at(1.0) == 5.0
    assert stand.desk.controller.counters.homes_lost == 0
    stand.relocate(5.0)
    lost = max((first, second), key=stand.desk.controller.policy.key)
    assert lost.state is types.State.WAITING
    assert stand.desk.controller.counters.homes_lost == 1
    assert stand.homes.wakes_at(5.0) == math.inf  # it is past, and nobody waits for it
    for _ in range(4):
        stand.desk.land()
        stand.relocate(6.0)
    assert stand.desk.memory.slots.of(LENT).slots.capacity == 0
    assert used > 2
    stand.homes.remove(LENT)
    for session in (first, second):
        stand.desk.controller.unpark(session)
    stand.desk.finish()


def test_a_budget_bounds_the_pages_under_way() -> None:
    stand, _, _ = make_two(lent=16, host=16)
    stand.homes._pages_max = 2
    stand.homes.call_back(LENT, 16, waits_until=5.0)
    assert [stand.relocate(0.0), stand.relocate(0.0)] == [2, 0]
    stand.desk.land()
    assert stand.relocate(0.0) == 2


def test_while_pages_are_under_way_nobody_gives_up_state() -> None:
    stand, _, _ = make_two(lent=16, host=1)
    stand.homes.call_back(LENT, 16, waits_until=0.0)
    assert stand.relocate(1.0) == 1
    assert stand.relocate(1.0) == 0
    assert stand.desk.controller.counters.homes_lost == 0


def test_a_lost_home_makes_its_sessions_recompute() -> None:
    stand, first, second = make_two(lent=16, host=1)
    stand.desk.controller.void(LENT, 1.0)
    stand.desk.check()
    assert [first.state, second.state] == [types.State.WAITING] * 2
    assert stand.desk.controller.counters.homes_lost == 2
    for session in (first, second):
        stand.desk.controller.unpark(session)
    stand.desk.finish()


def test_what_slices_in_flight_say_of_lost_memory_is_dropped() -> None:
    stand = Stand(lent=16, host=8, attend_away=types.AttendAway.LONG)
    long = stand.desk.submit(36, 24)
    while not (stand.desk.memory.attending.pages(long) and long.emitted):
        stand.desk.round()
    while not long.flights:
        stand.desk.decide()
        stand.desk.land()
    emitted = list(long.emitted)
    stand.desk.controller.void(LENT, 1.0)
    assert long.state is types.State.WAITING
    while long.flights:
        stand.desk.observe()
    assert long.emitted == emitted
    assert (long.planned_known, long.flights) == (long.known, 0)
    stand.lend(16, space=LENT + 1, generation=2)
    stand.desk.finish()
    assert len(long.emitted) == 24


def test_slices_that_read_nothing_there_are_believed() -> None:
    stand = Stand(lent=16, host=4, lanes=2)
    session = stand.desk.submit(8, 20)
    stand.desk.rounds(2)
    stand.desk.decide()
    before = len(session.emitted)
    stand.desk.controller.void(LENT, 1.0)
    stand.desk.observe()
    assert len(session.emitted) > before
    assert session.state is types.State.RUNNING


def test_the_device_is_no_home_of_a_lender() -> None:
    stand = Stand(lent=2, host=2)
    with pytest.raises(errors.InternalError, match="space 0 is the device's pool"):
        stand.lend(2, space=0, generation=2)


def test_a_table_is_read_up_to_its_first_device_page() -> None:
    entry = types.away_entry(types.Place(LENT, 3))
    session = types.Session(1, desk.make_request(4, 4), 0.0)
    session.last_dispatch = 7
    for table, read in (([entry, 5], 7), ([5, entry], 0), ([], 0)):
        session.void_until = 0
        stand = Stand(lent=2, host=2)
        stand.homes.void(LENT, [homes.Flight(session, session.epoch - 1, table)], 0.0)
        assert session.void_until == read
