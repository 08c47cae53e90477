"""Free runs: best fit, neighbours joined, the hint; against a set of free indices."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqua_jax.control import errors, runs


def without(*taken: int, end: int = 16) -> runs.FreeRuns:
    """0 to end - 1, free but for `taken`."""
    free = runs.FreeRuns(0, end)
    free.take(end)
    for index in range(end):
        if index not in taken:
            free.give(index, index)
    return free


def test_indices_come_in_one_run_from_the_low_end() -> None:
    free = runs.FreeRuns(3, 9)
    assert free.take(2) == [3, 4]
    assert free.take(4) == [5, 6, 7, 8]
    assert free.count == 0
    assert free.runs() == []


@pytest.mark.parametrize("order", [(4, 5, 6), (6, 5, 4), (4, 6, 5)])
def test_what_is_given_back_joins_both_neighbours(order: tuple[int, ...]) -> None:
    free = without(4, 5, 6)
    for index in order:
        free.give(index, index)
        free.check_integrity()
    assert free.runs() == [(0, 15)]


def test_the_smallest_run_that_holds_all_is_taken() -> None:
    free = without(6, 9, 13)  # runs of 6, 2, 3 and 2
    assert free.take(3) == [10, 11, 12]
    assert free.take(4) == [0, 1, 2, 3]
    assert free.runs() == [(4, 5), (7, 8), (14, 15)]


def test_where_no_run_holds_all_the_largest_are_used_up_first() -> None:
    free = without(6, 9, 13, 14)  # runs of 6, 2, 3 and 1
    assert free.take(10) == [0, 1, 2, 3, 4, 5, 10, 11, 12, 15]


def test_the_hint_goes_before_the_best_fit() -> None:
    free = without(6, 9, 13, 14)
    assert free.take(2, after=9) == [10, 11]
    assert free.take(3, after=11) == [12, 7, 8]  # one follows, two are elsewhere
    assert free.take(1, after=8) == [15]  # none follows
    assert free.take(1, after=15) == [0]  # nothing can follow the last


def test_taking_by_ones_with_a_hint_stays_in_one_run() -> None:
    free = without(7)
    taken = free.take(1)
    for _ in range(5):
        taken += free.take(1, after=taken[-1])
        free.check_integrity()
    assert taken == list(range(taken[0], taken[0] + 6))


@given(st.lists(st.tuples(st.integers(-2, 9), st.integers(-1, 23)), max_size=60))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_sequence_agrees_with_a_set(steps: list[tuple[int, int]]) -> None:
    free = runs.FreeRuns(0, 24)
    expected = set(range(24))
    for what, where in steps:
        if what < 0:  # gives back a run that begins there
            last = where - 1
            while last + 1 < 24 and last + 1 not in expected and last - where < 3:
                last += 1
            if 0 <= where <= last:
                free.give(where, last)
                expected.update(range(where, last + 1))
        elif 0 < what <= len(expected):
            longest = max(last - first + 1 for first, last in free.runs())
            taken = free.take(what, after=-1 if where in expected else where)
            assert len(set(taken)) == what
            assert expected.issuperset(taken)
            if where >= 0 and where not in expected and where + 1 in expected:
                assert taken[0] == where + 1
            elif what <= longest:  # whoever asks for what one run holds gets one run
                assert taken == list(range(taken[0], taken[0] + what))
            expected.difference_update(taken)
        free.check_integrity()
        assert free.count == len(expected)
    listed = [i for first, last in free.runs() for i in range(first, last + 1)]
    assert listed == sorted(expected)


def test_a_run_given_twice_is_noticed() -> None:
    free = runs.FreeRuns(0, 8)
    free.take(4)
    free.give(2, 3)
    free.give(2, 3)
    with pytest.raises(errors.InternalError, match="free runs"):
        free.check_integrity()


def test_the_highest_are_named_and_stay() -> None:
    free = without(6, 9, 13)
    assert free.highest(4) == [11, 12, 14, 15]
    assert free.highest(99) == [i for i in range(16) if i not in (6, 9, 13)]
    assert free.count == 13


def test_free_indices_can_be_taken_out_one_by_one() -> None:
    free = without(6)
    free.withdraw([12, 0, 8, 7, 15])
    assert free.runs() == [(1, 5), (9, 11), (13, 14)]
    assert free.count == 10
    free.check_integrity()
