"""How often pages attended in place are read: by step, by prefill program, from the first seen."""

from __future__ import annotations

import array

import numpy as np
import pytest

from aqua_jax.control import types
from aqua_jax.experiments import away_reads
from aqua_jax.simulation import toy

PAGE_UNITS = 4


def plan(lane: int, away: list[int], *, first: int, prefill: int = 0, steps: int = 0):
    """A plan whose oldest pages are in the spaces `away`, and three more in the pool."""
    session = types.Session(lane, toy.request([1], 9), 0.0)
    entries = [types.away_entry(types.Place(space, i)) for i, space in enumerate(away)]
    pages = array.array("i", [*entries, 7, 8, 9]) if away else [7, 8, 9]
    return types.LanePlan(lane, session, pages, first, prefill, steps, joins=False)


def count(*plans: types.LanePlan, **of: int) -> dict[int, int]:
    reads = away_reads.AwayReads(chunk_units=8, page_units=PAGE_UNITS, **of)
    return reads.count(types.Batch(plans, max(plan.steps for plan in plans)))


def test_every_step_reads_every_page_once_for_each_step_that_it_stands_for():
    stepping = plan(0, [1, 2, 1], first=20, steps=3)
    assert count(stepping) == {1: 6, 2: 3}
    assert count(stepping, step_reads=4) == {1: 24, 2: 12}
    assert count(plan(0, [], first=8, steps=3)) == {}


def test_a_prefill_program_reads_every_page_once_and_programs_are_packed():
    assert count(plan(0, [1, 1], first=8, prefill=8)) == {1: 2}
    assert count(plan(0, [1, 1], first=8, prefill=9, steps=1)) == {1: 6}
    # 5 rows of another session leave 3 of the first program: 12 rows are in 3 programs.
    other = plan(1, [2], first=4, prefill=5)
    assert count(other, plan(0, [1, 1], first=8, prefill=12)) == {2: 1, 1: 6}


@pytest.mark.parametrize("window", [0, 1, 4, 5, 6, 11, 100])
def test_with_a_window_only_pages_from_the_first_seen_on_are_read(window):
    away = [1, 1, 2, 1, 2]
    one = plan(0, away, first=20, prefill=10, steps=3)
    expected = {1: 0, 2: 0}
    for unit in (20, 28, 30, 31, 32):  # two programs and three steps
        seen = {max(0, unit - window + 1) if window else 0, unit}
        for page in range(min(seen) // PAGE_UNITS, len(away)):
            expected[away[page]] += 1
    assert count(one, window=window) == {k: n for k, n in expected.items() if n}


def test_thousands_of_pages_are_counted_without_a_loop_over_them(monkeypatch):
    long = plan(0, [1] * 5000 + [2] * 2000, first=28_004, steps=4)
    monkeypatch.setattr(types, "entry_place", None)
    assert isinstance(np.asarray(long.pages), np.ndarray)
    assert count(long) == {1: 20_000, 2: 8000}
