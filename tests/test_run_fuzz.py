"""Random runs through the door: what it prints, writes and exits with."""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# A config whose runs break a promise at seed 1: what a test cannot patch in other processes.
BROKEN = """
from aqua_jax.simulation.fuzz import verdict, whole
from configs import fuzz

_run = whole.run


def run(server):
    verdict.promise(server.seed != 1, "one is wrong")
    return _run(server)


whole.run = run
get_config = fuzz.get_config
"""


def run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *shlex.split(command)[1:]],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_seeds_that_pass_are_counted_in_the_report(tmp_path: pathlib.Path) -> None:
    done = run(
        "python -m aqua_jax.run --config=configs/fuzz.py --config.seeds=12 --config.workers=2"
        f" --workdir={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    assert "12 seeds: every promise was kept" in done.stdout
    value = json.loads((tmp_path / "report.json").read_text())
    assert value["config"] == {"seeds": 12, "first_seed": 0, "workers": 2}
    assert value["fuzz"]["seeds"] == 12
    assert value["fuzz"]["counts"]["decisions"] > 0


def test_the_seed_that_fails_is_named_with_the_command_that_replays_it(
    tmp_path: pathlib.Path,
) -> None:
    config = tmp_path / "broken.py"
    config.write_text(BROKEN)
    done = run(
        f"python -m aqua_jax.run --config={config} --config.seeds=5 --config.workers=1"
        f" --workdir={tmp_path / 'out'}"
    )
    assert done.returncode == 1, done.stderr
    assert "seed 1 fails: BrokenPromiseError: one is wrong" in done.stdout
    (command,) = [
        line.removeprefix("replay: ")
        for line in done.stdout.splitlines()
        if line.startswith("replay: ")
    ]
    again = run(command)
    assert again.returncode == 1
    assert "seed 1 fails: BrokenPromiseError: one is wrong" in again.stdout
    value = json.loads((tmp_path / "out" / "report.json").read_text())
    assert value["config"]["first_seed"] == value["fuzz"]["failure"]["seed"] == 1
