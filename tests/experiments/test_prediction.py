"""Predictions: the production engine at a profile's times; near ones for near profiles."""

from __future__ import annotations

import dataclasses
import random

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import overrides, prediction, profile_bench, replay
from aqua_jax.simulation import cost, fits, profile
from aqua_jax.workloads import measure
from tests.experiments import tiny
from tests.simulation import test_profile

ARMS = {"fcfs": {"policy": {"name": "fcfs"}}, "cfs_peer": tiny.paging()}
WHOLE = tiny.with_arms(ARMS, workload__requests=60, workload__rate=120.0)
DRAWN = replay.arrivals(WHOLE.workload, units_max=WHOLE.engine.units_max).arrivals
# Slices of some 10 ms; links that the burst of pages fills.
TRUE = dataclasses.replace(
    test_profile.PROFILE,
    cost=dataclasses.replace(test_profile.PROFILE.cost, step_ps=1_500_000_000),
    peer=test_profile.LINK,
    page_bytes=4096,
)


def predict(arm: str, measured: profile.Profile = TRUE):
    return prediction.predict(overrides.arm(WHOLE, arm), DRAWN, measured)


def work(draws: random.Random) -> cost.Work:
    """A slice of a tiny engine."""
    rows, steps, lanes = draws.randrange(65), draws.randrange(5), draws.randrange(1, 9)
    steps = steps or (not rows)
    context = steps * lanes * draws.randrange(8, 90)
    return cost.Work(-(-rows // 32), rows, rows, rows * 20, steps, steps * lanes, context)


@pytest.mark.parametrize("arm", ARMS)
def test_every_request_ends_with_its_tokens_and_again_the_same(arm):
    one, again = predict(arm), predict(arm)
    assert measure.summarise(one) | {"controller_seconds": 0} == (
        measure.summarise(again) | {"controller_seconds": 0}  # of this host, not of that one
    )
    assert prediction.arrivals(one) == DRAWN
    assert one.preemptions > 0


def test_a_profile_fitted_to_noisy_slices_with_hiccups_foretells_as_the_true_one_does():
    draws = random.Random("slices")
    timed = []
    for number in range(200):
        made = work(draws)
        seconds = TRUE.cost.picoseconds(made) / 1e12 * (0.9 + 0.2 * draws.random())
        timed.append(fits.Slice(made, seconds * (20 if number % 50 == 7 else 1)))
    estimate = fits.slice_cost(timed)
    assert estimate.outliers == 4
    fitted = dataclasses.replace(TRUE, cost=profile_bench.met_in_all(estimate))
    for arm in ARMS:
        figures = profile_bench.compare(predict(arm), predict(arm, fitted))
        assert max(map(abs, figures["error"].values())) < 0.2, figures


def test_the_host_and_the_links_count():
    overhead = profile.Overhead(dispatch_ns=9_000_000, copy_ns=100_000, read_ns=9_000_000)
    slow = dataclasses.replace(TRUE, overhead=overhead)
    assert ttft(predict("fcfs", slow)) > ttft(predict("fcfs")) + 0.009
    way = profile.Direction(latency_ns=50_000_000, bytes_per_second=10**9, error_median=0.0)
    far = dataclasses.replace(TRUE, peer=profile.Link(out=way, into=way))
    assert (
        measure.summarise(predict("cfs_peer", far))["ttft_seconds"]["p99"]
        > (measure.summarise(predict("cfs_peer"))["ttft_seconds"]["p99"])
    )
    assert ttft(predict("fcfs", far)) == ttft(predict("fcfs"))


def ttft(record) -> float:
    return measure.summarise(record)["ttft_seconds"]["p50"]


def test_what_a_profile_does_not_tell_is_refused():
    with pytest.raises(errors.ConfigError, match="no link of kind 'peer'"):
        predict("cfs_peer", dataclasses.replace(TRUE, peer=None))
    arm = overrides.arm(WHOLE, "cfs_peer")
    away = dataclasses.replace(arm, memory=dataclasses.replace(arm.memory, attend_away="long"))
    with pytest.raises(errors.ConfigError, match=r"memory\.attend_away: a profile does not say"):
        prediction.predict(away, DRAWN, TRUE)
