"""One experiment from settings to report: calibrate, run every arm, compare.

Knows: the order of things. Does not know: flags, exit codes.
"""

from __future__ import annotations

import dataclasses
import gc
import pathlib
from collections.abc import Callable
from typing import Any

from aqua_jax.control import errors
from aqua_jax.experiments import machine, overrides, recorder, replay, settings
from aqua_jax.workloads import live, measure, records, report, shaping

_CALIBRATION_REQUESTS = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """report: the value of report.json. paths: the files written, by name."""

    report: dict[str, Any]
    paths: dict[str, pathlib.Path]
    interrupted: bool


class Trial:
    """An experiment whose settings, trace and arms were checked; nothing is compiled yet.

    Raises ConfigError and TraceError when made. say: prints a line of progress.
    """

    def __init__(self, experiment: settings.Experiment, *, say: Callable[[str], None]) -> None:
        self._experiment = experiment
        self._say = say
        self._arms = {name: overrides.arm(experiment, name) for name in experiment.arm_names}
        self._drawn = replay.arrivals(experiment.workload, units_max=experiment.engine.units_max)

    def run(
        self, workdir: pathlib.Path, view: live.LiveView, *, stopped: Callable[[], bool]
    ) -> Result:
        """Runs every arm and writes the report into `workdir`."""
        self._say("compiling")
        shared = machine.Machine(self._experiment, list(self._arms.values()))
        try:
            shared.warm_up()
            drawn = self._at_rate(shared)
            runs = []
            for name, arm in self._arms.items():
                if stopped():
                    break
                runs.append(self._run_arm(shared, name, arm, drawn, view, stopped))
        finally:
            shared.close()
        return self._report(workdir, runs, shared, interrupted=stopped())

    def _at_rate(self, shared: machine.Machine) -> list[records.Arrival]:
        """The arrivals at the workload's rate, or at `load` times what the first arm sustains."""
        workload = self._experiment.workload
        if workload.rate:
            return shaping.at_rate(self._drawn, workload.rate) if workload.trace else self._drawn
        wanted = replay.requests(self._drawn, workload, vocab_size=shared.vocab_size)
        many = (wanted * (1 + _CALIBRATION_REQUESTS // len(wanted)))[:_CALIBRATION_REQUESTS]
        first = next(iter(self._arms.values()))
        engine = shared.start(first).engine
        sustained = replay.sustainable_rate(engine, many, seconds=workload.calibration_seconds)
        engine.mover.close()
        rate = sustained * workload.load
        self._say(f"sustains {sustained:.2f} requests/s; they will arrive at {rate:.2f} a second")
        return shaping.at_rate(self._drawn, rate)

    def _run_arm(
        self,
        shared: machine.Machine,
        name: str,
        arm: settings.Experiment,
        drawn: list[records.Arrival],
        view: live.LiveView,
        stopped: Callable[[], bool],
    ) -> records.RunRecord:
        wanted = replay.requests(drawn, arm.workload, vocab_size=shared.vocab_size)
        record = records.RunRecord(arm=name, evidence=arm.evidence)
        keeper = recorder.Recorder(record, shared.runner.page_bytes)
        running = shared.start(arm, keeper)
        engine = running.engine
        memory = engine.controller.memory
        record.capacity_pages = {"device": memory.device.capacity}
        record.capacity_pages |= {tier.name: tier.slots.capacity for tier in memory.tiers}
        compiled = shared.runner.usage()

        def on_sample(sample: records.Sample, finished: int) -> None:
            view.update(name, sample, finished, len(drawn))

        # A collection in the middle of a slice would be taken for the controller's time.
        gc.collect()
        gc.freeze()
        try:
            replay.run(engine, keeper, drawn, wanted, on_sample=on_sample, stopped=stopped)
        finally:
            gc.unfreeze()
        engine.check_integrity()
        engine.mover.close()
        record.programs = _calls(shared.runner.usage(), compiled)
        if running.runner is not None:
            record.slices_late = running.runner.late
        if running.links is not None:
            record.copies_late = running.links.late
        view.finish(name, _result_text(record))
        return record

    def _report(
        self,
        workdir: pathlib.Path,
        runs: list[records.RunRecord],
        shared: machine.Machine,
        *,
        interrupted: bool,
    ) -> Result:
        if not runs:
            raise errors.AquaError("stopped before any arm ran: there is nothing to report")
        named = [name.strip() for name in self._experiment.report.baselines.split(",")]
        ran = [run.arm for run in runs]
        value = report.assemble(
            runs,
            config=overrides.as_json(self._experiment),
            devices=[str(device) for device in shared.devices],
            baselines=[name for name in named if name in ran],
        )
        report.check(value)
        return Result(value, report.write(workdir, value, runs), interrupted)


def _calls(
    after: dict[str, dict[str, float]], before: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Program usage of one arm: calls since `before`; compilations in all."""
    return {
        name: {
            "compiles": usage["compiled"],
            "compile_seconds": usage["compile_seconds"],
            "calls": usage["calls"] - before[name]["calls"],
        }
        for name, usage in after.items()
    }


def _result_text(record: records.RunRecord) -> str:
    summary = measure.summarise(record)
    slowest = summary["ttft_seconds"]["max"]
    if slowest is None:
        return "no token"
    return (
        f"slowest first token {slowest:.2f} s,"
        f" {summary['output_tokens_per_second'] or 0:.0f} tokens/s"
    )
