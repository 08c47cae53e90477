"""A simulated experiment from settings to report: every arm at every rate in every window.

Knows: the order of things. Does not know: flags, exit codes, how a
run is made (`simulated.py`). Runs do not share anything, so figures are the
same for any number of processes and any order in which they end.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from aqua_jax.control import errors
from aqua_jax.experiments import (
    checks,
    clustered,
    overrides,
    processes,
    replay,
    simulated,
    simulated_settings,
)
from aqua_jax.workloads import measured, records, report, shaping
from aqua_jax.workloads import sweep as sweeps

OnDone = Callable[[simulated.Done], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What ran. value: of report.json, not written yet; None when there is nothing to report."""

    value: dict[str, Any] | None
    runs: list[records.RunRecord]
    interrupted: bool

    def write(self, workdir: pathlib.Path) -> dict[str, pathlib.Path]:
        """Writes the report into `workdir`; the paths by file name."""
        assert self.value is not None
        return report.write(workdir, self.value, self.runs)


class Sweep:
    """A simulated experiment whose settings, trace and arms were checked.

    Raises ConfigError and TraceError when made. jobs: what is to be run, those that the report
    shows first. notes: what a reader must know of the workload.
    """

    def __init__(self, experiment: simulated_settings.SimulatedExperiment) -> None:
        self.experiment = experiment
        self.arms = {name: overrides.arm(experiment, name) for name in experiment.arm_names}
        for name, arm in self.arms.items():
            _check_shared(experiment, arm, name)
            (clustered if arm.cluster.servers else simulated).check(arm, name)
        self._measured = _read_measured(experiment)
        self.notes: list[str] = []
        self.jobs = self._jobs()
        for name, requests in self._measured.items():
            measured.check(requests, self.jobs[0].arrivals, name)  # of the window that is shown

    def run(self, *, on_done: OnDone, stopped: Callable[[], bool]) -> Result:
        """Runs every job until `stopped()`; what has begun by then is given up."""
        done: dict[tuple[float, int, str], simulated.Done] = {}
        workers = min(self.experiment.workers or processes.cores(), len(self.jobs))
        for one in processes.run_all(run_job, self.jobs, workers=workers, stopped=stopped):
            if "interrupted" not in one.summary:
                done[one.rate, one.seed, one.arm] = one
                on_done(one)
        in_order = [
            done[job.rate, job.seed, job.arm]
            for job in sorted(self.jobs, key=self._place)
            if (job.rate, job.seed, job.arm) in done
        ]
        runs = [one.record for one in in_order if one.record is not None]
        value = self._report(in_order, runs) if runs else None
        return Result(value, runs, interrupted=stopped())

    def _jobs(self) -> list[simulated.Job]:
        experiment, jobs = self.experiment, []
        shown = experiment.shown_rate, experiment.workload.seed
        for number in range(experiment.repeats):
            workload = overrides.with_seed(experiment, number).workload
            drawn = replay.arrivals(workload, units_max=experiment.engine.units_max)
            self.notes = drawn.notes  # the same for all: of the trace
            for rate in experiment.rate_values:
                arrivals = _at_rate(drawn.arrivals, rate, generated=not workload.trace)
                jobs += [
                    simulated.Job(
                        name, arm, rate, workload.seed, arrivals, (rate, workload.seed) == shown
                    )
                    for name, arm in self.arms.items()
                ]
        return sorted(jobs, key=lambda job: not job.keeps_record)

    def _place(self, job: simulated.Job) -> tuple[int, int, int]:
        """Where a job stands in the report."""
        arms = list(self.arms)
        return self.experiment.rate_values.index(job.rate), job.seed, arms.index(job.arm)

    def _report(
        self, done: Sequence[simulated.Done], runs: Sequence[records.RunRecord]
    ) -> dict[str, Any]:
        experiment, ran = self.experiment, {run.arm for run in runs}
        for run in runs:
            run.measured = self._measured.get(run.arm, ())
        baselines = checks.names(experiment.report.baselines)
        device = experiment.device
        value = report.assemble(
            runs,
            config=overrides.as_json(experiment),
            devices=[f"simulated {device.hardware}"] * self._devices_count(),
            baselines=[name for name in baselines if name in ran],
            notes=[*self.notes, *self._shown_note(), *_present(experiment.report.note)],
        )
        value["host"] = {arm: _host([one for one in done if one.arm == arm]) for arm in self.arms}
        windows = _windows(done)
        if len(windows) > 1:
            value["sweep"] = sweeps.summarise(windows, baselines)
            value["runs"] = {
                f"{window.rate}, seed {window.seed}": dict(window.arms) for window in windows
            }
        report.check(value)
        return value

    def _devices_count(self) -> int:
        cluster = self.experiment.cluster
        return cluster.servers * cluster.devices or self.experiment.device.shards

    def _shown_note(self) -> list[str]:
        experiment = self.experiment
        rates = [rate_text(rate) for rate in experiment.rate_values]
        if len(rates) * experiment.repeats == 1:
            return []
        return [
            f"Arms side by side and over time: {rate_text(experiment.shown_rate)}, the window of"
            f" seed {experiment.workload.seed}. The sweep: {', '.join(rates)}; windows of seeds"
            f" {experiment.workload.seed} to {experiment.workload.seed + experiment.repeats - 1}."
        ]


def run_job(job: simulated.Job, stopped: Callable[[], bool]) -> simulated.Done:
    """Runs one engine alone, or a cluster where the settings have servers."""
    return (clustered if job.settings.cluster.servers else simulated).run(job, stopped)


def rate_text(rate: float) -> str:
    """A rate as reports name it.

    >>> rate_text(4.0), rate_text(0.0)
    ('4 requests/s', 'as recorded')
    """
    return f"{rate:g} requests/s" if rate else "as recorded"


def _check_shared(
    whole: simulated_settings.SimulatedExperiment,
    arm: simulated_settings.SimulatedExperiment,
    name: str,
) -> None:
    """That an arm runs the requests that all run. Raises ConfigError."""
    for head in ("workload", "rates", "repeats", "workers", "report"):
        if getattr(arm, head) != getattr(whole, head):
            raise errors.ConfigError(
                f"arm {name!r} sets {head}: all arms share it; set config.{head}"
            )


def _read_measured(
    whole: simulated_settings.SimulatedExperiment,
) -> dict[str, list[records.RequestRecord]]:
    """What was measured of the arms that are to run. Raises ConfigError and TraceError."""
    for name in whole.report.measured:
        if name not in whole.arm_settings:
            hint = errors.close_match(name, whole.arm_settings)
            raise errors.ConfigError(f"report.measured.{name} is of no arm{hint}")
    return {
        name: measured.read(path)
        for name, path in whole.report.measured.items()
        if name in whole.arm_names
    }


def _at_rate(
    drawn: Sequence[records.Arrival], rate: float, *, generated: bool
) -> list[records.Arrival]:
    if rate:
        return shaping.at_rate(drawn, rate)
    if generated:
        raise errors.ConfigError(
            "rates has 0, the trace's own times, but workload.trace is empty: give a trace, or"
            " rates in requests a second"
        )
    return list(drawn)


def _windows(done: Sequence[simulated.Done]) -> list[sweeps.Window]:
    """The runs by rate and seed."""
    places = dict.fromkeys((one.rate, one.seed) for one in done)
    return [
        sweeps.Window(
            rate_text(rate),
            seed,
            {one.arm: one.summary for one in done if (one.rate, one.seed) == (rate, seed)},
        )
        for rate, seed in places
    ]


def _host(done: Sequence[simulated.Done]) -> dict[str, Any]:
    """Of one arm: sums over its runs, and the controller in the one that is shown."""
    shown = [one.host for one in done if one.record is not None]
    return {
        "seconds": sum(one.host["seconds"] for one in done),
        "dispatches": sum(one.host["dispatches"] for one in done),
        "memory_bytes_peak": max((one.host["memory_bytes_peak"] for one in done), default=0),
        **_events(done),
    } | ({"controller_seconds": shown[0]["controller_seconds"]} if shown else {})


def _events(done: Sequence[simulated.Done]) -> dict[str, Any]:
    """Of a cluster's runs: moments at which something happened."""
    events = [one.host["events"] for one in done if "events" in one.host]
    if not events:
        return {}
    seconds = sum(one.host["seconds"] for one in done)
    return {"events": sum(events), "events_per_second": sum(events) / seconds}


def _present(*texts: str) -> list[str]:
    return [text for text in texts if text]
