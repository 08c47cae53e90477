"""A profile of the machine that this runs on, and whether the simulator foretells a run by it.

Knows: the order of measuring and comparing, what is compared. Does not know: flags,
files, how times are taken (`profiling.py`) or predicted (`prediction.py`).

Measuring alternates: a pass over all lanes, then, to verify, an arm in its real engine, a
pass, the next arm, repeat after repeat, so that a machine whose speed drifts drifts for both.
One profile, of all passes, then foretells each run, on the arrivals of that run.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import rich.console

from aqua_jax.control import errors
from aqua_jax.experiments import machine, overrides, prediction, profiling, settings, trial
from aqua_jax.simulation import cost, fits, profile
from aqua_jax.workloads import environment, live, measure, records

_PICO = 1e12
_NANO = 1e9
# figure that is held to the bound -> where an arm's summary has it
_BOUNDED: Mapping[str, tuple[str, ...]] = {
    "ttft_p50": ("ttft_seconds", "p50"),
    "ttft_p99": ("ttft_seconds", "p99"),
    "makespan": ("makespan_seconds",),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProfileBenchmark:
    """The settings.

    experiment: whose model, engine and tiers are measured. arms: of it, whose tiers are measured
    and which are verified, comma-separated. verify: run the arms in earnest and compare.
    repeats: passes of measuring; with verify, runs of each arm, a pass before and behind, on
    workloads of their own (seed, seed + 1, ...). bound: of the median of a figure's errors.
    seed: of what is measured.
    """

    experiment: settings.Experiment
    arms: str = "fcfs,cfs_peer"
    verify: bool = False
    repeats: int = 5
    bound: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise errors.ConfigError(f"repeats is {self.repeats}; give at least 1")
        if not 0 < self.bound < float("inf"):
            raise errors.ConfigError(f"bound is {self.bound}; give more than 0")
        if self.experiment.emulate.dilation:
            raise errors.ConfigError(
                f"experiment.emulate.dilation is {self.experiment.emulate.dilation}: slices would"
                " take another machine's times; set it to 0"
            )
        self.trial(0)

    @property
    def title(self) -> str:
        """What the rows are."""
        return f"Profile of {self.experiment.model.title}"

    @property
    def devices(self) -> list[str]:
        """Those that its machine has."""
        return [str(device) for device in jax.devices()[: self.experiment.model.shards + 1]]

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(row, its figures as `metrics.BENCHMARK` names them)."""
        return Profiling(self, say=_say_nothing).rows()

    def trial(self, repeat: int) -> trial.Trial:
        """The arms on the workload of this repeat. Raises ConfigError and TraceError."""
        chosen = dataclasses.replace(self.experiment, arms=self.arms)
        return trial.Trial(overrides.with_seed(chosen, repeat))


class Profiling:
    """The same benchmark, under way. say: is told what begins, in words."""

    def __init__(self, wanted: ProfileBenchmark, *, say: Callable[[str], None]) -> None:
        self.title = wanted.title
        self._wanted = wanted
        self._say = say
        self._found: profile.Profile | None = None

    @property
    def devices(self) -> list[str]:
        return self._wanted.devices

    @property
    def found(self) -> profile.Profile:
        """The profile, once there is a row."""
        assert self._found is not None, "rows() comes first"
        return self._found

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """See `ProfileBenchmark.rows`."""
        first = self._wanted.trial(0)
        self._say("compiling")
        shared = first.machine()
        try:
            real = self.measure(shared, first)
        finally:
            shared.close()
        yield from _profile_rows(self.found)
        yield from _compared(first.arms, real, self.found, bound=self._wanted.bound)

    def measure(self, shared: machine.Machine, first: trial.Trial) -> dict[str, records.RunRecord]:
        """Finds the profile of a machine for the arms of `first`; the runs to verify, by name."""
        wanted, timings = self._wanted, profiling.Timings()
        real: dict[str, records.RunRecord] = {}
        for repeat in range(wanted.repeats):
            self._say(f"pass {repeat + 1} of {wanted.repeats}")
            self._time(shared, first, timings, seed=f"{wanted.seed}/{repeat}")
            if wanted.verify:
                rated = _rated(wanted.trial(repeat), shared)
                for arm in first.arms:
                    self._say(f"{arm}, seed {rated.workload.seed}")
                    real[f"{arm}, seed {rated.workload.seed}"] = _run_arm(rated, arm, shared)
                    self._time(shared, first, timings, seed=f"{wanted.seed}/{repeat}/{arm}")
        estimate = fits.slice_cost(timings.slices)
        self._found = _profile(wanted.experiment, shared, timings, estimate)
        return real

    def _time(
        self, shared: machine.Machine, first: trial.Trial, timings: profiling.Timings, *, seed: str
    ) -> None:
        """One pass."""
        profiling.time_slices(shared, self._wanted.experiment, timings, seed=seed)
        for arm in first.arms.values():
            profiling.time_copies(shared, arm, timings)


def met_in_all(estimate: fits.CostEstimate) -> cost.SliceCost:
    """The cost, scaled so that it meets the seconds of all slices together.

    A fit that hiccups do not move is nearer to the median slice than to the mean, and less than
    what they take together, which is what sessions wait for.
    """
    factor = 1 / (1 + estimate.error_total)
    scaled = {
        field.name: round(getattr(estimate.cost, field.name) * factor)
        for field in dataclasses.fields(cost.SliceCost)
        if field.name.endswith("_ps")
    }
    return dataclasses.replace(estimate.cost, **scaled)


def _say_nothing(words: str) -> None:
    """Nobody wants to know."""


def _rated(one: trial.Trial, shared: machine.Machine) -> settings.Experiment:
    """The experiment at the rate that its load comes to on this machine, now."""
    sustained, workload = one.calibrate(shared), one.experiment.workload
    if sustained is not None:
        workload = dataclasses.replace(workload, rate=sustained * workload.load)
    return dataclasses.replace(one.experiment, workload=workload)


def _run_arm(rated: settings.Experiment, arm: str, shared: machine.Machine) -> records.RunRecord:
    """One arm alone, in earnest."""
    one = trial.Trial(dataclasses.replace(rated, arms=arm))
    one.calibrate(shared)  # takes its arrivals to the rate, as given
    with live.LiveView(console=rich.console.Console(quiet=True)) as view:
        (run,) = one.run(shared, view, stopped=lambda: False).runs
    return run


def _profile(
    experiment: settings.Experiment,
    shared: machine.Machine,
    timings: profiling.Timings,
    estimate: fits.CostEstimate,
) -> profile.Profile:
    links = timings.links()
    hardware = environment.hardware([device.device_kind for device in shared.devices])
    model = experiment.model
    return profile.Profile(
        cost=met_in_all(estimate),
        fit=profile.Fit(
            slices=len(timings.slices),
            outliers=estimate.outliers,
            error_median=estimate.error_median,
            error_p90=estimate.error_p90,
            error_total=estimate.error_total,
        ),
        overhead=timings.overhead(),
        ahead_ns=round(experiment.engine.ahead_seconds * _NANO),
        page_bytes=shared.runner.page_bytes,
        peer=links.get("peer"),
        host=links.get("host"),
        measured_on={
            "cpu": f"{hardware['cpu']}, {hardware['cores']} cores",
            "devices": ", ".join(hardware["devices"]),
            "model": f"{model.title}, {model.dtype}, {model.shards} shards",
            "data path": ", ".join(
                f"{choice.setting}: {choice.used}" for choice in shared.path.choices.values()
            ),
            "versions": ", ".join(f"{k} {v}" for k, v in environment.versions().items()),
        },
    )


def _profile_rows(found: profile.Profile) -> Iterator[tuple[str, Mapping[str, Any]]]:
    fit, overhead = found.fit, found.overhead
    coefficients = {
        name.removesuffix("_ps"): value / _PICO
        for name, value in found.cost.to_json().items()
        if name.endswith("_ps")
    }
    yield (
        "slices",
        {
            "fitted": fit.slices,
            "outliers": fit.outliers,
            "fit_error_p50": fit.error_median,
            "fit_error_p90": fit.error_p90,
            "cost_seconds": coefficients,
        },
    )
    yield (
        "host",
        {
            "host_seconds": {
                "dispatch": overhead.dispatch_ns / _NANO,
                "copy": overhead.copy_ns / _NANO,
                "read": overhead.read_ns / _NANO,
            }
        },
    )
    for kind, link in (("peer", found.peer), ("host", found.host)):
        if link is not None:
            for name, way in (("out to", link.out), ("in from", link.into)):
                yield (
                    f"{name} {kind}",
                    {
                        "copy_latency_seconds": way.latency_ns / _NANO,
                        "copy_bytes_per_second": way.bytes_per_second,
                        "fit_error_p50": way.error_median,
                    },
                )


def _compared(
    arms: Mapping[str, settings.Experiment],
    real: Mapping[str, records.RunRecord],
    found: profile.Profile,
    *,
    bound: float,
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A row for every run, then one of medians for every arm that ran."""
    found_errors: dict[str, list[Mapping[str, float]]] = {}
    for name, run in real.items():
        predicted = prediction.predict(arms[run.arm], prediction.arrivals(run), found)
        figures = compare(run, predicted)
        yield name, figures
        found_errors.setdefault(run.arm, []).append(figures["error"])
    for arm, rows in found_errors.items():
        medians = {name: statistics.median(abs(row[name]) for row in rows) for name in _BOUNDED}
        held = all(error <= bound for error in medians.values())
        yield f"{arm}, median", {"error": medians, "within_bound": held}


def compare(real: records.RunRecord, predicted: records.RunRecord) -> dict[str, Any]:
    """What is held to the bound and its errors, and the counts that say where they are from."""
    runs = {"real": real, "predicted": predicted}
    figures: dict[str, Any] = {"error": {}}
    summaries = {name: measure.summarise(run) for name, run in runs.items()}
    for figure, path in _BOUNDED.items():
        values = {name: _at(summary, path) for name, summary in summaries.items()}
        figures[f"{figure}_seconds"] = values
        figures["error"][figure] = values["predicted"] / values["real"] - 1
    figures["slices"] = {name: run.slices for name, run in runs.items()}
    figures["slice_seconds"] = {name: run.device_seconds / run.slices for name, run in runs.items()}
    figures["preemptions"] = {name: run.preemptions for name, run in runs.items()}
    figures["lanes_mean"] = {name: _mean_arg(run, "lanes") for name, run in runs.items()}
    figures["steps_mean"] = {name: _mean_arg(run, "steps") for name, run in runs.items()}
    return figures


def _at(summary: Mapping[str, Any], path: Sequence[str]) -> float:
    value: Any = summary
    for name in path:
        value = value[name]
    return value


def _mean_arg(run: records.RunRecord, name: str) -> float:
    """Mean of what the slices of the timeline say of themselves."""
    return statistics.fmean(float(span.args[name]) for span in run.spans if span.name == "slice")
