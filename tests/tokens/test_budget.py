"""Budgets: steps, seconds and sizes end work; values that hold themselves many times are large."""

from __future__ import annotations

import threading

import pytest

from aqua_jax.tokens import budget


def test_steps_and_seconds_and_what_is_made_end():
    one = budget.Budget(steps_max=3)
    for _ in range(3):
        one.spend()
    with pytest.raises(budget.BudgetError, match="takes more than 3 steps"):
        one.spend()
    with pytest.raises(budget.BudgetError, match=r"takes more than -1\.0 seconds"):
        budget.Budget(seconds_max=-1.0).spend()
    with pytest.raises(budget.BudgetError, match="makes more than 80 characters"):
        budget.Budget(size_max=10).spend(made=81)


def test_what_is_given_makes_room():
    budget.Budget(size_max=10, given=100).check_size(410)
    with pytest.raises(budget.BudgetError, match="a value of more than 410 characters or items"):
        budget.Budget(size_max=10, given=100).check_size(411)


def test_iterators_are_kept_as_lists_of_bounded_length():
    one = budget.Budget(size_max=10)
    assert one.keep(iter("abc")) == ["a", "b", "c"]
    with pytest.raises(budget.BudgetError, match="more than 10 characters or items"):
        one.keep(iter(int, 1))  # without end


def test_measure_counts_what_stands_twice_twice_and_stops_in_time():
    assert budget.measure("abc", most=9) == 4
    assert budget.measure({"a": [1, (2, "bc")]}, most=99) == 1 + 2 + 1 + 1 + 1 + 1 + 3
    value: object = "x"
    for _ in range(100):
        value = [value, value]
    assert 1000 < budget.measure(value, most=1000) < 1100
    endless: list[object] = []
    endless.append(endless)
    assert budget.measure(endless, most=1000) > 1000
    with pytest.raises(budget.BudgetError, match="an integer of more than 4096 bits"):
        budget.measure([1 << 5000], most=9)


def test_a_budget_is_of_one_thread():
    one = budget.Budget()
    seen: list[object] = []

    def look() -> None:
        try:
            seen.append(budget.current())
        except LookupError:
            seen.append(None)

    with budget.granted(one):
        assert budget.current() is one
        other = threading.Thread(target=look)
        other.start()
        other.join()
    look()
    assert seen == [None, None]
