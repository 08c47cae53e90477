"""Decoding beside copies: the pace is kept, everything arrives; what is timed is not judged."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import overlap_bench, settings
from models import build
from tests.memory import parts

MODEL = settings.ModelSettings(build=build.causal, name="tiny")
SMALL = overlap_bench.Overlap(
    model=MODEL,
    lanes=2,
    steps=2,
    page_tokens=128,
    window_pages=4,
    phase_seconds=0.1,
    rounds=2,
)


@parts.needs_native
def test_unpinned_it_is_compared_with_bare_copies() -> None:
    slow, fast = overlap_bench.measure(SMALL, [4e6, 4e7], ())
    assert list(slow) == [
        "step_seconds",
        "paged_bytes_per_second",
        "paging_slowdown",
        "bare_bytes_per_second",
        "bare_slowdown",
        "paging_over_bare",
    ]
    assert slow["step_seconds"] > 0
    assert 0 < slow["bare_bytes_per_second"] < fast["bare_bytes_per_second"]
    assert 0 < slow["paged_bytes_per_second"] < fast["paged_bytes_per_second"] < 8e7


@parts.needs_native
def test_pinned_there_is_nothing_to_compare_with() -> None:
    (figures,) = overlap_bench.measure(SMALL, [4e7], (max(os.sched_getaffinity(0)),))
    assert list(figures) == ["step_seconds", "paged_bytes_per_second", "paging_slowdown"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lanes": 0}, r"overlap\.lanes is 0; give at least 1"),
        ({"phase_seconds": float("nan")}, r"overlap\.phase_seconds is nan; give more than 0"),
        ({"page_tokens": 64}, r"page_tokens is 64; give at least 67, so that a session fits"),
        ({"attention": "nativ"}, r"unknown overlap\.attention 'nativ' \(did you mean 'native'\?\)"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        dataclasses.replace(SMALL, **changes)
