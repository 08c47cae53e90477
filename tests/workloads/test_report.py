"""The report: a golden one, its schema, and files that are whole or absent."""

from __future__ import annotations

import json
import math
import os
import pathlib

import pytest

from aqua_jax.control import errors
from aqua_jax.workloads import report
from tests.workloads import synthetic

# Of requests 0 to 3 with tokens id, id + 1 and id + 2.
TOKEN_IDS_SHA256 = "ff351ee466fbefbe0e40323eb1c4743b5a3ce78851da0026c8739e02fb5b0ef5"


def _runs(evidence: str = "measured"):
    return [
        synthetic.run("fcfs", first_token_seconds=4.0, evidence=evidence),
        synthetic.run("cfs_peer", evidence=evidence),
    ]


def _assemble(runs=None, **settings):
    return report.assemble(
        runs or _runs(), **{"config": {"seed": 1}, "devices": ["cpu:0"]} | settings
    )


def test_a_synthetic_run_gives_the_golden_report():
    value = _assemble()
    report.check(value)
    assert list(value) == [
        "schema_version",
        "config",
        "evidence",
        "hardware",
        "versions",
        "arms",
        "comparisons",
    ]
    distribution = {"mean": 1.0, "p50": 1.0, "p90": 1.0, "p99": 1.0, "max": 1.0}
    assert value["arms"]["cfs_peer"] == {
        "requests": 4,
        "finished": 4,
        "refused": 0,
        "ttft_seconds": distribution,
        "tpot_seconds": dict.fromkeys(distribution, 0.5),
        "e2e_seconds": dict.fromkeys(distribution, 2.0),
        "output_tokens": 12,
        "output_tokens_per_second": 12 / 5,
        "makespan_seconds": 5.0,
        "prefill_share": 0.25,
        "prefill_tokens": 400,
        "preemptions": 0,
        "recomputed_tokens": 0,
        "overrun_tokens": 0,
        "stall_seconds": 0.25,
        "paged_bytes": {
            "out": {"peer": 4096, "host": 0},
            "in": {"peer": 1024, "host": 0},
            "wasted": 0,
        },
        "copies": {"count": 2, "bytes_p50": 1024, "late": 0},
        "device_idle_fraction": 0.1,
        "controller_seconds": {"p50": 4e-4, "p99": 8e-4},
        "fairness": {"jain": 1.0, "service_gap_max": 0.0},
        "token_ids_sha256": TOKEN_IDS_SHA256,
    }
    assert list(value["comparisons"]) == ["cfs_peer/fcfs"]


def test_every_other_arm_is_compared_with_every_baseline():
    runs = [synthetic.run(name) for name in ("fcfs", "reserve", "cfs", "cfs_peer")]
    value = _assemble(runs, baselines=("fcfs", "reserve"))
    assert list(value["comparisons"]) == [
        "cfs/fcfs",
        "cfs/reserve",
        "cfs_peer/fcfs",
        "cfs_peer/reserve",
    ]


def test_optional_tables_appear_when_there_is_something_in_them():
    runs = [synthetic.run("a", evidence="emulated", tenants=("x", "y"))]
    runs[0].programs = {"decode": {"compiles": 1, "calls": 8}}
    links = {"gpu 0->gpu 1": {"bytes_per_second": 3e11, "latency_seconds": 1e-5}}
    value = _assemble(runs, tables={"links": links})
    report.check(value)
    assert value["tenants"]["a"]["x"]["finished"] == 2
    assert value["emulation"]["a"]["valid"] is True
    assert value["programs"] == {"a": {"decode": {"compiles": 1, "calls": 8}}}
    assert value["links"] == links


def test_what_json_cannot_hold_becomes_its_text():
    value = _assemble(config={"path": pathlib.Path("a/b"), "limit": math.inf, "sizes": (1, 2)})
    assert value["config"] == {"path": "a/b", "limit": "inf", "sizes": [1, 2]}


@pytest.mark.parametrize(
    ("runs", "settings", "error", "message"),
    [
        ([], {}, errors.ConfigError, "at least one arm"),
        (["a", "a"], {}, errors.ConfigError, "must be distinct"),
        (["a/b"], {}, errors.ConfigError, "without '/'"),
        (["fcfs"], {"baselines": ("fcf",)}, errors.ConfigError, "did you mean 'fcfs'"),
    ],
)
def test_arms_that_cannot_be_reported_are_refused(runs, settings, error, message):
    with pytest.raises(error, match=message):
        report.assemble([synthetic.run(name) for name in runs], config={}, devices=[], **settings)


def test_kinds_of_evidence_do_not_mix():
    runs = [synthetic.run("a"), synthetic.run("b", evidence="simulated")]
    with pytest.raises(errors.InternalError, match="share one kind of evidence"):
        _assemble(runs)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: r.pop("hardware"), r"missing \['hardware'\]"),
        (lambda r: r.update(extra=1), r"unknown \['extra'\]"),
        (lambda r: r.update(schema_version=2), "schema_version 2, expected 1"),
        (lambda r: r.update(evidence="guessed"), "evidence 'guessed'"),
        (lambda r: r["arms"]["fcfs"].pop("fairness"), r"arm 'fcfs' lacks \['fairness'\]"),
        (lambda r: r["arms"]["fcfs"].update(luck=1), "arms.fcfs.luck has no definition"),
        (lambda r: r["arms"]["fcfs"].update(stall_seconds=math.nan), "stall_seconds is nan"),
        (lambda r: r["arms"].pop("fcfs"), "comparison 'cfs_peer/fcfs' names an arm that is absent"),
    ],
)
def test_check_finds_each_fault(damage, message):
    value = _assemble()
    damage(value)
    with pytest.raises(errors.InternalError, match=message):
        report.check(value)


def test_three_files_are_written_and_nothing_else(tmp_path):
    runs = _runs()
    value = _assemble(runs)
    folder = tmp_path / "new" / "folder"
    paths = report.write(folder, value, runs)
    assert sorted(os.listdir(folder)) == ["report.html", "report.json", "trace.json"]
    assert json.loads(paths["report.json"].read_text()) == value
    assert json.loads(paths["trace.json"].read_text())["traceEvents"]
    assert paths["report.html"].read_text().startswith("<!DOCTYPE html>")
    report.write(folder, value, runs)
    assert len(os.listdir(folder)) == 3


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    runs = _runs()
    value = _assemble(runs)
    report.write(tmp_path, value, runs)
    before = (tmp_path / "report.json").read_text()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        report.write(tmp_path, value | {"config": {"seed": 2}}, runs)
    assert (tmp_path / "report.json").read_text() == before
    assert len(os.listdir(tmp_path)) == 3


def test_json_is_strict(tmp_path):
    value = _assemble()
    value["arms"]["fcfs"]["stall_seconds"] = math.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.write(tmp_path, value, _runs())
    assert not os.listdir(tmp_path)
