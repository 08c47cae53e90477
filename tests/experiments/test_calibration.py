"""The sustained rate on devices whose costs are known: sums by hand, then whole runs."""

from __future__ import annotations

import collections
import statistics

import pytest

from aqua_jax.control.policies import base
from aqua_jax.experiments import calibration
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench
from aqua_jax.workloads import generate, records, shaping

CHUNK, STEP = 0.010, 0.004
YOUNG = 512  # requests of a flood behind those in mid-life
SCENARIO = bench.Scenario(
    policy=base.PolicySettings(name="fcfs"),
    tier_pages=(),
    page_units=8,
    pool_pages=33,
    lanes=8,
    chunk_units=16,
)


def arrivals(requests: int, seed: int = 0) -> list[records.Arrival]:
    drawn = generate.generate(requests, seed, requests_per_second=1.0)
    limits = {"prompt_max": 32, "output_max": 64}
    return shaping.scale(drawn, prompt_scale=1 / 64, output_scale=1 / 8, **limits).arrivals


def slices(*shapes: tuple[int, int, int, int]) -> list[calibration.Slice]:
    """Slices of (chunks, rows, steps, tokens) one behind the other, at the known costs."""
    made, at = [], 3.0
    for chunks, rows, steps, tokens in shapes:
        end = at + chunks * CHUNK + steps * STEP
        made.append(calibration.Slice(chunks, rows, steps, tokens, at, end))
        at = end
    return made


def test_the_rate_is_one_over_the_seconds_that_a_request_costs():
    drawn = [records.Arrival(0.0, 40, 21)]
    ran = slices(
        (2, 32, 0, 0), (2, 32, 4, 8), (0, 0, 4, 32), (1, 16, 4, 32), (0, 0, 4, 32), (0, 0, 4, 32)
    )
    row_seconds = CHUNK / 16
    token_seconds = STEP / 8
    expected = 1 / (40 * row_seconds + 20 * token_seconds)
    assert calibration.rate(ran, drawn, recomputed=0.0) == pytest.approx(expected)
    slower = 1 / ((40 + 21 * 0.5) * row_seconds + 20 * token_seconds)
    assert calibration.rate(ran, drawn, recomputed=0.5) == pytest.approx(slower)


def test_time_in_which_the_device_was_not_busy_counts():
    drawn = [records.Arrival(0.0, 40, 21)]
    ran = slices((2, 32, 0, 0), *[(0, 0, 4, 32)] * 6)
    spread = [ran[0]]
    for index, one in enumerate(ran[1:]):
        spread.append(one._replace(started_at=index * 0.032, finished_at=index * 0.032 + 0.016))
    busy, half_idle = (calibration.rate(some, drawn, recomputed=0.0) for some in (ran, spread))
    assert busy is not None
    assert half_idle == pytest.approx(busy * (6 * 0.016) / (5 * 0.032 + 0.016), rel=1e-3)


def test_too_little_is_no_rate():
    drawn = [records.Arrival(0.0, 40, 21)]
    assert calibration.rate([], drawn, recomputed=0.0) is None
    assert calibration.rate(slices(*[(2, 32, 0, 0)] * 9), drawn, recomputed=0.0) is None
    assert calibration.rate(slices((0, 0, 4, 32)), drawn, recomputed=0.0) is None


def test_the_flood_is_of_the_drawn_requests_in_their_proportions():
    drawn = arrivals(50)
    flood = calibration.flood(drawn, lanes=8, capacity_tokens=10_000)
    young = flood[-YOUNG:]
    assert collections.Counter(young[:50]) == collections.Counter(drawn)
    mean = statistics.fmean(one.output_tokens for one in drawn)
    for first in range(0, 200, 10):  # any ten in a row look like all of them
        ten = statistics.fmean(one.output_tokens for one in young[first : first + 10])
        assert 0.7 * mean < ten < 1.4 * mean


def test_the_first_of_a_flood_are_in_mid_life_and_fit():
    drawn = arrivals(50)
    lengths = {one.prompt_tokens + one.output_tokens for one in drawn}
    for capacity in (10_000, 100, 1):
        flood = calibration.flood(drawn, lanes=8, capacity_tokens=capacity)
        caught = flood[:-YOUNG]
        assert len(caught) <= 8
        assert len(caught) == 1 or sum(one.prompt_tokens for one in caught) <= capacity
        assert all(one.output_tokens >= 1 for one in caught)
        assert all(one.prompt_tokens + one.output_tokens in lengths for one in caught)


def test_one_request_is_enough_of_a_workload():
    flood = calibration.flood([records.Arrival(0.0, 5, 4)], lanes=2, capacity_tokens=100)
    assert flood[-1] == records.Arrival(0.0, 5, 4)
    assert [(one.prompt_tokens, one.output_tokens) for one in flood[:2]] == [(6, 3), (8, 1)]


@pytest.mark.parametrize("seed", range(4))
def test_a_short_flood_foretells_the_throughput_of_a_long_one(seed):
    drawn = arrivals(100, seed)
    made = bench.Bench(SCENARIO)
    account = calibration.Account()
    made.engine.observer = account
    capacity = (SCENARIO.pool_pages - 1) * SCENARIO.page_units
    flood = calibration.flood(drawn, lanes=SCENARIO.lanes, capacity_tokens=capacity)
    recomputed = calibration.keep_full(made.engine, requests(flood), seconds=0.5)
    made.check_all_free()
    rate = calibration.rate(account.slices, drawn, recomputed=recomputed)
    assert recomputed > 0

    long = bench.Bench(SCENARIO)
    for request in requests(drawn * 2):
        long.engine.submit(request, sink=lambda tokens, reason, at: None)
    while not long.engine.idle:
        long.engine.step()
    assert rate == pytest.approx(2 * len(drawn) / long.clock.now(), rel=0.25)


def requests(drawn: list[records.Arrival]):
    return [toy.request([1] * one.prompt_tokens, one.output_tokens) for one in drawn]
