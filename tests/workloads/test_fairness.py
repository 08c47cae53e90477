"""Fairness while tenants compete, by hand and against every period of a run."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqua_jax.workloads import fairness

NOTES = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 9).map(float)),
        st.sets(st.sampled_from("abc")),
    ),
    max_size=12,
)


def test_only_seconds_in_which_two_are_backlogged_count() -> None:
    run = fairness.Fairness({"a": 2.0})
    run.note(0.0, {}, ["a"])
    run.note(5.0, {"a": 100.0}, ["a"])  # b came within these
    run.note(7.0, {"a": 40.0, "b": 10.0}, ["b", "a"])
    run.note(8.0, {"a": 0.0, "b": 4.0}, ["b"])  # a's last was let in within this one
    run.note(9.0, {"b": 50.0}, ["b"])
    assert run.contended == {
        "a": fairness.Contended(seconds=2.0, service=20.0),
        "b": fairness.Contended(seconds=2.0, service=10.0),
    }
    assert run.gap_max == 10.0


def test_a_gap_is_that_of_the_worst_period_and_not_of_the_whole() -> None:
    run = fairness.Fairness({})
    run.note(0.0, {}, "ab")
    for at, (a, b) in enumerate([(5.0, 0.0), (0.0, 7.0), (2.0, 4.0), (9.0, 1.0)], 1):
        run.note(float(at), {"a": a, "b": b}, "ab")
    assert run.gap_max == 9.0  # leads of a: 5, -2, -4, 4


def test_a_gap_does_not_outlast_the_backlog() -> None:
    run = fairness.Fairness({})
    for round_ in range(3):
        run.note(3.0 * round_, {}, "ab")
        run.note(3.0 * round_ + 1, {"a": 6.0}, "ab")
        run.note(3.0 * round_ + 2, {"a": 50.0}, "b")
    assert run.gap_max == 6.0


def test_one_tenant_alone_has_nobody_to_be_measured_against() -> None:
    run = fairness.Fairness({})
    run.note(0.0, {}, "a")
    run.note(1.0, {"a": 5.0}, "a")
    assert not run.contended
    assert run.gap_max == 0.0


@given(NOTES)
def test_gaps_and_rates_are_those_of_a_search_over_all_periods(
    notes: list[tuple[dict[str, float], set[str]]],
) -> None:
    weight = {"a": 1.0, "b": 1.0, "c": 2.0}
    run = fairness.Fairness(weight)
    for at, (served, backlogged) in enumerate(notes, 1):
        run.note(float(at), served, backlogged)
    gaps = [0.0]
    for one, other in itertools.combinations("abc", 2):
        for first, last in itertools.combinations(range(len(notes) + 1), 2):
            period = notes[first:last]
            if all({one, other} <= backlogged for _, backlogged in period):
                had = {t: sum(served.get(t, 0.0) for served, _ in period) for t in (one, other)}
                gaps.append(abs(had[one] / weight[one] - had[other] / weight[other]))
    assert run.gap_max == pytest.approx(max(gaps))
    for tenant in "abc":
        counted = [served for served, others in notes if tenant in others and len(others) > 1]
        total = run.contended.get(tenant, fairness.Contended())
        assert total.seconds == len(counted)
        expected = sum(served.get(tenant, 0.0) for served in counted) / weight[tenant]
        assert total.service == pytest.approx(expected)
