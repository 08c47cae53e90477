"""The toys are as hostile as they say: what is touched too early or too late is seen."""

from __future__ import annotations

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.simulation import toy

GARBAGE = [-1, -1, -1, -1]


class Table:
    """One session on pages 1 and 2 of a toy pool, a toy mover to an arena of four slots."""

    def __init__(
        self, *, faults: toy.ToyFaults | None = None, fail_at: frozenset[int] = frozenset()
    ) -> None:
        self.clock = clocks.VirtualClock()
        self.memory = toy.ToyMemory({0: 5, 1: 4}, page_units=4)
        self.runner = toy.ToyRunner(self.memory, self.clock, fail_at=fail_at)
        self.mover = toy.ToyMover(self.memory, self.clock, faults=faults)
        self.session = types.Session(1, toy.request([5, 6, 7], 6), 0.0)

    def dispatch(
        self, first: int, prefill: int, steps: int, *, joins: bool = True, lane: int = 0
    ) -> tickets.Ticket:
        plan = types.LanePlan(lane, self.session, [1, 2, 3], first, prefill, steps, joins)
        return self.runner.dispatch(types.Batch((plan,), steps))

    def run(self, first: int, prefill: int, steps: int, *, joins: bool = True) -> types.Outcome:
        ticket = self.dispatch(first, prefill, steps, joins=joins)
        self.clock.wait([ticket], 1.0)
        (outcome,) = self.runner.collect(ticket)
        return outcome

    def copy(self, page: int, slot: int, count: int, after: tickets.Ticket | None = None) -> None:
        self.mover.submit([types.Move(types.Place(0, page), types.Place(1, slot), count)], after)


def test_a_slice_emits_the_expected_tokens_and_says_when_it_is_over() -> None:
    table = Table()
    expected = toy.expected_tokens(table.session.request)
    first = table.run(0, 3, 2)
    assert (first.tokens, first.finished) == (expected[:3], "")
    assert (first.prefill_units, first.step_units) == (3, 2)
    second = table.run(5, 0, 4, joins=False)
    assert (second.tokens, second.finished) == (expected[3:], "length")
    assert second.step_units == 3


def test_the_state_in_the_pages_makes_the_tokens() -> None:
    table = Table()
    table.run(0, 3, 2)
    table.memory.pages[0][1][0] = 99
    outcome = table.run(5, 0, 1, joins=False)
    assert outcome.tokens != toy.expected_tokens(table.session.request)[3:4]


def test_a_stop_token_ends_it_and_steps_after_it_do_nothing() -> None:
    table = Table()
    table.session.request = toy.request([5, 6, 7], 6, stop_modulus=1)  # every token stops
    outcome = table.run(0, 3, 4)
    assert (len(outcome.tokens), outcome.finished, outcome.step_units) == (1, "stop", 0)
    later = table.run(3, 0, 4, joins=False)
    assert (later.tokens, later.finished) == ([], "")


def test_a_slice_holds_garbage_where_it_will_write_until_it_is_done() -> None:
    table = Table()
    table.memory.pages[0][1][:] = [1, 2, 3, 4]
    ticket = table.dispatch(0, 3, 0)
    assert table.memory.pages[0][1] == [-1, -1, -1, 4]
    table.clock.wait([ticket], 1.0)
    assert table.memory.pages[0][1] == [5, 6, 7, 4]


def test_slices_take_their_time_one_after_the_other() -> None:
    table = Table()
    first, second = table.dispatch(0, 3, 2), table.dispatch(5, 0, 1, joins=False)
    table.clock.wait([second], 1.0)
    assert first.finished_at == pytest.approx(0.002 + 2 * 0.001)
    assert second.finished_at == pytest.approx(0.005)


def test_a_lane_must_be_joined_and_planned_from_where_it_stands() -> None:
    table = Table()
    with pytest.raises(errors.InternalError, match="lane 0 runs session 1 without joining"):
        table.run(0, 3, 0, joins=False)
    table = Table()
    table.run(0, 3, 0)
    with pytest.raises(errors.InternalError, match="session 1 stands at 3, planned from 4"):
        table.run(4, 0, 1, joins=False)


def test_a_failed_slice_voids_those_behind_it_until_the_pool_is_rebuilt() -> None:
    table = Table(fail_at=frozenset({1}))
    first, second = table.dispatch(0, 3, 0), table.dispatch(3, 0, 1, joins=False)
    table.clock.wait([second], 1.0)
    for ticket in (first, second):
        with pytest.raises(RuntimeError, match="failed on purpose"):
            table.runner.collect(ticket)
    table.memory.pages[0][2][:] = [1, 1, 1, 1]
    table.runner.rebuild()
    assert table.memory.pages[0] == [GARBAGE] * 5
    assert table.run(0, 3, 0).tokens == toy.expected_tokens(table.session.request)[:1]


def test_a_copy_voids_its_target_at_once_and_writes_late_what_is_final() -> None:
    table = Table()
    table.memory.pages[0][1][:] = [1, 2, 3, 4]
    table.memory.pages[1][2][:] = [9, 9, 9, 9]
    table.copy(1, 2, 3)
    assert table.memory.pages[1][2] == GARBAGE
    table.memory.pages[0][1][0] = 7  # too early: the copy still reads
    table.clock.wait([], 1.0)
    assert table.memory.pages[1][2] == [7, 2, 3, -1]
    (completion,) = table.mover.poll()
    assert (completion.bytes, completion.error) == (32, None)
    assert table.mover.poll() == []


def test_a_copy_starts_after_the_dispatch_it_follows() -> None:
    table = Table()
    ticket = table.dispatch(0, 3, 0)
    table.copy(1, 0, 3, after=ticket)
    table.clock.wait([], 1.0)
    assert table.memory.pages[1][0] == [5, 6, 7, -1]


@pytest.mark.parametrize(("rate", "failed"), [(0.0, 0), (0.5, 5), (1.0, 10)])
def test_copies_fail_at_their_rate_and_leave_garbage(rate: float, failed: int) -> None:
    table = Table(faults=toy.ToyFaults(seed=1, fail=rate))
    table.memory.pages[0][1][:] = [1, 2, 3, 4]
    for _ in range(10):
        table.copy(1, 0, 4)
    table.clock.wait([], 1.0)
    completions = table.mover.poll()
    assert len(completions) == 10
    assert sum(one.error is not None for one in completions) == failed
    assert (table.memory.pages[1][0] == GARBAGE) == (completions[-1].error is not None)


def test_a_refused_copy_starts_nothing() -> None:
    table = Table(faults=toy.ToyFaults(refuse=1.0))
    table.memory.pages[1][0][:] = [9, 9, 9, 9]
    with pytest.raises(errors.MoveError, match="copy 1 refused on purpose"):
        table.copy(1, 0, 4)
    table.clock.wait([], 1.0)
    assert table.mover.poll() == []
    assert table.memory.pages[1][0] == [9, 9, 9, 9]


def test_delays_let_copies_overtake_each_other() -> None:
    table = Table(faults=toy.ToyFaults(seed=3, delay=0.5))
    for slot in range(4):
        table.copy(1, slot, 4)
    table.clock.wait([], 1.0)
    order = [completion.ticket for completion in table.mover.poll()]
    assert len(order) == 4
    assert order != sorted(order)


def test_requests_and_expectations_are_values() -> None:
    request = toy.request([1, 2], 5, tenant="a", weight=2.0)
    assert (request.kind, request.prompt_units, request.tenant, request.weight) == (
        "toy",
        2,
        "a",
        2.0,
    )
    assert toy.expected_tokens(request) == toy.expected_tokens(toy.request((1, 2), 5))
    assert len(set(toy.expected_tokens(toy.request([1], 40)))) > 30
    table = Table()
    with pytest.raises(errors.RequestError, match=r"use simulation\.toy\.request"):
        table.runner.check(types.Request(prompt_units=1, steps_max=1, kind="toy"))
