"""The smoke config's experiment in this process, and reports of it."""

from __future__ import annotations

import contextlib
import io
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import rich.console

from aqua_jax.experiments import config_file, machine, overrides, settings, trial
from aqua_jax.workloads import live

SMOKE = pathlib.Path(__file__).resolve().parents[2] / "configs" / "smoke.py"
TIERS = {"peer": {"kind": "peer", "bytes": 1 << 20}, "host": {"kind": "host", "bytes": 1 << 20}}


def experiment(**changes: Any) -> settings.Experiment:
    """The smoke experiment with settings changed by path: `workload__rate=3.0`."""
    config = config_file.load(str(SMOKE))
    for path, value in changes.items():
        *heads, last = path.split("__")
        head = config
        for name in heads:
            head = head[name]
        with head.unlocked():
            head[last] = value
    return overrides.experiment(config)


def with_arms(arms: dict[str, Any], **changes: Any) -> settings.Experiment:
    """The same with these arms, in this order."""
    return experiment(arm_settings=arms, arms=",".join(arms), **changes)


def paging(**memory: Any) -> dict[str, Any]:
    """An arm under cfs with both tiers and further settings of the head `memory`."""
    return {"policy": {"name": "cfs"}, "memory": {"tiers": TIERS, **memory}}


def run(
    one: trial.Trial, shared: machine.Machine, *, stopped: Callable[[], bool] = lambda: False
) -> trial.Result:
    """Every arm, with a view that nobody sees."""
    with live.LiveView(console=quiet()) as view:
        return one.run(shared, view, stopped=stopped)


def quiet() -> rich.console.Console:
    """A console that nobody sees."""
    return rich.console.Console(file=io.StringIO())


def digests(value: dict[str, Any]) -> set[str]:
    """The digests of all arms, each of which finished everything."""
    arms = value["arms"]
    unfinished = [name for name, arm in arms.items() if arm["finished"] != arm["requests"]]
    assert not unfinished, unfinished
    return {arm["token_ids_sha256"] for arm in arms.values()}


@contextlib.contextmanager
def count_compilations() -> Iterator[list[str]]:
    """The events of jax that say that a program is built, as they come."""
    events: list[str] = []
    counting = True

    def on_duration(event: str, seconds: float, **_: str | int) -> None:
        if counting and event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(on_duration)
    try:
        yield events
    finally:
        counting = False  # listeners cannot be taken back one by one
