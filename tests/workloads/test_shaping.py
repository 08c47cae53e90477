"""Windows, scales, rates and tenants."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqua_jax.control import errors
from aqua_jax.workloads import records, shaping, traces

ARRIVALS = [
    records.Arrival(at_seconds=at, prompt_tokens=100 + i, output_tokens=10 + i)
    for i, at in enumerate([0.0, 1.0, 1.5, 4.0, 9.0, 10.0])
]


@given(st.integers(1, len(ARRIVALS)), st.integers(0, 2**64))
def test_a_window_is_consecutive_and_starts_at_zero(requests, seed):
    window = shaping.window(ARRIVALS, requests, seed=seed)
    first = window[0].prompt_tokens - 100
    expected = ARRIVALS[first : first + requests]
    assert [a.prompt_tokens for a in window] == [a.prompt_tokens for a in expected]
    assert [a.at_seconds for a in window] == [
        a.at_seconds - expected[0].at_seconds for a in expected
    ]
    assert window == shaping.window(ARRIVALS, requests, seed=seed)


def test_a_window_begins_where_the_documented_draw_says():
    for seed in range(100):
        start = random.Random(seed).randrange(4)
        assert shaping.window(ARRIVALS, 2, seed=seed)[0].prompt_tokens == 100 + start
    assert shaping.window(ARRIVALS, 6, seed=3)[0].prompt_tokens == 100


def test_the_windows_of_the_azure_trace_are_these(traces_dir):
    """The same under any Python and on any machine."""
    arrivals = traces.read(traces_dir / "AzureLLMInferenceTrace_2023_conv.csv")
    windows = [shaping.window(arrivals, 600, seed=seed) for seed in range(5)]
    found = [(w[0].prompt_tokens, w[0].output_tokens, w[-1].prompt_tokens) for w in windows]
    assert found == [
        (1176, 116, 216),
        (1353, 147, 1314),
        (1063, 93, 1045),
        (4096, 67, 1292),
        (409, 94, 372),
    ]


def test_what_is_not_sorted_is_sorted_and_counted():
    shuffled = [ARRIVALS[i] for i in (2, 0, 1, 3, 5, 4)]
    ordered = shaping.in_order(shuffled)
    assert ordered.arrivals == ARRIVALS
    assert ordered.misplaced == 3
    assert shaping.in_order(ARRIVALS) == (ARRIVALS, 0)


def test_requests_of_one_moment_stay_as_they_stood():
    early, late = records.Arrival(4.0, 1, 1), records.Arrival(4.0, 2, 1)
    ordered = shaping.in_order([records.Arrival(5.0, 3, 1), early, late])
    assert [a.prompt_tokens for a in ordered.arrivals] == [1, 2, 3]
    assert [a.at_seconds for a in ordered.arrivals] == [0.0, 0.0, 1.0]
    assert ordered.misplaced == 2


@pytest.mark.parametrize("requests", [0, 7])
def test_a_window_that_does_not_fit_is_refused(requests):
    with pytest.raises(
        errors.ConfigError, match=rf"{requests} requests does not fit.*ask for 1 to 6"
    ):
        shaping.window(ARRIVALS, requests, seed=0)


def test_lengths_scale_apart_round_half_up_and_clip():
    arrivals = [
        records.Arrival(at_seconds=0, prompt_tokens=5, output_tokens=1000),
        records.Arrival(at_seconds=1, prompt_tokens=0, output_tokens=3),
    ]
    scaled = shaping.scale(
        arrivals, prompt_scale=0.5, output_scale=0.1, prompt_max=2, output_max=99
    )
    assert [(a.prompt_tokens, a.output_tokens) for a in scaled.arrivals] == [(2, 99), (1, 1)]
    assert (scaled.prompts_clipped, scaled.outputs_clipped) == (1, 1)


def test_prefix_blocks_scale_with_prompts():
    arrival = records.Arrival(0.0, 1300, 10, prefix_ids=(7, 8, 9), prefix_block_tokens=512)
    (scaled,) = shaping.scale([arrival], prompt_scale=0.1).arrivals
    assert (scaled.prompt_tokens, scaled.prefix_block_tokens) == (130, 51)
    assert scaled.prefix_ids == (7, 8, 9)
    (clipped,) = shaping.scale([arrival], prompt_scale=0.1, prompt_max=60).arrivals
    assert clipped.prefix_ids == (7, 8)


@pytest.mark.parametrize("change", [{"prompt_scale": 0}, {"output_scale": -1.0}, {"prompt_max": 0}])
def test_scales_and_limits_below_the_least_are_refused(change):
    with pytest.raises(errors.ConfigError, match=f"{next(iter(change))} is"):
        shaping.scale(ARRIVALS, **change)


def test_at_rate_sets_the_mean_rate_and_keeps_bursts():
    arrivals = shaping.at_rate(ARRIVALS, 5.0)
    assert arrivals[-1].at_seconds == pytest.approx(1.0)
    assert [a.at_seconds for a in arrivals] == pytest.approx([a.at_seconds / 10 for a in ARRIVALS])


def test_at_rate_needs_time_to_stretch():
    assert shaping.at_rate(ARRIVALS[3:4], 5.0)[0].at_seconds == 0.0
    with pytest.raises(errors.ConfigError, match="all 2 requests arrive at one moment"):
        shaping.at_rate([ARRIVALS[0], ARRIVALS[0]], 5.0)
    with pytest.raises(errors.ConfigError, match="requests_per_second is nan"):
        shaping.at_rate(ARRIVALS, float("nan"))


def test_tenants_come_in_proportion_to_their_weights():
    arrivals = shaping.with_tenants(ARRIVALS * 500, {"heavy": 3.0, "light": 1.0}, seed=1)
    names = [arrival.tenant for arrival in arrivals]
    assert set(names) == {"heavy", "light"}
    assert names.count("heavy") / len(names) == pytest.approx(0.75, abs=0.03)
    with pytest.raises(errors.ConfigError, match="weight of tenant 'a' is 0"):
        shaping.with_tenants(ARRIVALS, {"a": 0}, seed=1)
    with pytest.raises(errors.ConfigError, match="no tenants given"):
        shaping.with_tenants(ARRIVALS, {}, seed=1)
