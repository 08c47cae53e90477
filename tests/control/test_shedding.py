"""A session that the pool cannot hold: what it sheds, for whom, and who gives way."""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import errors, types
from tests.control import desk as desks


def test_it_runs_beside_its_own_pages_and_all_is_free_at_the_end() -> None:
    table = desks.short_of_pages()
    session = table.submit(80, 8)
    assert session.sheds
    table.run_until(lambda: len(session.emitted) > 0)
    assert table.memory.attending.pages(session) >= 20 - 8
    assert session.preemptions == 0
    table.finish()
    assert table.memory.moved.into == {"peer": 0}  # nothing was brought back
    assert table.memory.moved.wasted <= 8


def test_where_all_shed_those_that_fit_run_together_and_nobody_is_evicted() -> None:
    table = desks.short_of_pages(attend_away=types.AttendAway.ALL, pool_pages=12)
    sessions = [table.submit(16, 20) for _ in range(4)]  # 36 pages in all
    together = 0
    while table.controller.sessions:
        table.round()
        together = max(together, len(table.ran[-1]) if table.ran else 0)
    assert [len(session.emitted) for session in sessions] == [20] * 4
    assert together == 4
    assert sum(session.preemptions for session in sessions) == 0
    assert table.memory.moved.into == {"peer": 0}


def test_where_all_shed_and_slots_run_out_sessions_take_turns_as_ever() -> None:
    table = desks.short_of_pages(attend_away=types.AttendAway.ALL, tiers={"peer": 6})
    sessions = [table.submit(12, 16) for _ in range(6)]
    table.finish()
    assert [len(session.emitted) for session in sessions] == [16] * 6
    assert sum(session.preemptions for session in sessions) > 0


def test_where_all_shed_each_has_room_of_its_own_and_who_cannot_shed_for_it_is_helped() -> None:
    table = desks.short_of_pages(
        policy="fcfs", attend_away=types.AttendAway.ALL, pool_pages=10, chunk_units=32, steps_max=4
    )
    old, new = table.submit(20, 30), table.submit(2, 30)
    table.round()
    assert table.memory.attending.sheddable(new) == table.memory.held(new) == 1
    table.decide()
    leaving = [table.memory.attending.leaving(session) for session in (old, new)]
    assert leaving == [2, 1]  # each wants 3 pages of those left, and the new one has 1 to shed


def shed_for_newcomers(count: int, **fields: Any) -> int:
    """Pages that two sessions, whom the pool just holds, shed as newcomers come."""
    table = desks.short_of_pages(
        attend_away=types.AttendAway.ALL,
        pool_pages=14,
        chunk_units=16,
        chunks_max=4,
        quantum_tokens=1000,
        prefill_quantum_tokens=1000,
        steps_contended=1,
        **fields,
    )
    running = [table.submit(20, 8) for _ in range(2)]  # 7 pages each
    table.rounds(2)
    late = [table.submit(12, 4) for _ in range(count)]  # 3 pages each to begin with
    assert table.memory.device.free_count < 3
    table.decide()
    shed = sum(table.memory.attending.leaving(session) for session in running)
    table.settle()
    table.finish()
    assert [len(session.emitted) for session in late] == [4] * count
    return shed


@pytest.mark.parametrize("policy", ["fcfs", "cfs"])
def test_where_all_shed_they_do_for_as_many_as_there_are_lanes(policy: str) -> None:
    one = shed_for_newcomers(1, policy=policy, lanes=3)
    assert shed_for_newcomers(6, policy=policy, lanes=3) == one > 0
    assert shed_for_newcomers(6, policy=policy, lanes=4) > one
    assert shed_for_newcomers(6, policy=policy, lanes=2) == 0


def crowd(**fields: Any) -> tuple[desks.Desk, list[types.Session]]:
    """Eight at once, of five pages at first and nine in the end, on 14 pages."""
    settings = {"pool_pages": 14, "lanes": 8, "chunk_units": 16, "chunks_max": 4} | fields
    table = desks.short_of_pages(
        attend_away=types.AttendAway.ALL, quantum_tokens=16, newcomer_quantum_tokens=4, **settings
    )
    return table, [table.submit(17 + i, 16) for i in range(8)]


def test_where_all_shed_newcomers_wait_for_pages_that_are_being_shed() -> None:
    table, sessions = crowd()
    for _ in range(100):
        table.overlap()
    assert [len(session.emitted) for session in sessions] == [16] * 8
    assert sum(session.preemptions for session in sessions) == 0


def test_where_all_shed_newcomers_do_not_wait_while_the_others_use_all_that_is_shed() -> None:
    table = desks.short_of_pages(
        attend_away=types.AttendAway.ALL,
        tiers={"peer": 4000},
        lanes=9,
        quantum_tokens=16,
        newcomer_quantum_tokens=4,
        steps_contended=1,
    )
    for _ in range(8):
        table.submit(9, 600)  # as many as there are pages: each sheds one as it fills the next
    for _ in range(20):
        table.overlap()
    newcomer = table.submit(9, 30)
    for _ in range(20):
        table.overlap()
    assert newcomer.emitted


def test_where_all_shed_who_waits_leaves_those_behind_it_no_debt() -> None:
    table = desks.short_of_pages(
        attend_away=types.AttendAway.ALL,
        pool_pages=10,
        chunk_units=16,
        chunks_max=4,
        quantum_tokens=16,
        newcomer_quantum_tokens=4,
    )
    for _ in range(4):
        table.submit(17, 30)
    for _ in range(5):
        table.overlap()
    first, second = table.submit(9, 4), table.submit(4, 4)
    for _ in range(2):
        table.overlap(lands=False)
    second.waits = 8  # it has waited for pages that were shed as long as one does
    assert table.decide().evicted == 1  # for the page that it lacks, not for those of the first
    assert first.waits > 0


def test_where_all_shed_slices_are_short_while_pages_are() -> None:
    table, sessions = crowd(steps_contended=4, chunks_max=8)
    steps: set[int] = set()
    while table.controller.sessions:
        decision = table.decide()
        table.settle()
        if decision.batch and any(session.state is types.State.WAITING for session in sessions):
            steps.add(decision.batch.steps)
    assert max(steps) == 1


def test_where_all_shed_slices_are_no_shorter_when_there_are_no_slots_to_shed_into() -> None:
    table, sessions = crowd(tiers={"peer": 1}, steps_contended=4, chunks_max=8)
    steps: set[int] = set()
    while table.controller.sessions:
        slots_free = table.memory.slots_free
        decision = table.decide()
        table.settle()
        waits = any(session.state is types.State.WAITING for session in sessions)
        if decision.batch and waits and not (slots_free or decision.batch.prefill_units):
            steps.add(decision.batch.steps)
    assert max(steps) == 4


def test_one_that_fits_sheds_no_more_when_its_copies_fail_and_fail() -> None:
    table = desks.short_of_pages(attend_away=types.AttendAway.ALL)
    sessions = [table.submit(12, 16) for _ in range(3)]
    for _ in range(400):
        if not table.controller.sessions:
            break
        table.decide()
        table.land(ok=False)
        if table.in_flight:
            table.observe()
    assert [len(session.emitted) for session in sessions] == [16] * 3
    assert not any(session.sheds for session in sessions)


def test_one_that_fits_never_sheds_where_only_long_ones_do() -> None:
    table = desks.short_of_pages(tiers={"peer": 64})
    sessions = [table.submit(12, 16) for _ in range(4)]
    while table.controller.sessions:
        table.round()
        assert all(table.memory.attending.pages(session) == 0 for session in sessions)
    assert sum(session.preemptions for session in sessions) > 0


def test_nobody_is_evicted_while_a_long_session_can_shed() -> None:
    table = desks.short_of_pages(pool_pages=12)
    long, short = table.submit(100, 8), table.submit(4, 30)
    table.run_until(lambda: len(short.emitted) == 30)
    assert long.preemptions == short.preemptions == 0
    table.finish()


def test_who_waits_and_may_displace_it_gets_pages_and_it_runs_on() -> None:
    table = desks.short_of_pages(prefill_quantum_tokens=4)
    long = table.submit(100, 8)
    table.run_until(lambda: table.memory.attending.pages(long) > 0)
    short = table.submit(8, 4)
    table.run_until(lambda: len(short.emitted) > 0, rounds_max=8)
    assert long.state is types.State.RUNNING
    assert long.preemptions == 0
    table.finish()


def test_a_copy_that_failed_is_made_again() -> None:
    table = desks.short_of_pages()
    session = table.submit(60, 4)
    for round in range(100):
        if not table.controller.sessions:
            break
        table.decide()
        table.land(ok=round % 3 > 0)
        if table.in_flight:
            table.observe()
    assert len(session.emitted) == 4
    assert session.preemptions == 0


def test_of_two_that_are_stuck_for_slots_the_younger_gives_way() -> None:
    table = desks.short_of_pages(
        tiers={"peer": 14}, quantum_tokens=1000, prefill_quantum_tokens=1000
    )
    first, second = table.submit(80, 8), table.submit(80, 8)
    table.finish()
    assert (len(first.emitted), len(second.emitted)) == (8, 8)
    assert first.preemptions == 0


def test_a_stuck_one_gets_the_slots_of_an_older_one_that_does_not_read() -> None:
    table = desks.short_of_pages(
        tiers={"peer": 14}, quantum_tokens=1000, prefill_quantum_tokens=1000
    )
    first = table.submit(80, 8)
    table.run_until(lambda: len(first.emitted) > 0)
    table.controller.park(first)
    second = table.submit(80, 8)
    table.run_until(lambda: second.state is types.State.ENDED)
    assert (first.preemptions, second.preemptions) == (1, 0)
    table.controller.unpark(first)
    table.finish()


@pytest.mark.parametrize("policy", ["fcfs", "cfs"])
def test_the_slots_kept_are_summed_once_for_all_long_ones_that_wait(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = desks.short_of_pages(policy=policy, tiers={"peer": 14}, lanes=1)
    first = table.submit(80, 8)
    table.run_until(lambda: len(first.emitted) > 0)
    waiting = [table.submit(80, 8) for _ in range(20)]
    assert all(session.state is types.State.WAITING for session in waiting)
    asked: list[int] = []
    slots_kept = table.memory.attending.slots_kept
    monkeypatch.setattr(
        table.memory.attending,
        "slots_kept",
        lambda session: [asked.append(session.id), slots_kept(session)][1],
    )
    table.decide()
    assert sorted(asked) == sorted(table.controller.sessions)


def test_nobody_is_evicted_for_pages_that_come_with_the_end_of_a_long_one() -> None:
    """Its last step is in flight, pages of it are being shed, and two others grow."""
    table = desks.short_of_pages(
        pool_pages=12, steps_contended=4, quantum_tokens=1000, prefill_quantum_tokens=1000
    )
    long, *_ = sessions = [table.submit(40, 13), table.submit(4, 21), table.submit(4, 21)]
    finishing_while_shedding = 0
    for number in range(60):
        runs = table.decide().batch is not None
        finishing = long.lane < 0 and long.state is types.State.RUNNING
        finishing_while_shedding += finishing and table.memory.attending.leaving(long) > 0
        while table.in_flight > runs:  # one slice stays in flight
            table.observe()
        if number % 2 == 0 or not runs:
            table.land()
    assert finishing_while_shedding > 0
    assert [len(session.emitted) for session in sessions] == [13, 21, 21]
    assert table.controller.counters.preemptions == 0


def test_nobody_sheds_for_one_that_could_not_be_let_in_all_the_same() -> None:
    shed = []
    for too_long in (False, True):
        table = desks.short_of_pages(
            pool_pages=16, tiers={"peer": 8}, chunk_units=16, chunks_max=1, quantum_tokens=8
        )
        table.submit(20, 40)
        table.round()
        long = table.submit(50, 30)
        table.rounds(3)
        if too_long:
            table.submit(60, 1)
        table.decide()
        assert long.state is types.State.RUNNING
        shed.append(table.memory.attending.pages(long) + table.memory.attending.leaving(long))
    assert shed[0] == shed[1] > 0


def test_a_request_that_all_memory_cannot_hold_is_refused_with_the_way_out() -> None:
    controller = desks.short_of_pages(tiers={"peer": 2, "host": 3}).controller
    controller.check_fits(desks.make_request(50, 3))  # 13 pages
    with pytest.raises(errors.RequestError) as caught:
        controller.check_fits(desks.make_request(50, 4))
    assert str(caught.value) == (
        "a request of 50 prompt units and up to 4 more needs 14 pages; the pool has 8 (tiers: peer"
        " 2, host 3) and a session must fit into both together: shorten it or raise"
        " memory.pool_pages or a tier's bytes"
    )


def test_a_stall_for_its_own_copies_is_named_as_one() -> None:
    table = desks.short_of_pages(chunks_max=1, tiers={"peer": 64})
    table.submit(100, 1)
    for _ in range(30):
        if table.decide().batch is None:
            break
        while table.in_flight:
            table.observe()
    assert table.controller.waits_for_copies
    table.land()
    assert not table.controller.waits_for_copies
