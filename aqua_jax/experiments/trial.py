"""One experiment from settings to report: calibrate, run every arm, compare.

Knows: the order of things. Does not know: flags, exit codes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from aqua_jax.control import errors
from aqua_jax.experiments import (
    calibration,
    data_path,
    machine,
    overrides,
    recorder,
    replay,
    settings,
    startup,
)
from aqua_jax.tokens import tokenizer
from aqua_jax.workloads import (
    fairness,
    live,
    measure,
    records,
    report,
    reusable,
    samples,
    shaping,
    texts,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What ran. value: of report.json. Not written yet (`write`)."""

    value: dict[str, Any]
    runs: list[records.RunRecord]
    interrupted: bool

    def write(self, workdir: pathlib.Path) -> dict[str, pathlib.Path]:
        """Writes the report into `workdir`; the paths by file name."""
        return report.write(workdir, self.value, self.runs)


class Trial:
    """An experiment whose settings, trace and arms were checked; nothing is compiled yet.

    Raises ConfigError and TraceError when made. Trials that differ only in
    their workload can share one machine.
    """

    def __init__(self, experiment: settings.Experiment) -> None:
        self.experiment = experiment
        self.arms = {name: overrides.arm(experiment, name) for name in experiment.arm_names}
        for name, arm in self.arms.items():
            _check_shared(experiment, arm, name)
        self._known: tokenizer.Tokenizer | None = None
        if experiment.workload.texts or experiment.report.samples:
            self._known = tokenizer.Tokenizer(experiment.model.path)
        self._words = _words(experiment.workload, self._known)
        drawn = replay.arrivals(experiment.workload, units_max=experiment.engine.units_max)
        self.notes = drawn.notes
        self._drawn = drawn.arrivals

    def data_path(self) -> data_path.DataPath:
        """Which mover and attention its arms get. Brings jax up. Raises NativeError."""
        return data_path.resolve(list(self.arms.values()), jax.devices()[0].platform)

    def machine(
        self,
        path: data_path.DataPath | None = None,
        *,
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> machine.Machine:
        """Devices, memory, compiled programs and probed links for its arms.

        path: as `data_path` returned it. on_stage: is told what has been done. To be closed by the
        caller.
        """
        made = machine.Machine(self.experiment, list(self.arms.values()), path or self.data_path())
        if self._known is not None:
            self._known.check_vocab(made.vocab_size)
        on_stage("weights")
        made.warm_up()
        on_stage("programs")
        made.check_links()
        on_stage("links")
        return made

    def calibrate(self, shared: machine.Machine) -> float | None:
        """Sets the rate of arrivals.

        Where the workload gives `load`, runs the first arm full and returns the
        requests a second that it sustains; else None.
        """
        workload = self.experiment.workload
        if workload.rate:
            if workload.trace:
                self._drawn = shaping.at_rate(self._drawn, workload.rate)
            return None
        first = next(iter(self.arms.values()))
        sustained = _sustained(shared, first, self._drawn, self._words)
        self._drawn = shaping.at_rate(self._drawn, sustained * workload.load)
        return sustained

    def run(
        self,
        shared: machine.Machine,
        view: live.LiveView,
        *,
        stopped: Callable[[], bool],
        begun: startup.Startup | None = None,
    ) -> Result:
        """Runs every arm, the first at least, until `stopped()`; assembles the report.

        begun: the process's start, for the report.
        """
        runs: list[records.RunRecord] = []
        for name, arm in self.arms.items():
            if runs and stopped():
                break
            runs.append(self._run_arm(shared, name, arm, view, stopped))
        value = self._report(runs, shared, begun)
        return Result(value, runs, interrupted=stopped())

    def _run_arm(
        self,
        shared: machine.Machine,
        name: str,
        arm: settings.Experiment,
        view: live.LiveView,
        stopped: Callable[[], bool],
    ) -> records.RunRecord:
        drawn = self._drawn
        wanted = replay.requests(
            drawn, arm.workload, vocab_size=shared.vocab_size, words=self._words
        )
        record = records.RunRecord(
            arm=name,
            evidence=arm.evidence,
            fairness=fairness.Fairness(arm.policy.tenant_weights),
        )
        keeper = recorder.Recorder(record, shared.runner.page_bytes, shared.away_reads(arm))
        if arm.engine.prefix_reuse:
            record.reusable_share = reusable.share(drawn)
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
        with contextlib.closing(engine.mover):
            try:
                replay.run(engine, keeper, drawn, wanted, on_sample=on_sample, stopped=stopped)
            finally:
                gc.unfreeze()
            engine.check_integrity()
        record.programs = _calls(shared.runner.usage(), compiled)
        if running.runner is not None:
            record.slices_late = running.runner.late
        if running.links is not None:
            record.copies_late = running.links.late
        if record.samples:  # the last was drawn before the last request ended
            finished = sum(request.finished for request in record.requests)
            view.update(name, record.samples[-1], finished, len(drawn))
        view.finish(name, measure.result_text(measure.summarise(record)))
        return record

    def _report(
        self,
        runs: list[records.RunRecord],
        shared: machine.Machine,
        begun: startup.Startup | None,
    ) -> dict[str, Any]:
        named = [name.strip() for name in self.experiment.report.baselines.split(",")]
        ran = [run.arm for run in runs]
        value = report.assemble(
            runs,
            config=overrides.as_json(self.experiment),
            devices=[str(device) for device in shared.devices],
            baselines=[name for name in named if name in ran],
            tables={
                "links": shared.links.rows,
                "data_path": _data_path(shared),
                "samples": self._samples(runs, shared),
                "startup": begun.table(_first_token_seconds(runs[0])) if begun else {},
            },
            notes=self.notes,
        )
        report.check(value)
        return value

    def _samples(
        self, runs: list[records.RunRecord], shared: machine.Machine
    ) -> dict[str, dict[str, str]]:
        """Some answers in words, where the config asks for them."""
        count = self.experiment.report.samples
        if self._known is None or not count:
            return {}
        asked = replay.requests(
            self._drawn,
            self.experiment.workload,
            vocab_size=shared.vocab_size,
            words=self._words,
        )
        prompts = [request.payload.prompt_ids for request in asked]
        eos_ids = self._known.eos_ids
        return samples.table(runs, prompts, self._known.decode, count=count, eos_ids=eos_ids)


def _check_shared(whole: settings.Experiment, arm: settings.Experiment, name: str) -> None:
    """That an arm runs the requests and the programs that all run. Raises ConfigError."""
    for head in ("model", "workload", "seed", "devices", "repeats", "report"):
        if getattr(arm, head) != getattr(whole, head):
            raise errors.ConfigError(
                f"arm {name!r} sets {head}: all arms share it; set config.{head}"
            )
    for setting in ("chunk_tokens", "page_tokens", "units_max", "tile_rows", "exact", "linear"):
        if getattr(arm.engine, setting) != getattr(whole.engine, setting):
            raise errors.ConfigError(
                f"arm {name!r} sets engine.{setting}, a size of the programs that all arms share:"
                f" set config.engine.{setting}"
            )
    for setting in ("attention", "probe", "link_floor_gbps"):
        if getattr(arm.memory, setting) != getattr(whole.memory, setting):
            raise errors.ConfigError(
                f"arm {name!r} sets memory.{setting}: all arms share it;"
                f" set config.memory.{setting}"
            )
    for head, setting in (("engine", "lanes"), ("engine", "steps_max"), ("memory", "pool_pages")):
        value, most = (getattr(getattr(one, head), setting) for one in (arm, whole))
        if value > most:
            raise errors.ConfigError(
                f"arm {name!r} sets {head}.{setting} to {value}; the programs that all arms share"
                f" are made for {most}: raise config.{head}.{setting}"
            )


def _data_path(shared: machine.Machine) -> dict[str, dict[str, str]]:
    """What settings came to: movers, attention, tiers that are left out."""
    choices = {
        choice.setting: {"used": choice.used, "because": choice.because}
        for choice in shared.path.choices.values()
    }
    return choices | {
        f"memory.tiers.{tier}": {"used": "left out of all arms", "because": why}
        for tier, why in shared.links.refused_tiers.items()
    }


def _words(
    workload: settings.WorkloadSettings, known: tokenizer.Tokenizer | None
) -> texts.Texts | None:
    """What prompts are cut from. Raises ConfigError."""
    if known is None or not workload.texts:
        return None

    def encode(text: str) -> list[int]:
        return known.encode(text)

    return texts.Texts(workload.texts, encode, tokens_min=workload.prompt_max)


def _first_token_seconds(run: records.RunRecord) -> float | None:
    """What the request waited for that had the first token of all, where times are real."""
    served = [r for r in run.requests if r.first_token_at is not None]
    if not served or run.evidence != "measured":
        return None
    first = min(served, key=lambda request: request.first_token_at or 0.0)
    return (first.first_token_at or 0.0) - first.scheduled_at


def _sustained(
    shared: machine.Machine,
    arm: settings.Experiment,
    drawn: list[records.Arrival],
    words: texts.Texts | None,
) -> float:
    """Requests like `drawn` that `arm` serves in a second when kept full."""
    workload = arm.workload
    capacity_tokens = (arm.memory.pool_pages - 1) * arm.engine.page_tokens
    arrivals = calibration.flood(drawn, lanes=arm.engine.lanes, capacity_tokens=capacity_tokens)
    wanted = replay.requests(arrivals, workload, vocab_size=shared.vocab_size, words=words)
    account = calibration.Account()
    engine = shared.start(arm, account).engine
    seconds = workload.calibration_seconds
    with contextlib.closing(engine.mover):
        recomputed = calibration.keep_full(engine, wanted, seconds=seconds)
    rate = calibration.rate(account.slices, drawn, recomputed=recomputed)
    if rate is None:
        raise errors.ConfigError(
            f"workload.calibration_seconds={seconds} is too short to see the machine full:"
            " raise it, or set workload.rate"
        )
    return rate


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
