"""Pages attended where they are: which, from when on, what leaves and comes back beside them."""

from __future__ import annotations

import pytest

from aqua_jax.control import types
from tests.control import desk as desks

MODES = list(types.AttendAway)


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_says_who_may(mode: types.AttendAway) -> None:
    attending = desks.make_memory(8, {"peer": 4}, attend_away=mode).attending
    assert attending.is_on == mode.is_on == (mode.value != "off")
    assert attending.is_for_all == (mode.value == "all")


def test_as_many_can_be_shed_as_are_full_and_have_slots() -> None:
    table = desks.short_of_pages(attend_away=types.AttendAway.ALL, tiers={"peer": 2}, pool_pages=16)
    session = table.submit(14, 4)
    assert table.memory.attending.sheddable(session) == 0  # it has no pages yet
    table.run_until(lambda: len(session.emitted) > 0)
    assert table.memory.held(session) >= 4
    assert table.memory.attending.sheddable(session) == 2  # of three full ones
    copies = table.memory.attending.shed(session, 3)
    assert sum(len(copy.moves) for copy in copies) == 2
    assert (table.memory.attending.leaving(session), table.memory.slots_free) == (2, 0)


def test_entries_name_slots_of_the_oldest_pages_and_only_full_ones() -> None:
    table = desks.short_of_pages()
    session = table.submit(60, 30)
    while table.controller.sessions:
        decision = table.decide()
        for plan in decision.batch.lanes if decision.batch else ():
            away = [entry for entry in plan.pages if entry < 0]
            assert list(plan.pages[: len(away)]) == away
            assert len(away) * desks.PAGE_UNITS <= plan.first
            assert all(types.entry_place(entry).space == 1 for entry in away)
        table.settle()
    assert len(session.emitted) == 30


def test_a_page_is_given_up_when_its_copy_and_the_slice_have_completed() -> None:
    table = desks.short_of_pages(chunks_max=1)
    session, device = table.submit(80, 1), table.memory.device
    table.decide()
    while not table.memory.attending.leaving(session):
        table.observe()
        table.decide()
    leaving, free = table.memory.attending.leaving(session), device.free_count
    assert (table.in_flight, table.memory.attending.pages(session)) == (1, 0)
    table.land()
    assert (table.memory.attending.leaving(session), table.memory.attending.pages(session)) == (
        0,
        leaving,
    )
    assert (device.free_count, device.pending_count) == (free, leaving)  # the slice reads them
    table.observe()
    assert device.free_count == free + leaving


def test_leaving_and_arriving_are_of_what_is_on_the_device() -> None:
    table = desks.short_of_pages()
    session = table.submit(80, 20)
    table.run_until(lambda: len(session.emitted) > 2)
    attended, held = table.memory.attending.pages(session), table.memory.held(session)
    memory = table.memory
    copies = memory.leave(session, units=session.cached, last_dispatch=session.last_dispatch)
    assert copies is not None
    assert sum(len(copy.moves) for copy in copies) <= held
    table.begin(tuple(copies))
    for ticket in list(table.copies):
        del table.copies[ticket]
        memory.finish(ticket, ok=True)
    back = memory.arrive(session)
    assert sum(len(copy.moves) for copy in back) == memory.held(session) <= held
    assert memory.attending.pages(session) == attended
