"""A short `configs/sim_fair.py`: who gets how much while two clients want more than there is."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import config_file, overrides, sweep
from aqua_jax.workloads import report

CONFIG = pathlib.Path(__file__).resolve().parent.parent / "configs" / "sim_fair.py"
ROWS = 120
HEADER = "req_time_s,client,prompt_len,output_len,first_token_s,latency_s"


def trace(path: pathlib.Path, *, latency_seconds: float) -> pathlib.Path:
    """Clients at 1.5 and 3 requests a second; each as if it had been served in that time."""
    times = sorted(
        (round(number / rate, 6), client)
        for client, rate in (("0", 1.5), ("1", 3.0))
        for number in range(ROWS)
    )[:ROWS]
    rows = [
        f"{at},{client},256,256,{latency_seconds / 2},{latency_seconds}" for at, client in times
    ]
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def make(folder: pathlib.Path, arms: str) -> sweep.Sweep:
    config = config_file.load(str(CONFIG))
    config.workload.trace = str(trace(folder / "trace.csv", latency_seconds=8.0))
    config.workload.requests = ROWS
    config.report.measured.fcfs = config.workload.trace
    config.report.measured.vtc = config.workload.trace
    config.arms, config.workers = arms, 1
    experiment = overrides.simulated_of(config)
    assert experiment is not None
    return sweep.Sweep(experiment)


def run(made: sweep.Sweep) -> dict[str, Any]:
    value = made.run(on_done=lambda one: None, stopped=lambda: False).value
    assert value is not None
    report.check(value)
    return value


@pytest.fixture(scope="module")
def value(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    arms = "fcfs,vtc,cfs_host,vtc_2to1,cfs_host_2to1"
    return run(make(tmp_path_factory.mktemp("fair"), arms))


def test_tenants_share_under_vtc_and_cfs_and_not_under_fcfs(value):
    fairness = {name: arm["fairness"] for name, arm in value["arms"].items()}
    assert fairness["fcfs"]["jain"] < 0.95  # one has twice the other's service: 0.9
    assert fairness["cfs_host"]["jain"] > 0.999
    assert fairness["vtc"]["jain"] > 0.999
    for weights in ("", "_2to1"):
        gaps = [fairness[f"{policy}{weights}"]["service_gap_max"] for policy in ("cfs_host", "vtc")]
        assert gaps[0] <= gaps[1] < 0.5 * fairness["fcfs"]["service_gap_max"]


def test_first_tokens_come_sooner_under_cfs_than_under_vtc(value):
    arms = value["arms"]
    for weights in ("", "_2to1"):
        vtc, cfs = arms[f"vtc{weights}"], arms[f"cfs_host{weights}"]
        assert cfs["ttft_seconds"]["p99"] < 0.8 * vtc["ttft_seconds"]["p99"]
        assert cfs["token_ids_sha256"] == vtc["token_ids_sha256"]


def test_what_was_measured_stands_beside_the_arms_of_that_policy(value):
    assert list(value["measured"]) == ["fcfs", "vtc"]
    for arm in ("fcfs", "vtc"):
        rows = value["measured"][arm]
        assert {name: row["requests"] for name, row in rows.items()} == {
            "client 0": 40,
            "client 1": 80,
        }
        for row in rows.values():
            assert row["e2e_mean_seconds"]["measured"] == pytest.approx(8.0)
            assert row["e2e_mean_ratio"] == pytest.approx(row["e2e_mean_seconds"]["simulated"] / 8)


def test_measurements_of_other_requests_or_of_no_arm_are_refused(tmp_path):
    made = make(tmp_path, "fcfs").experiment
    other = tmp_path / "other.csv"
    other.write_text(f"{HEADER}\n1,2,256,256,1,2\n")
    for measured, said in (
        ({"fcfs": str(other)}, "none of the 120 requests is among the 1 of report.measured.fcfs"),
        ({"fcsf": str(other)}, r"report.measured.fcsf is of no arm \(did you mean 'fcfs'\?\)"),
    ):
        config = overrides.simulated_config_dict(made)
        config.report.measured = measured
        experiment = overrides.simulated_of(config)
        assert experiment is not None
        with pytest.raises(errors.ConfigError, match=said):
            sweep.Sweep(experiment)
