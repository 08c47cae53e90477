"""Emulated time: a slice is done no earlier than its cost says, and lateness is counted."""

from __future__ import annotations

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets, types
from aqua_jax.engine import engine
from aqua_jax.experiments import away_reads, emulated
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench

COST = emulated.StepCost(step=0.5, step_unit=0.01, prefill_unit=0.1)


def plan(*, first: int = 0, prefill: int = 0, steps: int = 0) -> types.LanePlan:
    session = types.Session(1, toy.request([1, 2, 3], 9), 0.0)
    return types.LanePlan(0, session, (1, 2), first, prefill, steps, joins=True)


class Inner:
    """A runner whose slices take `seconds` of the clock."""

    def __init__(self, clock: clocks.VirtualClock, seconds: float) -> None:
        made = toy.ToyRunner(toy.ToyMemory({0: 4}, 4), clock)
        self.__dict__.update({name: getattr(made, name) for name in FORWARDED})
        self._clock = clock
        self._seconds = seconds

    def dispatch(self, batch: types.Batch) -> tickets.Ticket:
        ticket = tickets.Ticket("slice")
        end = self._clock.now() + self._seconds
        self._clock.at(end, lambda: ticket.complete(["outcome"], at=self._clock.now()))
        return ticket

    def collect(self, ticket: tickets.Ticket) -> list[str]:
        return ticket.result()


FORWARDED = (
    "kind", "space", "pages", "page_bytes", "lanes", "chunk_units", "steps_max", "units_max",
    "check", "pages_needed", "units_in_page", "page_keys", "rebuild", "close",
)  # fmt: skip


def wrapped(*, real_seconds: float, emulated_seconds: float):
    clock = clocks.VirtualClock()
    cost = emulated.StepCost(step=emulated_seconds, step_unit=0.0, prefill_unit=0.0)
    return clock, emulated.emulate(Inner(clock, real_seconds), clock, cost, dilation=2.0)


def test_a_slice_costs_its_steps_their_context_and_its_prefill():
    stepping = types.Batch((plan(first=20, steps=3), plan(first=30, steps=1)), 3)
    assert COST.seconds(stepping) == pytest.approx(3 * (0.5 + 0.01 * 50))
    prefilling = types.Batch((plan(first=8, prefill=16),), 0)
    assert COST.seconds(prefilling) == pytest.approx(0.1 * 16)
    # A session that only prefills is no context of the others' steps.
    both = types.Batch((plan(prefill=16), plan(first=30, steps=2)), 2)
    assert COST.seconds(both) == pytest.approx(2 * (0.5 + 0.01 * 30) + 1.6)


def test_a_page_attended_away_crosses_its_link_in_each_step_and_each_prefill_program():
    reads = away_reads.AwayReads(step_reads=4, chunk_units=8)
    cost = emulated.StepCost(0.5, 0.0, 0.1, away_page={1: 0.01, 2: 0.2}, reads=reads)
    entries = [types.away_entry(types.Place(space, 5)) for space in (1, 1, 2)]
    away = (*entries, 7, 8)
    stepping = plan(first=40, steps=3)._replace(pages=away)
    per_read = 2 * 0.01 + 0.2
    assert cost.seconds(types.Batch((stepping,), 3)) == pytest.approx(3 * (0.5 + 4 * per_read))
    prefilling = plan(first=40, prefill=17)._replace(pages=away)
    assert cost.seconds(types.Batch((prefilling,), 0)) == pytest.approx(1.7 + 3 * per_read)
    elsewhere = plan(first=40, steps=1)._replace(pages=[types.away_entry(types.Place(3, 0)), 7])
    assert cost.seconds(types.Batch((elsewhere,), 1)) == pytest.approx(0.5)


def test_a_fast_slice_waits_for_its_emulated_time_and_slices_queue():
    clock, runner = wrapped(real_seconds=0.1, emulated_seconds=1.0)
    batch = types.Batch((plan(steps=1),), 1)
    first, second = runner.dispatch(batch), runner.dispatch(batch)
    assert clock.wait([first], 100.0) == [first]
    assert first.finished_at == pytest.approx(2.0)
    assert clock.wait([second], 100.0) == [second]
    assert second.finished_at == pytest.approx(4.0)
    assert runner.collect(first) == ["outcome"]
    assert (runner.slices, runner.late) == (2, 0)


def test_a_slow_slice_is_late_once_and_those_behind_it_start_when_it_ended():
    clock, runner = wrapped(real_seconds=2.5, emulated_seconds=1.0)
    batch = types.Batch((plan(steps=1),), 1)
    ticket = runner.dispatch(batch)
    assert clock.wait([ticket], 100.0) == [ticket]
    assert ticket.finished_at == pytest.approx(2.5, abs=0.001)
    assert (runner.slices, runner.late) == (1, 1)
    after = runner.dispatch(batch)
    assert clock.wait([after], 100.0) == [after]
    assert after.finished_at == pytest.approx(5.0, abs=0.01)


def test_an_engine_runs_on_it_and_its_answers_are_the_runners():
    made = bench.Bench(bench.Scenario())
    cost = emulated.StepCost(step=0.01, step_unit=0.0, prefill_unit=0.001)
    runner = emulated.emulate(made.runner, made.clock, cost, dilation=3.0)
    slow = engine.Engine(made.controller, made.mover, runner, made.clock)
    request = toy.request([1, 2, 3, 4], 9)
    stream = slow.submit(request)
    while not slow.idle:
        slow.step()
    assert stream.read() == toy.expected_tokens(request)
    assert made.clock.now() == pytest.approx(3.0 * (8 * 0.01 + 4 * 0.001))
    assert runner.late == 0
