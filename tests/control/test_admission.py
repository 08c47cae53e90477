"""Who is let in and who makes room, policy by policy, on a controller run by hand."""

from __future__ import annotations

import random

import pytest

from aqua_jax.control import controller as controllers
from aqua_jax.control import types
from tests.control import desk as desks

PAUSED = types.State.PAUSED


def test_an_arrival_that_fits_joins_at_the_next_dispatch() -> None:
    for policy in ("fcfs", "fcfs_reserve", "cfs", "cfs_recompute"):
        desk = desks.Desk(policy)
        desk.submit(4, 8)
        desk.decide()
        desk.submit(4, 8)
        assert {plan.session.id for plan in must(desk.decide()).lanes} == {1, 2}


@pytest.mark.parametrize("policy", ["fcfs", "fcfs_reserve"])
def test_fcfs_never_passes_the_first_that_does_not_fit(policy: str) -> None:
    desk = desks.Desk(policy, pool_pages=8, chunk_units=16)
    desk.submit(16, 16)  # holds 4 pages at once, 8 in the end
    desk.round()
    desk.submit(16, 4)  # does not fit beside the growth of the first
    desk.submit(1, 1)  # would
    assert desk.rounds(2) == [[1], [1]]
    desk.finish()


def test_fcfs_preempts_the_latest_admitted_which_recomputes_first_of_all_that_wait() -> None:
    desk = desks.Desk("fcfs", pool_pages=6)
    first, second = desk.submit(4, 20), desk.submit(4, 20)
    third = desk.submit(4, 20)
    while not desk.controller.counters.preemptions:
        desk.round()
    assert (first.preemptions, third.preemptions) == (0, 1)
    assert third.state is types.State.WAITING
    assert third.cached == 0
    late = desk.submit(1, 1)
    desk.run_to(late, types.State.ENDED, rounds_max=100)
    order = [id for ids in desk.ran for id in ids]
    after = desk.ran[[ids == [1, 2] for ids in desk.ran].index(True) :]
    came_back = next(number for number, ids in enumerate(after) if third.id in ids)
    assert all(late.id not in ids for ids in after[:came_back])
    assert second.id in order
    desk.finish()
    assert [s.reason for s in (first, second, third, late)] == ["length"] * 4


def test_fcfs_reserve_never_preempts() -> None:
    rng = random.Random(0)
    desk = desks.Desk("fcfs_reserve", pool_pages=10)
    for _ in range(40):
        desk.submit(rng.randint(1, 12), rng.randint(1, 24))
    desk.finish()
    assert desk.controller.counters.preemptions == 0
    assert desk.controller.counters.recomputed_tokens == 0


def test_fcfs_reserve_admits_only_with_pages_for_the_whole_output() -> None:
    desk = desks.Desk("fcfs_reserve", pool_pages=8)
    first = desk.submit(4, 13)  # 16 units in the end: 4 pages
    desk.submit(4, 17)  # 5 pages
    desk.round()
    assert desk.memory.held(first) == 4
    assert desk.ran == [[1]]


@pytest.mark.parametrize("policy", ["fcfs_reserve", "fcfs", "cfs"])
def test_one_that_was_parked_comes_back_to_the_pages_it_kept(policy: str) -> None:
    desk = desks.Desk(policy, pool_pages=4)
    session = desk.submit(4, 12)
    desk.round()
    held = desk.memory.held(session)
    desk.controller.park(session)
    assert desk.round() == []
    assert desk.memory.held(session) == held
    desk.controller.unpark(session)
    assert desk.round() == [session.id]
    desk.finish()
    assert session.preemptions == 0


def test_cfs_takes_pages_only_once_the_quantum_is_spent() -> None:
    desk = desks.Desk(pool_pages=6, quantum_tokens=4, steps_contended=1, chunk_units=16)
    first = desk.submit(16, 8)  # holds 4 pages, 6 in the end
    desk.round()
    second = desk.submit(16, 8)  # starts level with the first; there is no room for both
    served = []
    while second.state is types.State.WAITING:
        served.append(first.served)
        desk.round()
    assert first.preemptions == 1
    # A little above 4, for part of the service was prefill; once more while its pages leave.
    assert served == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0]
    desk.finish()


@pytest.mark.parametrize("quantum_tokens", [1, 3, 16])
def test_cfs_takes_lanes_from_the_more_served_after_their_quantum(quantum_tokens: int) -> None:
    rng = random.Random(quantum_tokens)
    desk = desks.Desk(
        pool_pages=64, lanes=2, quantum_tokens=quantum_tokens, prefill_quantum_tokens=1
    )
    sessions = [desk.submit(rng.randint(1, 20), rng.randint(20, 40)) for _ in range(5)]
    policy, displaced = desk.controller.policy, 0
    while desk.controller.sessions:
        waiting = [s.vtime for s in sessions if s.state in (types.State.WAITING, PAUSED)]
        before = {s: (s.vtime, policy.quantum_used(s)) for s in sessions if s.lane >= 0}
        desk.decide()
        for session, (vtime, quantum_used) in before.items():
            if session.state is PAUSED:
                displaced += 1
                assert quantum_used >= 1
                assert min(waiting) <= vtime
        desk.observe()
    assert displaced > 0
    desk.finish()


def test_cfs_takes_turns_by_quanta_and_brings_every_page_back() -> None:
    desk = desks.Desk(pool_pages=6, quantum_tokens=4, steps_contended=2)
    sessions = [desk.submit(8, 12) for _ in range(3)]
    desk.finish()
    assert all(session.reason == "length" for session in sessions)
    assert sum(session.preemptions for session in sessions) >= 3
    assert desk.controller.counters.recomputed_tokens == 0
    assert desk.memory.moved.into["peer"] > 0


def test_a_lane_is_taken_over_and_the_pages_stay() -> None:
    desk = desks.Desk(lanes=1, quantum_tokens=2, steps_contended=1)
    first, second = desk.submit(4, 6), desk.submit(4, 6)
    desk.run_to(second, types.State.RUNNING)
    assert first.state is types.State.PAUSED
    assert desk.memory.held(first) >= 1
    desk.finish()
    assert desk.controller.counters.preemptions == 0
    assert desk.memory.moved.out["peer"] == 0


def test_a_long_prefill_gives_up_its_lane_even_when_no_tier_could_take_its_pages() -> None:
    desk = desks.Desk(
        lanes=1, pool_pages=64, tiers={}, quantum_tokens=4, chunk_units=8, chunks_max=1
    )
    reader = desk.submit(200, 2)
    desk.rounds(2)
    writer = desk.submit(1, 8)
    desk.run_to(writer, types.State.RUNNING, rounds_max=4)
    assert reader.state is PAUSED
    assert reader.cached > 0  # it loses nothing by it
    desk.finish()
    assert desk.controller.counters.recomputed_tokens == 0


def test_backfill_passes_one_that_does_not_fit_a_bounded_number_of_times() -> None:
    desk = desks.Desk(pool_pages=8, passes_max=3, quantum_tokens=1000, chunk_units=32)
    desk.submit(12, 8)
    desk.round()
    big = desk.submit(24, 4)
    small = [desk.submit(1, 1) for _ in range(6)]
    passed = []
    while big.state is types.State.WAITING:
        desk.round()
        passed.append(big.passed_over)
    ran = {id for ids in desk.ran[:-1] for id in ids}
    assert max(passed) == 3
    assert len(ran & {session.id for session in small}) == 3
    desk.finish()


def test_a_walk_looks_at_few_who_wait() -> None:
    desk = desks.Desk(pool_pages=8, looks_max=2, quantum_tokens=1000, chunk_units=32)
    desk.submit(12, 8)
    desk.round()
    for _ in range(2):
        desk.submit(24, 4)
    desk.submit(1, 1)
    assert desk.round() == [1]


def test_one_that_lost_its_state_keeps_it_until_it_has_gained_something() -> None:
    desk = desks.Desk("cfs_recompute", pool_pages=6, quantum_tokens=1, prefill_quantum_tokens=1)
    sessions = [desk.submit(16, 6) for _ in range(3)]
    desk.finish(rounds_max=200)
    assert desk.controller.counters.preemptions > 0
    assert all(len(session.emitted) == 6 for session in sessions)


def test_growth_does_not_turn_a_session_out_that_comes_straight_back() -> None:
    """A parked session holds most of the pool, no tier has room, one page is left to the first."""
    desk = desks.Desk(
        pool_pages=7, tiers={"peer": 1}, quantum_tokens=2, looks_max=1, chunk_units=4, lanes=5
    )
    holder = desk.submit(16, 8)
    desk.run_to(holder, types.State.RUNNING)
    while desk.memory.held(holder) < 6:
        desk.round()
    desk.controller.park(holder)
    desk.round()
    desk.controller.unpark(holder)
    others = [desk.submit(12, 6) for _ in range(3)]
    desk.finish(rounds_max=200)
    assert all(session.reason == "length" for session in (holder, *others))


def test_nobody_waits_while_another_could_run() -> None:
    rng = random.Random(1)
    for _ in range(20):
        desk = desks.Desk(pool_pages=12, quantum_tokens=rng.choice([1, 16]), lanes=3)
        for _ in range(8):
            desk.submit(rng.randint(1, 24), rng.randint(1, 20))
        desk.finish(rounds_max=400)
        assert all(ids for ids in desk.ran)


def must(decision: controllers.Decision) -> types.Batch:
    """The batch of a decision that has one."""
    assert decision.batch is not None
    return decision.batch
