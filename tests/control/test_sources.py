"""What a lender can spare: by the load of an engine, by what a batch leaves free."""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import errors, ranges, sources
from tests.control import desk


def make(**load: Any) -> tuple[sources.PoolSource, desk.Desk]:
    """Pages of a pool of 16, lent in units of two; four are retained."""
    at = desk.Desk(pool_pages=16, tiers={"host": 32})
    limits: dict[str, Any] = {
        "retain_pages": 4,
        "pending_low": 1,
        "pending_high": 3,
        "calm_seconds": 2.0,
    } | load
    settings = sources.PoolLoad(**limits)
    return sources.PoolSource(at.controller, settings, unit_pages=2), at


def lend(source: sources.PoolSource, units: int) -> None:
    assert source.reserve(units) == units
    source.lend(ranges.of([(0, units)]))


def test_an_idle_engine_spares_all_but_what_it_retains() -> None:
    source, at = make()
    assert source.target(0, 0.0) == 6
    lend(source, 6)
    assert (at.memory.device.free_count, at.memory.device.capacity) == (4, 4)
    assert source.target(6, 1.0) == 6
    assert sorted(page for unit in range(6) for page in source.pages(unit)) == list(range(5, 17))


def test_what_the_ledger_does_not_take_stays() -> None:
    source, at = make()
    assert source.reserve(99) == 8
    source.lend(ranges.of([(3, 5)]))
    assert at.memory.device.free_count == 12
    source.take_back(ranges.of([(4, 5)]))
    assert at.memory.device.free_count == 14
    at.check()


def test_many_that_wait_call_everything_back() -> None:
    source, at = make()
    lend(source, 4)
    for _ in range(3):
        at.submit(4, 4)
    assert source.target(4, 5.0) == 0


def test_pages_that_are_short_call_back_what_is_short() -> None:
    source, at = make()
    lend(source, 6)
    at.submit(8, 9)
    assert source.target(6, 0.0) == 6
    at.round()
    at.decide()
    assert at.memory.device.free_count == 1  # one less than half of what it retains
    assert source.target(6, 0.0) == 5


def test_a_session_that_needs_more_than_is_left_gets_it() -> None:
    source, at = make()
    lend(source, 6)
    at.submit(30, 3)  # 8 pages, of which 4 are there
    assert source.target(6, 0.0) == 4


def test_what_its_largest_session_will_want_is_not_offered() -> None:
    source, at = make()
    at.submit(30, 3)  # 8 pages
    assert at.memory.device.free_count == 16
    assert source.target(0, 0.0) == 4


def test_it_offers_again_only_after_a_calm_while() -> None:
    source, at = make()
    lend(source, 2)
    sessions = [at.submit(4, 4) for _ in range(2)]
    assert source.target(2, 1.0) == 2  # two wait: neither calm nor busy
    for session in sessions:
        at.controller.end(session, "abort", 1.5)
    assert source.target(2, 2.9) == 2
    assert source.target(2, 3.1) == 6


def test_a_batch_model_lends_what_is_free_but_for_a_buffer_if_it_is_worth_it() -> None:
    source = sources.BatchSource(unit_bytes=10, buffer_bytes=50, least_bytes=100)
    assert source.target(0, 0.0) == 0
    source.inform(149)
    assert source.target(0, 0.0) == 0
    source.inform(159)
    assert source.target(0, 0.0) == 10
    assert source.reserve(10) == 10
    source.lend(ranges.of([(0, 8)]))
    source.take_back(ranges.of([(0, 2)]))
    assert source.lent == ((2, 8),)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"pending_low": 4}, "pending_low 4, pending_high 3: give counts, the first below the sec"),
        ({"retain_pages": -1}, "retain_pages -1, calm_seconds 2.0: give 0 or more"),
    ],
)
def test_loads_that_cannot_be_are_named(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.ConfigError, match=text):
        make(**wrong)


def test_a_unit_holds_something() -> None:
    with pytest.raises(errors.ConfigError, match="unit_bytes is 0; give at least 1"):
        sources.BatchSource(unit_bytes=0, buffer_bytes=0, least_bytes=0)
