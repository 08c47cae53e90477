"""Engines in turn: this one, a peer that answers at once, one that is absent, one that fails."""

from __future__ import annotations

import pathlib
import sys

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import benchmark, peers_bench, settings
from models import build as models
from models import shapes

PEER = """
import json, sys
job = json.loads(sys.stdin.readline())
print(json.dumps({"versions": {}}), flush=True)
for turn, line in enumerate(sys.stdin):
    if "fails" in __file__ and turn:
        raise SystemExit("out of memory")
    tokens = [[0] * one["tokens"] for one in job["requests"]]
    print(json.dumps({"seconds": 2.0 + bool(job["kv_tokens"]), "tokens": tokens}), flush=True)
"""


def build(name, *, seed, path, dtype, mesh):
    return models.causal(name, seed=seed, dtype=dtype, mesh=mesh)


def write(name, folder):
    return peers_bench.Shape(weights=shapes.by_name(name).weights, vocab=128)


def make(tmp_path: pathlib.Path, **changes: object) -> peers_bench.PeersBenchmark:
    scripts = {}
    for name in ("quick", "fails", "gone"):
        script = tmp_path / f"{name}.py"
        script.write_text(PEER)
        scripts[name] = str(script)
    given = {
        "model": settings.ModelSettings(build=build),
        "write": write,
        "peers": {"quick": sys.executable, "fails": sys.executable, "gone": "/nowhere/python"},
        "scripts": scripts,
        "engine": settings.EngineSettings(
            lanes=16, chunk_tokens=32, units_max=64, tile_rows=16, page_tokens=8
        ),
        "workloads": "tiny-float32-third",
        "requests": 4,
        "prompt_least": 3,
        "prompt_most": 9,
        "output_tokens": 8,
        "repeats": 2,
        "folder": str(tmp_path),
    }
    return peers_bench.PeersBenchmark(**given | changes)


def test_everybody_runs_the_same_requests_and_is_compared(tmp_path):
    value = benchmark.run(make(tmp_path), config={}, on_row=lambda *row: None)
    figures = value["benchmark"]["tiny-float32-third"]
    rates = figures["tokens_per_second"]
    own = {f"{name}{arm}" for name in ("exact", "inexact") for arm in ("", "_paged", "_full")}
    assert set(rates) == {*own, "quick"}
    assert rates["quick"] == 4 * 8 / 3  # three seconds: it was told that memory is short
    best = max(rates["exact"], rates["inexact"])
    assert figures["over_peer"] == {"quick": best / rates["quick"]}
    assert figures["of_full_memory"] == pytest.approx(
        best / max(rates["exact_full"], rates["inexact_full"])
    )
    assert figures["same_answers"]["exact_full"] == 1
    assert figures["preempted"]["exact_paged"] > 0 == figures["preempted"]["exact_full"]
    assert figures["same_answers"]["quick"] == 0
    assert set(figures["absent"]) == {"fails", "gone"}
    assert "no python at '/nowhere/python': set peers.gone" in figures["absent"]["gone"]
    assert "out of memory" in figures["absent"]["fails"]
    assert figures["of_limit"].keys() == rates.keys()


def test_with_no_peer_at_all_the_engine_is_measured_alone(tmp_path):
    value = benchmark.run(make(tmp_path, peers={}), config={}, on_row=lambda *row: None)
    figures = value["benchmark"]["tiny-float32-third"]
    assert "over_peer" not in figures
    assert figures["of_full_memory"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workloads": "tiny"}, "workloads names 'tiny'; give MODEL-float32 or MODEL-bfloat16"),
        ({"workloads": "tiny-float16"}, "workloads names 'tiny-float16'"),
        ({"prompt_most": 2}, "prompt_most is 2: expected at least prompt_least, 3"),
        ({"repeats": 0}, "repeats"),
        ({"peers": {"other": "python"}}, r"peers.other has no script: set scripts.other"),
    ],
)
def test_settings_that_cannot_be(tmp_path, changes, message):
    with pytest.raises(errors.ConfigError, match=message):
        make(tmp_path, **changes)
