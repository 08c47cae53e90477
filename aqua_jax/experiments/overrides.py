"""Between frozen settings and the `ConfigDict` that flags can change, both ways, checked.

    Experiment --to_config_dict--> ConfigDict --flags--> ConfigDict --experiment--> Experiment
                                                                    --arm--> one arm's

Unknown keys and values of the wrong type fail with the nearest known key.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from aqua_jax.control import errors
from aqua_jax.experiments import settings


def to_config_dict(experiment: settings.Experiment) -> ml_collections.ConfigDict:
    """The settings as flags see them: nested, same names.

    A ConfigDict forgets the order of its keys, so the order of the arms is kept in `arms`.
    """
    ordered = dataclasses.replace(experiment, arms=",".join(experiment.arm_names))
    return ml_collections.ConfigDict(_plain(ordered))


def experiment(config: ml_collections.ConfigDict) -> settings.Experiment:
    """The frozen settings of a config after overrides. Raises ConfigError."""
    return _build(settings.Experiment, config.to_dict(), "config")


def arm(whole: settings.Experiment, name: str) -> settings.Experiment:
    """`whole` with the settings of arm `name` laid over it. Raises ConfigError for a wrong key."""
    tree = _lay_over(_plain(whole), whole.arm_settings[name])
    return _build(settings.Experiment, tree, "config")


def with_seed(whole: settings.Experiment, offset: int) -> settings.Experiment:
    """`whole` with its workload's seed `offset` further on."""
    workload = dataclasses.replace(whole.workload, seed=whole.workload.seed + offset)
    return dataclasses.replace(whole, workload=workload)


def as_json(whole: settings.Experiment) -> dict[str, Any]:
    """The settings as plain JSON values; functions by their qualified names."""
    return _plain(whole, functions=False)


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
    built = {key: _convert(hints[key], item, f"{where}.{key}") for key, item in value.items()}
    return cls(**built)


def _convert(hint: Any, value: Any, where: str) -> Any:
    where = where.removeprefix("config.")
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if hint is Any:
        return value
    if origin is not None and isinstance(value, Mapping):
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
