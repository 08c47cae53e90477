"""Every config: its settings as recorded, its docstring a record, and all of it runnable.

`python -m tests.test_configs` writes the records anew, after a change that was meant.
"""

from __future__ import annotations

import ast
import json
import pathlib
import re
from typing import Any

import pytest

from aqua_jax.experiments import config_file, overrides, simulated_settings, sweep, trial
from tests.experiments import tiny

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
GOLDEN = ROOT / "tests" / "golden"
REFRESH = "python -m tests.test_configs"

every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def dump(path: pathlib.Path) -> dict[str, Any]:
    """The settings of a config as they stand in its reports."""
    config = config_file.load(str(path))
    settings = overrides.task_of(config) or overrides.benchmark_of(config)
    settings = settings or overrides.simulated_of(config) or overrides.fuzz_of(config)
    settings = settings or overrides.completion_of(config)
    return overrides.as_json(settings or overrides.experiment(config))


def recorded(path: pathlib.Path) -> pathlib.Path:
    """Where the settings of a config are recorded."""
    return GOLDEN / f"{path.stem}.json"


def refresh() -> None:
    """Records every config and forgets those that are gone."""
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*.json"):
        old.unlink()
    for path in CONFIGS:
        recorded(path).write_text(json.dumps(dump(path), indent=2, sort_keys=True) + "\n")


@every_config
def test_settings_are_as_recorded(path):
    golden = recorded(path)
    assert golden.is_file(), f"{path.name} has no record: run `{REFRESH}`"
    found = json.loads(json.dumps(dump(path)))
    assert found == json.loads(golden.read_text()), (
        f"the settings of {path.name} are not those in {golden.relative_to(ROOT)}: if that was"
        f" meant, run `{REFRESH}` and commit the difference"
    )


def test_records_have_their_configs():
    assert {file.stem for file in GOLDEN.glob("*.json")} == {path.stem for path in CONFIGS}, (
        f"run `{REFRESH}`"
    )


@every_config
def test_its_docstring_is_its_record(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"--config=configs/{path.name}" in text, "the command"
    assert re.search(r"\bTime\b[^.]*\d+ (s|seconds|minutes?)\b", text), "the time it takes"
    assert re.search(r"\bExpect\b[^.]*\d", text), "the number to expect"


@every_config
def test_it_can_be_run_and_making_it_compiles_nothing(path):
    config = config_file.load(str(path))
    others = (
        overrides.task_of,
        overrides.benchmark_of,
        overrides.fuzz_of,
        overrides.completion_of,
    )
    if any(read(config) is not None for read in others):
        return
    imagined = overrides.simulated_of(config)
    if imagined is not None:
        check_sweep(imagined)
        return
    whole = overrides.experiment(config)
    skip_without_trace(whole.workload.trace)
    with tiny.count_compilations() as compiled:
        trials = [trial.Trial(overrides.with_seed(whole, i)) for i in range(whole.repeats)]
    assert not compiled
    for one in trials:
        assert list(one.arms) == whole.arm_names
        named = {name.strip() for name in whole.report.baselines.split(",")}
        assert named & set(one.arms), "no arm is a baseline: there would be nothing to compare"


def skip_without_trace(path: str) -> None:
    """Recorded traces are not in the tree."""
    trace = pathlib.Path(path)
    if path and not trace.is_file():
        assert trace.parts[:3] == ("..", "shared", "data"), "a trace that no test can find"
        pytest.skip(f"{trace} is not there")


def check_sweep(whole: simulated_settings.SimulatedExperiment) -> None:
    """Every arm can be put together, and its trace, where it is there, be read."""
    skip_without_trace(whole.workload.trace)
    made = sweep.Sweep(whole)
    assert len(made.jobs) == len(whole.arm_names) * len(whole.rate_values) * whole.repeats
    named = {name.strip() for name in whole.report.baselines.split(",")}
    assert named & set(made.arms), "no arm is a baseline: there would be nothing to compare"


if __name__ == "__main__":
    refresh()
