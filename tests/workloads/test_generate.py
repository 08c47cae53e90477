"""The embedded workload: its fit, its figures, and the same draws everywhere."""

from __future__ import annotations

import hashlib
import itertools
import math
import statistics

import pytest

from aqua_jax.control import errors
from aqua_jax.workloads import generate, shaping, traces


def test_constants_are_the_fit_of_the_azure_trace(traces_dir):
    arrivals = traces.read_azure(traces_dir / "AzureLLMInferenceTrace_2023_conv.csv")
    for fit, lengths in (
        (generate.AZURE_PROMPTS, [a.prompt_tokens for a in arrivals]),
        (generate.AZURE_OUTPUTS, [a.output_tokens for a in arrivals]),
    ):
        logs = [math.log(tokens) for tokens in lengths]
        assert fit.log_mean == pytest.approx(statistics.fmean(logs), abs=5e-5)
        assert fit.log_std == pytest.approx(statistics.pstdev(logs), abs=5e-5)
        assert fit.tokens_max == max(lengths)


def test_documented_facts_of_the_trace_hold(traces_dir):
    arrivals = traces.read_azure(traces_dir / "AzureLLMInferenceTrace_2023_conv.csv")
    prompts = [math.log(a.prompt_tokens) for a in arrivals]
    outputs = [math.log(a.output_tokens) for a in arrivals]
    assert statistics.correlation(prompts, outputs) == pytest.approx(0.09, abs=0.005)
    assert _variation(arrivals) == pytest.approx(1.09, abs=0.005)


def test_lengths_have_the_documented_figures():
    arrivals = generate.generate(20_000, 0, requests_per_second=1.0)
    prompts = [a.prompt_tokens for a in arrivals]
    outputs = [a.output_tokens for a in arrivals]
    assert statistics.median(prompts) == pytest.approx(760, rel=0.03)
    assert statistics.fmean(prompts) == pytest.approx(1227, rel=0.03)
    assert statistics.median(outputs) == pytest.approx(151, rel=0.03)
    assert statistics.fmean(outputs) == pytest.approx(213, rel=0.03)
    assert max(outputs) == 1000
    assert min(prompts) >= 1


@pytest.mark.parametrize("burstiness", [0.0, 0.5, 1.0, 2.5])
def test_gaps_have_the_asked_rate_and_variation(burstiness):
    arrivals = generate.generate(20_000, 3, requests_per_second=4.0, burstiness=burstiness)
    rate = (len(arrivals) - 1) / arrivals[-1].at_seconds
    assert rate == pytest.approx(4.0, rel=0.05)
    assert _variation(arrivals) == pytest.approx(burstiness, abs=0.05 + 0.03 * burstiness)


def test_the_same_requests_arrive_at_any_rate():
    slow = generate.generate(50, 7, requests_per_second=1.0)
    fast = generate.generate(50, 7, requests_per_second=9.0, burstiness=2.0)
    assert [a.prompt_tokens for a in slow] == [a.prompt_tokens for a in fast]
    assert [a.output_tokens for a in slow] == [a.output_tokens for a in fast]
    assert slow != generate.generate(50, 8, requests_per_second=1.0)


# Checked with CPython 3.11, 3.12 and 3.13.
GOLDEN = "388f3f93d1e55f48e46930f708dc1399c03584cdfd09cc2ee0820bd2e3f174d0"


def test_draws_are_the_same_on_every_machine():
    arrivals = generate.generate(
        200, 42, requests_per_second=3.0, burstiness=1.5, tenants={"a": 2.0, "b": 1.0}
    )
    rows = ";".join(
        f"{a.at_seconds:.6f},{a.prompt_tokens},{a.output_tokens},{a.tenant}" for a in arrivals
    )
    assert hashlib.sha256(rows.encode()).hexdigest() == GOLDEN


def test_tenants_are_those_of_shaping():
    plain = generate.generate(20, 5, requests_per_second=1.0)
    tenants = {"a": 1.0, "b": 1.0}
    assert generate.generate(
        20, 5, requests_per_second=1.0, tenants=tenants
    ) == shaping.with_tenants(plain, tenants, seed=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requests": 0}, "requests is 0"),
        ({"requests_per_second": 0.0}, "requests_per_second is 0.0"),
        ({"requests_per_second": math.inf}, "requests_per_second is inf"),
        ({"burstiness": -1.0}, "burstiness is -1.0"),
    ],
)
def test_senseless_settings_are_refused(change, message):
    settings = {"requests": 1, "requests_per_second": 1.0} | change
    with pytest.raises(errors.ConfigError, match=message):
        generate.generate(settings.pop("requests"), 0, **settings)


def _variation(arrivals) -> float:
    gaps = [b.at_seconds - a.at_seconds for a, b in itertools.pairwise(arrivals)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps)
