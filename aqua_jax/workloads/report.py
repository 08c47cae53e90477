"""The report of a run: `report.json`, `report.html` and `trace.json` in one folder.

Knows: the schema of `report.json`, and how files are written whole. Does not
know: how numbers are computed (`measure.py`) or drawn (`webpage.py`, `chrome.py`).
"""

from __future__ import annotations

import importlib
import json
import math
import numbers
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aqua_jax.control import errors
from aqua_jax.workloads import (
    chrome,
    environment,
    files,
    lenders,
    measure,
    measured,
    metrics,
    records,
)

SCHEMA_VERSION = 1
EVIDENCE = ("measured", "emulated", "simulated")

_COMMON = ("schema_version", "config", "evidence", "hardware", "versions")
_REQUIRED = (*_COMMON, "arms", "comparisons")
_OPTIONAL = (
    "tenants", "emulation", "programs", "links", "data_path", "sweep", "runs", "host", "measured",
    "lenders", "samples", "startup", "notes",
)  # fmt: skip
_OF_BENCHMARK = (*_COMMON, "title", "benchmark")
# Keys that an arm has only when there is something to say; seconds of the host say nothing of
# simulated arms.
_WHEN_TRUE = ("interrupted", "mover_errors", "attended_bytes", "prefix", "controller_seconds")


def assemble(
    runs: Sequence[records.RunRecord],
    *,
    config: Mapping[str, Any],
    devices: Sequence[str],
    baselines: Sequence[str] = (),
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The value of `report.json`: plain JSON values only.

    devices: the jax devices in words. baselines: arms that every other arm is compared with; the
    first arm when none is named. tables: further ones by name, of those that `metrics.SECTIONS`
    defines: links, data_path, samples, startup. notes: what a reader must know, in sentences.
    """
    _check_runs(runs, baselines)
    arms = {run.arm: measure.summarise(run) for run in runs}
    shown = {
        "tenants": {run.arm: measure.summarise_tenants(run) for run in runs},
        "emulation": {
            run.arm: measure.summarise_emulation(run) for run in runs if run.evidence == "emulated"
        },
        "programs": {run.arm: run.programs for run in runs if run.programs},
        "lenders": {run.arm: lenders.summarise(run) for run in runs if run.lenders},
        "measured": {run.arm: measured.summarise(run) for run in runs if run.measured},
    } | dict(tables or {})
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "config": config,
        "evidence": runs[0].evidence,
        "hardware": environment.hardware(devices),
        "versions": environment.versions(),
        "arms": arms,
        "comparisons": _comparisons(arms, baselines or [runs[0].arm]),
    }
    if notes:
        report["notes"] = list(notes)
    return _plain(report | {name: table for name, table in shown.items() if _has_rows(table)})


def assemble_benchmark(
    title: str,
    rows: Mapping[str, Mapping[str, Any]],
    *,
    config: Mapping[str, Any],
    devices: Sequence[str] = (),
) -> dict[str, Any]:
    """The value of `report.json` of a benchmark: its figures (`metrics.BENCHMARK`) by row.

    devices: the jax devices in words; none: it ran on the host alone.
    """
    return _plain(
        {
            "schema_version": SCHEMA_VERSION,
            "config": config,
            "evidence": "measured",
            "hardware": environment.hardware(devices),
            "versions": environment.versions(),
            "title": title,
            "benchmark": rows,
        }
    )


def write(
    workdir: str | os.PathLike[str],
    report: Mapping[str, Any],
    runs: Sequence[records.RunRecord],
) -> dict[str, pathlib.Path]:
    """Writes the three files into `workdir`, each whole or not at all; returns their paths by name.

    The numbers come first: should drawing fail, they are on disk.
    """
    paths = {"report.json": write_json(workdir, report)}
    paths |= {name: paths["report.json"].with_name(name) for name in ("trace.json", "report.html")}
    files.write_whole(paths["trace.json"], json.dumps(chrome.trace(runs), allow_nan=False))
    # It brings matplotlib, which takes half a second that no first token should wait for.
    webpage = importlib.import_module("aqua_jax.workloads.webpage")
    files.write_whole(paths["report.html"], webpage.render(report, runs))
    return paths


def write_json(workdir: str | os.PathLike[str], report: Mapping[str, Any]) -> pathlib.Path:
    """Writes `report.json` into `workdir`, whole or not at all; returns its path."""
    path = pathlib.Path(workdir) / "report.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, json.dumps(report, indent=2, allow_nan=False) + "\n")
    return path


def check(report: Mapping[str, Any]) -> None:
    """Raises InternalError that lists every fault of a report against its schema."""
    faults = list(_faults(report))
    if faults:
        raise errors.InternalError("the report breaks its schema: " + "; ".join(faults))


def _check_runs(runs: Sequence[records.RunRecord], baselines: Sequence[str]) -> None:
    names = [run.arm for run in runs]
    if not names:
        raise errors.ConfigError("a report needs at least one arm: none was run")
    if len(set(names)) < len(names) or any("/" in name for name in names):
        raise errors.ConfigError(f"arm names {names} must be distinct and without '/'")
    for name in baselines:
        if name not in names:
            raise errors.ConfigError(
                f"baseline {name!r} is no arm{errors.close_match(name, names)}"
            )
    kinds = sorted({run.evidence for run in runs})
    if len(kinds) > 1 or kinds[0] not in EVIDENCE:
        raise errors.InternalError(
            f"arms of one report share one kind of evidence out of {EVIDENCE}, found {kinds}"
        )


def _comparisons(
    arms: Mapping[str, Mapping[str, Any]], baselines: Sequence[str]
) -> dict[str, dict[str, Any]]:
    return {
        f"{candidate}/{baseline}": measure.compare(arms[baseline], arms[candidate])
        for candidate in arms
        if candidate not in baselines
        for baseline in baselines
    }


def _has_rows(table: Mapping[str, Any]) -> bool:
    return any(table.values())


def _plain(value: Any) -> Any:
    """The value with JSON types only. What JSON cannot hold (a path, infinity) becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    return str(value)


def _faults(report: Mapping[str, Any]) -> Iterator[str]:
    required, optional = _REQUIRED, _OPTIONAL
    if "benchmark" in report:
        required, optional = _OF_BENCHMARK, ()
    missing = [name for name in required if name not in report]
    unknown = [name for name in report if name not in required + optional]
    if missing or unknown:
        yield f"missing {missing}, unknown {unknown}"
        return
    if report["schema_version"] != SCHEMA_VERSION:
        yield f"schema_version {report['schema_version']}, expected {SCHEMA_VERSION}"
    if report["evidence"] not in EVIDENCE:
        yield f"evidence {report['evidence']!r}, expected one of {EVIDENCE}"
    yield from (f"{path} has no definition" for path in metrics.undefined(report))
    yield from _arm_faults(report.get("arms", {}))
    for name in report.get("comparisons", ()):
        if any(arm not in report["arms"] for arm in name.split("/", 1)):
            yield f"comparison {name!r} names an arm that is absent"
    for path, value in metrics.flatten(report):
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{path} is {value}"


def _arm_faults(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    expected = {path.split(".")[0] for path in metrics.ARM} - set(_WHEN_TRUE)
    for name, arm in arms.items():
        absent = sorted(expected - set(arm))
        if absent:
            yield f"arm {name!r} lacks {absent}"
