"""Between frozen settings and the `ConfigDict` that flags can change, both ways, checked.

    Experiment --to_config_dict--> ConfigDict --flags--> ConfigDict --experiment--> Experiment
                                                                    --arm--> one arm's
    Benchmark --benchmark_config_dict--> ... --benchmark_of--> Benchmark
    SimulatedExperiment --simulated_config_dict--> ... --simulated_of--> SimulatedExperiment
    Fuzz --fuzz_config_dict--> ... --fuzz_of--> Fuzz
    Task --task_config_dict--> ... --task_of--> Task
    CompletionSettings --completion_config_dict--> ... --completion_of--> CompletionSettings

Unknown keys and values of the wrong type fail with the nearest known key.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import ml_collections

from aqua_jax.control import errors
from aqua_jax.experiments import (
    benchmark,
    completion_settings,
    fuzzing,
    settings,
    simulated_settings,
    task,
)

# An experiment, real or simulated: what has a workload and arms.
Whole = TypeVar("Whole", settings.Experiment, simulated_settings.SimulatedExperiment)

_FLAG = "--config."
_BENCHMARK = "benchmark"  # in the place of arms: the class of the settings
_TASK = "task"  # likewise
_SIMULATED = "simulated"  # beside the settings of a simulated experiment: True
_FUZZ = "fuzz"  # beside the settings of random runs: True
_COMPLETION = "completion"  # beside the settings of completions: True
_BOOLEANS = ("true", "t", "1", "false", "f", "0")
# type of a setting -> what reads it from a flag, and that in words
_READERS: Mapping[type, tuple[Callable[[str], Any], str]] = {
    bool: (lambda text: _BOOLEANS.index(text.lower()), "True or False"),
    int: (int, "a whole number"),
    float: (float, "a number"),
}


def to_config_dict(experiment: settings.Experiment) -> ml_collections.ConfigDict:
    """The settings as flags see them: nested, same names.

    A ConfigDict forgets the order of its keys, so the order of the arms is kept in `arms`.
    """
    ordered = dataclasses.replace(experiment, arms=",".join(experiment.arm_names))
    return ml_collections.ConfigDict(_plain(ordered))


def benchmark_config_dict(settings_of: benchmark.Benchmark) -> ml_collections.ConfigDict:
    """The settings of a benchmark as flags see them, and which class they are of."""
    return ml_collections.ConfigDict({_BENCHMARK: type(settings_of)} | _plain(settings_of))


def benchmark_of(config: ml_collections.ConfigDict) -> benchmark.Benchmark | None:
    """The benchmark of a config after overrides; None for an experiment's. Raises ConfigError."""
    tree = config.to_dict()
    if _BENCHMARK not in tree:
        return None
    cls = tree.pop(_BENCHMARK)
    return _build(cls, tree, "config")


def task_config_dict(settings_of: task.Task) -> ml_collections.ConfigDict:
    """The settings of a task as flags see them, and which class they are of."""
    return ml_collections.ConfigDict({_TASK: type(settings_of)} | _plain(settings_of))


def task_of(config: ml_collections.ConfigDict) -> task.Task | None:
    """The task of a config after overrides; None for another's. Raises ConfigError."""
    tree = config.to_dict()
    if _TASK not in tree:
        return None
    cls = tree.pop(_TASK)
    return _build(cls, tree, "config")


def simulated_config_dict(
    experiment: simulated_settings.SimulatedExperiment,
) -> ml_collections.ConfigDict:
    """The settings of a simulated experiment as flags see them, marked as such."""
    ordered = dataclasses.replace(experiment, arms=",".join(experiment.arm_names))
    return ml_collections.ConfigDict({_SIMULATED: True} | _plain(ordered))


def simulated_of(
    config: ml_collections.ConfigDict,
) -> simulated_settings.SimulatedExperiment | None:
    """The simulated experiment of a config after overrides; None for another's."""
    tree = config.to_dict()
    if not tree.pop(_SIMULATED, False):
        return None
    return _build(simulated_settings.SimulatedExperiment, tree, "config")


def fuzz_config_dict(settings_of: fuzzing.Fuzz) -> ml_collections.ConfigDict:
    """The settings of random runs as flags see them, marked as such."""
    return ml_collections.ConfigDict({_FUZZ: True} | _plain(settings_of))


def fuzz_of(config: ml_collections.ConfigDict) -> fuzzing.Fuzz | None:
    """The random runs of a config after overrides; None for another's. Raises ConfigError."""
    tree = config.to_dict()
    if not tree.pop(_FUZZ, False):
        return None
    return _build(fuzzing.Fuzz, tree, "config")


def completion_config_dict(
    settings_of: completion_settings.CompletionSettings,
) -> ml_collections.ConfigDict:
    """The settings of completions as flags see them, marked as such."""
    return ml_collections.ConfigDict({_COMPLETION: True} | _plain(settings_of))


def completion_of(
    config: ml_collections.ConfigDict,
) -> completion_settings.CompletionSettings | None:
    """The completions of a config after overrides; None for another's. Raises ConfigError."""
    tree = config.to_dict()
    if not tree.pop(_COMPLETION, False):
        return None
    return _build(completion_settings.CompletionSettings, tree, "config")


def experiment(config: ml_collections.ConfigDict) -> settings.Experiment:
    """The frozen settings of a config after overrides. Raises ConfigError."""
    return _build(settings.Experiment, config.to_dict(), "config")


def arm(whole: Whole, name: str) -> Whole:
    """`whole` with the settings of arm `name` laid over it. Raises ConfigError for a wrong key."""
    tree = _lay_over(_plain(whole), whole.arm_settings[name])
    return _build(type(whole), tree, "config")


def check_key(config: ml_collections.ConfigDict, path: str, value: str | None = None) -> None:
    """That `config` has the setting `path` ("policy.name") and may take a flag's text `value`.

    Raises ConfigError with the nearest name there is, or with the arms that have the setting.
    """
    tree: Any = config.to_dict()
    arms = tree.get("arm_settings", {})
    walked: list[str] = []
    for name in path.split("."):
        if not isinstance(tree, Mapping) or name not in tree:
            raise errors.ConfigError(
                f"unknown setting {_FLAG}{path}: {_missing(tree, walked, name)}"
                f"{_hint_arms(arms, path)}"
            )
        tree = tree[name]
        walked.append(name)
    if value is not None:
        _check_text(tree, path, value)


def check_effect(
    whole: settings.Experiment | simulated_settings.SimulatedExperiment, path: str
) -> None:
    """That the setting `path` reaches some arm.

    Raises ConfigError when every arm that is to run sets it itself.
    """
    if not all(_holds(whole.arm_settings[arm], path) for arm in whole.arm_names):
        return
    example = f"{_FLAG}arm_settings.{whole.arm_names[0]}.{path}"
    raise errors.ConfigError(
        f"{_FLAG}{path} has no effect: each arm sets it itself; set it there, e.g. {example}"
    )


def with_seed(whole: Whole, offset: int) -> Whole:
    """`whole` with its workload's seed `offset` further on."""
    workload = dataclasses.replace(whole.workload, seed=whole.workload.seed + offset)
    return dataclasses.replace(whole, workload=workload)


def as_json(
    whole: settings.Experiment
    | simulated_settings.SimulatedExperiment
    | benchmark.Benchmark
    | fuzzing.Fuzz
    | task.Task
    | completion_settings.CompletionSettings,
) -> dict[str, Any]:
    """The settings as plain JSON values; functions by their qualified names."""
    return _plain(whole, functions=False)


def _check_text(setting: Any, path: str, value: str) -> None:
    """That a flag's text can take the place of `setting`."""
    if isinstance(setting, Mapping):
        raise errors.ConfigError(
            f"{_FLAG}{path}={value}: {path} has settings of its own: {', '.join(setting) or 'none'}"
        )
    if callable(setting):
        raise errors.ConfigError(
            f"{_FLAG}{path}: a function cannot be given on the command line; write a config"
        )
    if type(setting) in _READERS:
        reader, expected = _READERS[type(setting)]
        try:
            reader(value)
        except ValueError:
            raise errors.ConfigError(f"{_FLAG}{path}={value}: expected {expected}") from None


def _missing(tree: Any, walked: list[str], name: str) -> str:
    """Why `name` is not below the settings `walked`."""
    where = ".".join(walked) or "the config"
    if not isinstance(tree, Mapping):
        return f"{where} is a value and has no {name!r}"
    return f"{where} has no {name!r}{errors.close_match(name, tree) if tree else ''}"


def _hint_arms(arms: Mapping[str, Any], path: str) -> str:
    """Where the arms have a setting that the config itself lacks."""
    names = [arm for arm in arms if _holds(arms[arm], path)]
    return f"; arms have it: {_FLAG}arm_settings.{names[0]}.{path}" if names else ""


def _holds(tree: Any, path: str) -> bool:
    """Whether the nested settings say something about `path`, or replace what it is part of."""
    for name in path.split("."):
        if not isinstance(tree, Mapping):
            return True
        if name not in tree:
            return False
        tree = tree[name]
    return True


def _lay_over(tree: Any, settings_over: Any) -> Any:
    """Nested settings over nested settings; what is not nested replaces."""
    if not isinstance(tree, dict) or not isinstance(settings_over, Mapping):
        return settings_over
    return tree | {key: _lay_over(tree.get(key), value) for key, value in settings_over.items()}


def _plain(value: Any, *, functions: bool = True) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name), functions=functions)
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(k): _plain(v, functions=functions) for k, v in value.items()}
    if callable(value) and not functions:
        return f"{value.__module__}.{value.__qualname__}"
    return value


def _build(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise errors.ConfigError(f"{where} is {value!r}; expected settings by name")
    hints = typing.get_type_hints(cls)
    for key in value:
        if key not in hints:
            raise errors.ConfigError(f"unknown {where}.{key}{errors.close_match(key, hints)}")
    for field in dataclasses.fields(cls):
        given = field.name in value or field.default is not dataclasses.MISSING
        if not given and field.default_factory is dataclasses.MISSING:
            raise errors.ConfigError(f"{where}.{field.name} is missing")
    built = {key: _convert(hints[key], item, f"{where}.{key}") for key, item in value.items()}
    return cls(**built)


def _convert(hint: Any, value: Any, where: str) -> Any:
    where = where.removeprefix("config.")
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if hint is Any:
        return value
    if origin is Callable:
        if not callable(value):
            raise errors.ConfigError(f"{where} is {value!r}; expected a function")
        return value
    if origin is not None:
        if not isinstance(value, Mapping):
            raise errors.ConfigError(f"{where} is {value!r}; expected settings by name")
        item = args[1] if len(args) > 1 else Any
        return {key: _convert(item, entry, f"{where}.{key}") for key, entry in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_flag = hint is int and isinstance(value, bool)
    if isinstance(hint, type) and (is_flag or not isinstance(value, hint)):
        raise errors.ConfigError(
            f"{where} is {value!r} of type {type(value).__name__}; expected {hint.__name__}"
        )
    return value
