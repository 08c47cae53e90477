"""Runs an experiment: `python -m aqua_jax.run --config=configs/burst.py --workdir=out/burst`.

The flag door. Every setting of the config can be changed: `--config.key=value`,
e.g. `--config.arms=fcfs,cfs_peer --config.policy.quantum_tokens=16`. The report
goes to the workdir. Exit codes: 0 done, 1 a promise was broken in a random run
(`configs/fuzz.py`: its seed and the command that replays it are printed) or a completion
ended with an error, 2 wrong input (one line says what), 130 interrupted (with the
report of what had begun, where an arm had).
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
import pathlib
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import rich.console
import rich.text
from absl import flags
from ml_collections import config_flags

from aqua_jax.control import errors
from aqua_jax.experiments import (
    benchmark,
    completion,
    config_file,
    fuzzing,
    kept_programs,
    link_checks,
    machine,
    manual,
    overrides,
    profile_bench,
    settings,
    simulated,
    simulated_settings,
    startup,
    stopping,
    sweep,
    task,
    trial,
    typewriter,
)
from aqua_jax.simulation import profile
from aqua_jax.workloads import live, measure, report, runs_view, tables, task_view

_T = TypeVar("_T")

_BROKEN = 1
_WRONG_INPUT = 2
_INTERRUPTED = 130
_COMPLETED_INTO = "out/complete"  # the workdir of completions where none is given
_HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")
_PAGE = "aqua_jax.workloads.webpage"  # which draws a report
_OVERRIDE = re.compile(r"--?config\.([^=]+)=(.*)", re.DOTALL)


def main(argv: Sequence[str]) -> int:
    """Runs what the arguments behind the program's name say; returns the exit code."""
    if any(argument in _HELP for argument in argv):
        print(f"{__doc__}\n{manual.text()}")
        return 0
    begun = startup.Startup()
    console = rich.console.Console()
    stop = stopping.Stop()
    try:
        work = _read(argv, begun)
        return stopping.on_a_thread(lambda: work(console, stop))
    except KeyboardInterrupt:
        console.show_cursor()
        print("aqua_jax.run: interrupted", file=sys.stderr, flush=True)
        # XLA may be compiling on the other thread, and a process would wait for that.
        os._exit(_INTERRUPTED)
    except errors.InternalError:
        raise
    except errors.AquaError as error:
        print(f"aqua_jax.run: {' '.join(str(error).split())}", file=sys.stderr)
        return _WRONG_INPUT


@dataclasses.dataclass(frozen=True, slots=True)
class _Order:
    """An experiment to be run, checked."""

    experiment: settings.Experiment
    trials: list[trial.Trial]  # one a seed
    workdir: pathlib.Path
    begun: startup.Startup

    def folder(self, number: int) -> pathlib.Path:
        """Where the report of trial `number` goes."""
        if len(self.trials) == 1:
            return self.workdir
        return self.workdir / f"seed{self.experiment.workload.seed + number}"


_Work = Callable[[rich.console.Console, stopping.Stop], int]  # returns the exit code


def _run(order: _Order, console: rich.console.Console, stop: stopping.Stop) -> int:
    jax.config.update("jax_num_cpu_devices", order.experiment.devices)
    if order.experiment.report.derivation:
        console.print(rich.text.Text(order.experiment.report.derivation))
    path = order.trials[0].data_path()
    if path.sentence:
        console.print(rich.text.Text(path.sentence))
    for note in order.trials[0].notes:
        console.print(rich.text.Text(note, style="yellow"))
    console.print(f"compiling; {kept_programs.keep()}", soft_wrap=True, highlight=False)
    order.begun.ended("devices")
    # matplotlib takes a while, which at the end is one that Ctrl-C would wait for.
    threading.Thread(target=importlib.import_module, args=(_PAGE,), daemon=True).start()
    shared = order.trials[0].machine(path, on_stage=order.begun.ended)
    if shared.path is not path:  # the model does not suit it
        console.print(rich.text.Text(shared.path.sentence))
    _say_links(shared.links, console)
    reports = []
    try:
        for number, one in enumerate(order.trials):
            if not one.experiment.workload.rate:
                console.print("calibrating")
            rate = one.calibrate(shared)
            if rate is not None:
                console.print(
                    f"sustains {rate:.2f} requests/s; they will arrive at"
                    f" {rate * order.experiment.workload.load:.2f} a second",
                    highlight=False,
                )
            order.begun.left_out()
            with stop.gently():
                reports.append(_run_trial(one, shared, order, number, console, stop))
            if stop.asked:
                break
    finally:
        shared.close()
    if len(reports) > 1:
        tables.show_repeats(reports, console)
    return _INTERRUPTED if stop.asked else 0


def _say_links(links: link_checks.Report, console: rich.console.Console) -> None:
    """The links as a table, and which tiers are left out."""
    for table in tables.links(links.rows, console.width):
        console.print(table)
    for tier, why in links.refused_tiers.items():
        text = f"tier {tier} is left out of all arms: {why}"
        console.print(rich.text.Text(text, style="bold red"))
    if links.note:
        console.print(rich.text.Text(links.note))


def _run_trial(
    one: trial.Trial,
    shared: machine.Machine,
    order: _Order,
    number: int,
    console: rich.console.Console,
    stop: stopping.Stop,
) -> dict[str, Any]:
    """Its report, shown and written. Of several, the first tells of the start."""
    with live.LiveView(console=console) as view:
        result = one.run(shared, view, stopped=stop, begun=None if number else order.begun)
    console.print()
    tables.show(result.value, console)
    if one.experiment.report.note:
        console.print(rich.text.Text(one.experiment.report.note))
    _write(result.write, order.folder(number), console)
    return result.value


def _write(
    write: Callable[[pathlib.Path], dict[str, pathlib.Path]],
    folder: pathlib.Path,
    console: rich.console.Console,
) -> None:
    """Writes a report into `folder` and says where it is."""
    path = _written(lambda: write(folder))["report.html"]
    console.print(f"report: {path}", soft_wrap=True, highlight=False, markup=False)


def _simulate(
    one: sweep.Sweep, workdir: pathlib.Path, console: rich.console.Console, stop: stopping.Stop
) -> int:
    """Runs a simulated experiment; its report is shown and written."""
    for note in one.notes:
        console.print(rich.text.Text(note, style="yellow"))

    def on_done(done: simulated.Done) -> None:
        window = f"{done.arm}, {sweep.rate_text(done.rate)}, seed {done.seed}"
        view.ended(window, measure.result_text(done.summary))

    with stop.gently(), runs_view.RunsView(len(one.jobs), console=console) as view:
        result = one.run(on_done=on_done, stopped=stop)
    if result.value is None:  # stopped before a run ended that it shows
        raise KeyboardInterrupt
    console.print()
    tables.show(result.value, console)
    if one.experiment.report.note:
        console.print(rich.text.Text(one.experiment.report.note))
    _write(result.write, workdir, console)
    return _INTERRUPTED if result.interrupted else 0


def _fuzz(
    one: fuzzing.Fuzz,
    workdir: pathlib.Path,
    console: rich.console.Console,
    stop: stopping.Stop,
    *,
    replay: str,
) -> int:
    """Random runs; the first that breaks a promise is named. replay: the command but its seeds."""

    def on_done(done: fuzzing.Done) -> None:
        view.ended(done.name, done.text)

    with stop.gently(), runs_view.RunsView(len(one.batches), console=console) as view:
        result = fuzzing.run(one, on_done=on_done, stopped=stop)
    failure = result.failure
    if failure is not None:
        command = f"{replay} --config.first_seed={failure.seed} --config.seeds=1"
        text = f"\nseed {failure.seed} fails: {failure.what}\nreplay: {command}"
        for line in (failure.trace, text):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    else:
        console.print(f"{result.seeds} seeds: every promise was kept", highlight=False)
    value = fuzzing.report(one, result, config=overrides.as_json(one))
    path = _written(lambda: report.write_json(workdir, value))
    console.print(f"report: {path}", soft_wrap=True, highlight=False, markup=False)
    if failure is not None:
        return _BROKEN
    return _INTERRUPTED if stop.asked else 0


def _do(one: task.Task, console: rich.console.Console, stop: stopping.Stop) -> int:
    """Does a task; it says itself what came of it."""

    def on_progress(done: float, total: float, words: str) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        view.update(done, total, words)

    console.print(rich.text.Text(one.title))
    with stop.gently(), task_view.TaskView(console=console) as view:
        for line in one.run(on_progress):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def _complete(
    one: completion.Completion, workdir: pathlib.Path, stop: stopping.Stop, begun: startup.Startup
) -> int:
    """Completes prompts: their texts to the output as they come, all else to the errors."""
    console = rich.console.Console(stderr=True, highlight=False)
    jax.config.update("jax_num_cpu_devices", one.settings.devices)
    console.print(f"loading and compiling; {kept_programs.keep()}", soft_wrap=True)
    begun.ended("devices")
    made = one.machine(on_stage=begun.ended)
    if made.path.sentence:
        console.print(rich.text.Text(made.path.sentence))
    _say_links(made.links, console)
    writer = typewriter.Typewriter(sys.stdout, [str(prompt.given) for prompt in one.prompts])
    try:
        with stop.gently():
            result = one.run(made, writer.say, stopped=stop)
    finally:
        made.close()
    path = _written(lambda: result.write(workdir))
    start = begun.sentence(result.first_token_seconds)
    for line in (*result.failures, typewriter.figures(result), start, f"completions: {path}"):
        console.print(rich.text.Text(line), soft_wrap=True)
    if result.failures:
        return _BROKEN
    return _INTERRUPTED if stop.asked else 0


def _profile(
    one: profile_bench.ProfileBenchmark, workdir: pathlib.Path, console: rich.console.Console
) -> int:
    """Measures a profile of this machine, which is written beside the report."""
    jax.config.update("jax_num_cpu_devices", one.experiment.devices)
    profiling = profile_bench.Profiling(one, say=lambda words: console.print(rich.text.Text(words)))
    code = _measure(profiling, workdir, console, config=overrides.as_json(one))
    path = workdir / "profile.json"
    _written(lambda: profile.save(profiling.found, path))
    console.print(f"profile: {path}", soft_wrap=True, highlight=False, markup=False)
    return code


def _measure(
    one: benchmark.Benchmark,
    workdir: pathlib.Path,
    console: rich.console.Console,
    *,
    config: Mapping[str, Any],
) -> int:
    """Runs a benchmark; its report is shown, and written row by row. config: its settings."""
    path = workdir / "report.json"

    def say(row: str, value: dict[str, Any]) -> None:
        nonlocal path
        path = _written(lambda: report.write_json(workdir, value))
        console.print(f"{row}: done", highlight=False, markup=False)

    console.print(rich.text.Text(one.title))
    value = benchmark.run(one, config=config, on_row=say)
    console.print()
    for table in tables.benchmark(value, console.width):
        console.print(table)
    console.print(f"report: {path}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _written(write: Callable[[], _T]) -> _T:
    """What `write()` returns. A file system that refuses is wrong input."""
    try:
        return write()
    except OSError as error:
        raise errors.ConfigError(f"the report cannot be written: {error}") from error


def _read(argv: Sequence[str], begun: startup.Startup) -> _Work:
    """What the arguments ask for, ready to run. Raises ConfigError and TraceError."""
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "The experiment, a Python file.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Folder for the report.", flag_values=values)
    try:
        given = values(["aqua_jax.run", *argv], known_only=True)[1:]
    except flags.Error as error:
        raise errors.ConfigError(str(error)) from None
    overridden = dict(_override(argument) for argument in given)
    if not values["config"].value:
        raise errors.ConfigError("--config is missing: give a file, --config=configs/burst.py")
    config = config_file.load(values["config"].value)
    for path, value in overridden.items():
        overrides.check_key(config, path, value)
    config = _laid_over(config, given)
    wanted = overrides.task_of(config)
    if wanted is not None:
        if values["workdir"].value:
            raise errors.ConfigError("--workdir: this config writes no report; leave it out")
        return lambda console, stop: _do(wanted, console, stop)
    completing = overrides.completion_of(config)
    default = "" if completing is None else _COMPLETED_INTO
    workdir = _check_workdir(values["workdir"].value or default)
    measured = overrides.benchmark_of(config)
    if isinstance(measured, profile_bench.ProfileBenchmark):
        return lambda console, stop: _profile(measured, workdir, console)
    if measured is not None:
        as_given = overrides.as_json(measured)
        return lambda console, stop: _measure(measured, workdir, console, config=as_given)
    if completing is not None:
        job = completion.Completion(completing)
        return lambda console, stop: _complete(job, workdir, stop, begun)
    fuzz = overrides.fuzz_of(config)
    if fuzz is not None:
        replay = f"python -m aqua_jax.run --config={values['config'].value} --workdir={workdir}"
        return lambda console, stop: _fuzz(fuzz, workdir, console, stop, replay=replay)
    imagined = overrides.simulated_of(config)
    if imagined is not None:
        _check_effects(imagined, overridden)
        swept = sweep.Sweep(imagined)
        return lambda console, stop: _simulate(swept, workdir, console, stop)
    experiment = overrides.experiment(config)
    _check_effects(experiment, overridden)
    trials = [
        trial.Trial(overrides.with_seed(experiment, number)) for number in range(experiment.repeats)
    ]
    order = _Order(experiment, trials, workdir, begun)
    return lambda console, stop: _run(order, console, stop)


def _check_effects(
    whole: settings.Experiment | simulated_settings.SimulatedExperiment, paths: Iterable[str]
) -> None:
    for path in paths:
        overrides.check_effect(whole, path)


def _override(argument: str) -> tuple[str, str]:
    """The setting and the text that `--config.key=value` gives it."""
    found = _OVERRIDE.fullmatch(argument)
    if found:
        return found[1], found[2]
    name = argument.partition("=")[0].partition(".")[0]
    near = difflib.get_close_matches(name, ("--config", "--workdir", "--help"), n=1)
    hint = f"did you mean {near[0]}? " if near and near[0] != name else ""
    raise errors.ConfigError(
        f"unexpected argument {argument!r}: {hint}expected --config=FILE, --workdir=FOLDER and"
        " settings as --config.key=value"
    )


def _laid_over(config: Any, given: Sequence[str]) -> Any:
    """The config with the settings of the arguments `given`."""
    values = flags.FlagValues()
    argv = ["aqua_jax.run", *given]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    try:
        values(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise errors.ConfigError(str(error)) from None
    return values["config"].value


def _check_workdir(value: str | None) -> pathlib.Path:
    if not value:
        raise errors.ConfigError("--workdir is missing: give a folder for the report")
    workdir = pathlib.Path(value)
    nearest = next(folder for folder in (workdir, *workdir.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise errors.ConfigError(f"--workdir={value}: {nearest} is a file; give a folder")
    if not os.access(nearest, os.W_OK):
        raise errors.ConfigError(f"--workdir={value}: {nearest} is not writable; give another")
    return workdir


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
