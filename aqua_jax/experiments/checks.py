"""Ranges and names of settings: one line for what is wrong, with what to give.

Knows: numbers, names, policies. Does not know: which settings there are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from aqua_jax.control import errors, types
from aqua_jax.control.policies import registry


def at_least(head: str, value: Any, least: float, *names: str) -> None:
    """Each of the fields `names` of `value` is finite and at least that."""
    for name in names:
        number = getattr(value, name)
        if not (math.isfinite(number) and number >= least):
            raise errors.ConfigError(
                f"{head}.{name} is {number}; give a number of at least {least}"
            )


def above(head: str, value: Any, *names: str) -> None:
    """Each is finite and above 0."""
    for name in names:
        number = getattr(value, name)
        if not (math.isfinite(number) and number > 0):
            raise errors.ConfigError(f"{head}.{name} is {number}; give a finite number above 0")


def multiple(head: str, value: Any, unit: int, name: str) -> None:
    """The field is a multiple of `unit`."""
    number = getattr(value, name)
    if number % unit:
        raise errors.ConfigError(f"{head}.{name} is {number}; give a multiple of {unit}")


def one_of(name: str, value: str, known: Collection[str]) -> None:
    """The value is a known one; the nearest is named."""
    if value not in known:
        raise errors.ConfigError(f"unknown {name} {value!r}{errors.close_match(value, known)}")


def sharing(*, prefix_reuse: bool, attends: types.AttendAway) -> None:
    """Sessions that are attended away are not to share prefixes too."""
    if prefix_reuse and attends is types.AttendAway.ALL:
        raise errors.ConfigError(
            "memory.attend_away=all with engine.prefix_reuse: sessions that are attended away"
            " share nothing; set one of them only"
        )


def policy(name: str) -> None:
    """There is such a policy."""
    one_of("policy.name", name, registry.POLICIES)


def arms(given: str, chosen: Sequence[str], known: Collection[str]) -> None:
    """There are arms to run, each known and named once; `given`: the flag's text."""
    if not chosen:
        raise errors.ConfigError("there are no arms to run: give arm_settings at least one")
    for number, arm in enumerate(chosen):
        if arm in chosen[:number]:
            raise errors.ConfigError(f"arm {arm!r} is named twice in arms={given}")
        if arm not in known:
            raise errors.ConfigError(f"unknown arm {arm!r}{errors.close_match(arm, known)}")


def names(text: str) -> list[str]:
    """The entries of a comma-separated text.

    >>> names("fcfs, cfs,")
    ['fcfs', 'cfs']
    """
    return [name.strip() for name in text.split(",") if name.strip()]
