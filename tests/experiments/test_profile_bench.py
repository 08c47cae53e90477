"""The profile of a machine from end to end, on the smallest; what is compared, and what refused."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import benchmark, overrides, profile_bench
from aqua_jax.simulation import cost, fits, profile
from aqua_jax.workloads import records
from tests.experiments import tiny

# Slices of the burst's model on two cores, [*cost.Work, seconds], that others had work for.
RECORDED = pathlib.Path(__file__).with_name("recorded_slices.json")


def settings(**changes) -> profile_bench.ProfileBenchmark:
    given = {"experiment": tiny.experiment(), "repeats": 1} | changes
    return profile_bench.ProfileBenchmark(**given)


def recorded() -> list[fits.Slice]:
    rows = json.loads(RECORDED.read_text())
    return [fits.Slice(cost.Work(*row[:-1]), row[-1]) for row in rows]


def test_the_cost_of_recorded_slices_foretells_others_of_them():
    slices = recorded()
    assert len(slices) > 100
    estimate = fits.slice_cost(slices[::2])
    found = profile_bench.met_in_all(estimate)
    others = slices[1::2]
    predicted = sum(found.picoseconds(one.work) / 1e12 for one in others)
    assert predicted == pytest.approx(sum(one.seconds for one in others), rel=0.1)
    assert estimate.error_median < 0.25
    assert found.step_ps > 0
    for kind in ("chunks", "steps"):  # neither of them at the other's cost
        some = [one for one in others if getattr(one.work, kind)]
        part = sum(found.picoseconds(one.work) / 1e12 for one in some)
        assert part == pytest.approx(sum(one.seconds for one in some), rel=0.15), kind


def test_a_cost_that_is_short_in_all_is_scaled():
    estimate = fits.slice_cost(recorded())
    short = dataclasses.replace(estimate, error_total=-0.2)
    met = profile_bench.met_in_all(short)
    assert met.step_ps == pytest.approx(estimate.cost.step_ps / 0.8, rel=1e-9)
    assert met.overlaps is estimate.cost.overlaps is False


def test_from_end_to_end(shared, monkeypatch, tmp_path):
    wanted = settings(arms="fcfs,cfs_peer", verify=True)
    first = wanted.trial(0)
    monkeypatch.setattr(first, "machine", lambda: shared)
    monkeypatch.setattr(profile_bench.ProfileBenchmark, "trial", lambda self, repeat: first)
    monkeypatch.setattr(shared, "close", lambda: None)  # others have it after this
    words: list[str] = []
    profiling = profile_bench.Profiling(wanted, say=words.append)
    value = benchmark.run(profiling, config=overrides.as_json(wanted), on_row=lambda *row: None)
    assert words == ["compiling", "pass 1 of 1", "fcfs, seed 0", "cfs_peer, seed 0"]
    rows = value["benchmark"]
    assert list(rows) == [
        "slices", "host", "out to peer", "in from peer", "out to host", "in from host",
        "fcfs, seed 0", "cfs_peer, seed 0", "fcfs, median", "cfs_peer, median",
    ]  # fmt: skip
    found = profiling.found
    assert rows["slices"]["fitted"] == found.fit.slices > 20
    assert found.page_bytes == shared.runner.page_bytes
    assert found.ahead_ns == 4_000_000
    assert found.measured_on["model"] == "tiny, float32, 1 shards"
    profile.save(found, tmp_path / "profile.json")
    assert profile.load(tmp_path / "profile.json") == found
    for arm in ("fcfs", "cfs_peer"):
        row, median = rows[f"{arm}, seed 0"], rows[f"{arm}, median"]
        for figure, error in row["error"].items():
            both = row[f"{figure}_seconds"]
            assert both["predicted"] / both["real"] - 1 == pytest.approx(error)
            assert median["error"][figure] == abs(error)
        assert median["within_bound"] is (max(median["error"].values()) <= wanted.bound)
        assert row["slices"]["real"] > 10 < row["slices"]["predicted"]
        assert 1 <= row["lanes_mean"]["predicted"] <= 8


def test_a_run_is_no_different_from_itself():
    request = records.RequestRecord(0, "", 4, 0.5, 1.0, 2.0, "length", [1, 2, 3])
    run = records.RunRecord("a", "measured", requests=[request], slices=2, device_seconds=1.0)
    run.spans = [
        records.Span("device", "slice", 0.0, 1.0, {"lanes": lanes, "prefill": 0, "steps": 4})
        for lanes in (1, 2)
    ]
    figures = profile_bench.compare(run, run)
    assert figures["error"] == {"ttft_p50": 0.0, "ttft_p99": 0.0, "makespan": 0.0}
    assert figures["ttft_p50_seconds"] == {"real": 0.5, "predicted": 0.5}
    assert figures["makespan_seconds"]["real"] == 1.5
    assert figures["lanes_mean"]["real"] == 1.5
    assert figures["slice_seconds"]["real"] == 0.5


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"repeats": 0}, "repeats is 0; give at least 1"),
        ({"bound": 0.0}, "bound is 0.0; give more than 0"),
        ({"arms": "fcfs,cfs_pear"}, "unknown arm 'cfs_pear' (did you mean 'cfs_peer'?)"),
        (
            {"experiment": tiny.experiment(emulate__dilation=2.0)},
            "experiment.emulate.dilation is 2.0: slices would take another machine's times",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(changes, text):
    with pytest.raises(errors.ConfigError, match=re.escape(text)) as raised:
        settings(**changes)
    assert "\n" not in str(raised.value)
