"""The benchmark of the controller through the door."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from aqua_jax.workloads import report

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(workdir: pathlib.Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aqua_jax.run", "--config=configs/bench_controller.py"]
    return subprocess.run(
        [*command, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_prints_a_table_and_writes_its_report(tmp_path) -> None:
    sizes = ("running=8", "waiting=40", "dispatches=50", "warm_up=30")
    done = run(tmp_path, *(f"--config.{size}" for size in sizes))
    assert done.returncode == 0, done.stderr
    for text in ("8 running and 40 waiting", "fcfs", "cfs", "Controller p99", "report.json"):
        assert text in done.stdout
    value = json.loads((tmp_path / "report.json").read_text())
    report.check(value)
    assert value["config"]["running"] == 8
    assert {row["dispatches"] for row in value["benchmark"].values()} == {50}


def test_a_wrong_setting_is_one_line(tmp_path) -> None:
    done = run(tmp_path / "none", "--config.policies=fcsf")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "aqua_jax.run: unknown policy 'fcsf' (did you mean 'fcfs'?)\n"
    assert not (tmp_path / "none").exists()
