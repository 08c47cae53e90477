"""Ranges: equal sets are equal values; what is taken, added and left, against sets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqua_jax.control import errors, ranges


def indices(pairs: ranges.Pairs) -> list[int]:
    return [index for first, end in pairs for index in range(first, end)]


SETS = st.frozensets(st.integers(0, 23)).map(
    lambda chosen: ranges.of((index, index + 1) for index in chosen)
)


@given(SETS, SETS)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_sets_agree_with_sets(a: ranges.Ranges, b: ranges.Ranges) -> None:
    both, of_a, of_b = set(indices(a)) & set(indices(b)), set(indices(a)), set(indices(b))
    assert ranges.count(a) == len(of_a)
    assert all(x.end < y.first for x, y in itertools.pairwise(a))
    assert ranges.holds(a, b) == (of_b <= of_a)
    if both:
        with pytest.raises(errors.UnitsError, match="twice"):
            ranges.plus(a, b)
        common = ranges.of((index, index + 1) for index in both)
        assert indices(ranges.minus(a, common)) == sorted(of_a - of_b)
    else:
        assert indices(ranges.plus(a, b)) == sorted(of_a | of_b)
        assert ranges.minus(ranges.plus(a, b), b) == a


@given(SETS, st.integers(0, 24))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_as_many_are_taken_as_are_wanted_and_in_one_range_where_one_holds_them(
    a: ranges.Ranges, wanted: int
) -> None:
    wanted = min(wanted, ranges.count(a))
    taken = ranges.take(a, wanted)
    assert ranges.count(taken) == wanted
    assert ranges.holds(a, taken)
    if 0 < wanted <= max((end - first for first, end in a), default=0):
        assert len(taken) == 1
    assert indices(ranges.highest(a, wanted)) == indices(a)[ranges.count(a) - wanted :]


def test_the_smallest_range_that_holds_all_is_used_and_the_lowest_of_equals() -> None:
    free = ((0, 6), (7, 9), (10, 13), (14, 16))
    assert ranges.take(free, 3) == ((10, 13),)
    assert ranges.take(free, 2) == ((7, 9),)
    assert ranges.take(free, 4) == ((0, 4),)


def test_where_no_range_holds_all_the_largest_go_first_and_the_rest_fits_best() -> None:
    assert ranges.take(((0, 6), (7, 9), (10, 13), (14, 15)), 7) == ((0, 6), (14, 15))


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ([(0, 2), (1, 3)], r"ranges \[\(0, 2\), \(1, 3\)\] name unit 1 twice: expected each unit"),
        (
            [(2, 2)],
            r"\(2, 2\) in \[\(2, 2\)\] is no range: expected \(first, end\) with 0 <= first",
        ),
        ([(-1, 2)], "is no range"),
        ([(0, 1, 2)], "is no range"),
        ([(0, 1.5)], "is no range"),
        ([(False, True)], "is no range"),
    ],
)
def test_what_is_no_set_of_units_is_refused(pairs: list[tuple[int, int]], text: str) -> None:
    with pytest.raises(errors.UnitsError, match=text):
        ranges.of(pairs)


def test_taking_away_what_is_not_there_is_our_bug() -> None:
    with pytest.raises(errors.InternalError, match=r"\(\(3, 5\),\) is not a part of \(\(0, 4\),\)"):
        ranges.minus(((0, 4),), ((3, 5),))
