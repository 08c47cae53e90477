"""Runs an experiment: `python -m aqua_jax.run --config=configs/burst.py --workdir=out/burst`.

The flag door. Every setting of the config can be changed: `--config.key=value`,
e.g. `--config.arms=fcfs,cfs_peer --config.policy.quantum_tokens=16`. Exit codes:
0 done, 2 wrong input (one line says what), 130 interrupted (with the report
of what finished).
"""

from __future__ import annotations

import pathlib
import signal
import statistics
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import jax
import rich.console
from absl import app, flags
from ml_collections import config_flags

from aqua_jax.control import errors
from aqua_jax.experiments import overrides, settings, trial
from aqua_jax.workloads import live, tables

_WRONG_INPUT = 2
_INTERRUPTED = 130

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment, a Python file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the report; made if need be.")


class _Stop:
    """Ctrl-C: the first asks for an end, the second ends at once."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGINT, self._ask)

    def __call__(self) -> bool:
        return self.asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def main(argv: Sequence[str]) -> int:
    """Runs what the flags say; returns the exit code."""
    if len(argv) > 1:
        _refuse(f"unexpected argument {argv[1]!r}: settings are given as --config.key=value")
    console = rich.console.Console()
    stop = _Stop()
    try:
        workdir = _check_workdir(_WORKDIR.value)
        experiment = overrides.experiment(_CONFIG.value)
        trials = [
            trial.Trial(overrides.with_seed(experiment, i), say=console.print)
            for i in range(experiment.repeats)
        ]
        jax.config.update("jax_num_cpu_devices", experiment.devices)
        results = _run_all(trials, workdir, experiment, console, stop)
    except errors.InternalError:
        raise
    except errors.AquaError as error:
        if stop.asked:
            console.print(str(error))
            return _INTERRUPTED
        _refuse(str(error))
    if len(results) > 1:
        _show_medians(results, console)
    return _INTERRUPTED if stop.asked else 0


def _run_all(
    trials: Sequence[trial.Trial],
    workdir: pathlib.Path,
    experiment: settings.Experiment,
    console: rich.console.Console,
    stop: _Stop,
) -> list[dict[str, Any]]:
    """The reports, in order of seed; each is shown as it comes."""
    reports = []
    for number, one in enumerate(trials):
        folder = (
            workdir / f"seed{experiment.workload.seed + number}" if len(trials) > 1 else workdir
        )
        with live.LiveView(console=console) as view:
            result = one.run(folder, view, stopped=stop)
        console.print()
        tables.show(result.report, console)
        if experiment.report.note:
            console.print(experiment.report.note)
        console.print(f"report: {result.paths['report.html']}", soft_wrap=True)
        reports.append(result.report)
        if stop.asked:
            break
    return reports


def _show_medians(reports: Sequence[dict[str, Any]], console: rich.console.Console) -> None:
    """Every ratio of every seed, and its median."""
    for pair, first in reports[0]["comparisons"].items():
        console.print(f"\n{pair}, by seed and their median:", style="bold")
        for name, value in first.items():
            if isinstance(value, bool):
                console.print(f"  {name}: {[r['comparisons'][pair][name] for r in reports]}")
                continue
            values = [r["comparisons"][pair][name] for r in reports]
            known = [v for v in values if v is not None]
            if known:
                shown = ", ".join("none" if v is None else f"{v:.2f}" for v in values)
                console.print(f"  {name}: {shown}; median {statistics.median(known):.2f}")


def _check_workdir(value: str | None) -> pathlib.Path:
    if not value:
        raise errors.ConfigError("--workdir is missing: give a folder for the report")
    workdir = pathlib.Path(value)
    for folder in (workdir, *workdir.parents):
        if folder.exists() and not folder.is_dir():
            raise errors.ConfigError(f"--workdir={value}: {folder} is a file; give a folder")
    return workdir


def _refuse(text: str) -> NoReturn:
    print(f"aqua_jax.run: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(_WRONG_INPUT)


def _parse(argv: list[str]) -> list[str]:
    """Flags as absl parses them, but a wrong one is one line and exit code 2."""
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        _refuse(str(error))
    if flags.FLAGS["config"].value is None:
        _refuse("--config is missing: give a file such as --config=configs/burst.py")
    return rest


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
