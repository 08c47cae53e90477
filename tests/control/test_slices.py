"""The shape of a slice: steps, prefill rows, pages."""

from __future__ import annotations

import pytest

from aqua_jax.control import controller as controllers
from aqua_jax.control import errors, types
from tests.control import desk as desks


def lanes(decision: controllers.Decision) -> list[types.LanePlan]:
    assert decision.batch is not None
    return list(decision.batch.lanes)


@pytest.mark.parametrize(
    ("name", "value", "least"), [("lanes", 0, 1), ("looks_max", 0, 1), ("early_pages", -1, 0)]
)
def test_limits_are_checked(name: str, value: int, least: int) -> None:
    fields = {"lanes": 1, "chunk_units": 1, "steps_max": 1} | {name: value}
    with pytest.raises(errors.ConfigError, match=f"{name} is {value}; give at least {least}"):
        controllers.ControllerSettings(**fields)


def test_many_steps_alone_few_when_somebody_waits() -> None:
    desk = desks.Desk(steps_max=16, steps_contended=3, lanes=1, quantum_tokens=1000)
    desk.submit(4, 60)
    desk.round()
    assert [plan.steps for plan in lanes(desk.decide())] == [16]
    desk.observe()
    desk.submit(4, 4)
    assert [plan.steps for plan in lanes(desk.decide())] == [3]


def test_steps_are_cut_for_all_to_those_that_there_are_pages_for() -> None:
    desk = desks.Desk("fcfs", pool_pages=5, steps_max=16)
    desk.submit(4, 16)
    desk.submit(4, 4)
    desk.round()
    steps = {plan.session.id: plan.steps for plan in lanes(desk.decide())}
    assert steps == {1: 8, 2: 3}, "16 would take the page that the second needs"


def test_steps_end_where_the_session_does() -> None:
    desk = desks.Desk(steps_max=16)
    desk.submit(4, 6)
    (plan,) = lanes(desk.decide())
    assert (plan.first, plan.prefill, plan.steps, plan.joins) == (0, 4, 0, True)
    (plan,) = lanes(desk.decide())  # the last row of the prefill emits one; five are left
    assert (plan.first, plan.prefill, plan.steps, plan.joins) == (4, 0, 5, False)


def test_prefill_is_bounded_by_the_rows_of_a_slice_and_steps_follow_it() -> None:
    desk = desks.Desk(chunk_units=8, chunks_max=2)
    desk.submit(30, 4)
    shapes = []
    for _ in range(3):
        (plan,) = lanes(desk.decide())
        shapes.append((plan.first, plan.prefill, plan.steps))
        desk.observe()
    assert [shape[:2] for shape in shapes] == [(0, 16), (16, 14), (32, 0)]
    assert [shape[2] > 0 for shape in shapes] == [False, True, True]


def test_rows_go_to_one_prompt_after_the_other() -> None:
    desk = desks.Desk(chunk_units=8, chunks_max=1, prefill_quantum_tokens=64, pool_pages=32)
    for _ in range(2):
        desk.submit(16, 2)
    rows = []
    for _ in range(4):
        rows.append({plan.session.id: plan.prefill for plan in lanes(desk.decide())})
        desk.observe()
        desk.check()
    assert [sum(each.values()) <= 8 for each in rows] == [True] * 4
    assert rows[0] == {1: 8}
    assert rows[1][1] == 8
    assert rows[2][2] == 8


def test_a_slice_is_decided_before_the_outcomes_of_the_one_before() -> None:
    desk = desks.Desk(steps_max=2)
    session = desk.submit(4, 8)
    (first,), (second,) = lanes(desk.decide()), lanes(desk.decide())
    assert (first.first, second.first) == (0, 4 + first.steps)
    assert (first.joins, second.joins) == (True, False)
    assert (session.flights, session.cached) == (2, 0)
    desk.observe()
    desk.observe()
    assert session.cached == session.planned_cached
    assert session.known == session.planned_known


def test_it_joins_anew_after_it_lost_its_lane() -> None:
    desk = desks.Desk()
    session = desk.submit(4, 12)
    desk.round()
    desk.controller.park(session)
    desk.controller.unpark(session)
    (plan,) = lanes(desk.decide())
    assert plan.joins


def test_page_tables_are_final() -> None:
    desk = desks.Desk(steps_max=6)
    desk.submit(3, 12)
    while desk.controller.sessions:
        for plan in lanes(desk.decide()):
            last = plan.first + plan.prefill + plan.steps
            assert len(plan.pages) >= desks.pages_needed(plan.session.request, last)
            assert all(not desk.memory.device.is_free(page) for page in plan.pages)
        desk.observe()


def test_steps_are_cut_to_the_pages_there_are() -> None:
    desk = desks.Desk("fcfs", pool_pages=5, steps_max=16)
    desk.submit(4, 16)
    desk.submit(4, 4)
    (first, second) = lanes(desk.decide())
    assert first.prefill == second.prefill == 4
    assert desk.memory.device.free_count >= 0
    assert first.first + first.prefill + first.steps <= 4 * len(first.pages)
    desk.finish()
