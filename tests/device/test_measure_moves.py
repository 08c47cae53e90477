"""What the figures of moving pages have in them; that the sections run is `test_gpu_check.py`'s."""

from __future__ import annotations

import time
from typing import Any

from tests.device import measure_moves

HOST_SECONDS = 0.01


class _Token:
    """The result of a step, which knows when somebody waited for it."""

    def __init__(self, events: list[str], name: int) -> None:
        self._events = events
        self._name = name

    def block_until_ready(self) -> None:
        self._events.append(f"await {self._name}")


class _Pool:
    """Steps that take no time."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def run(self, *_: Any) -> tuple[_Token]:
        name = sum(event.startswith("run") for event in self.events)
        self.events.append(f"run {name}")
        return (_Token(self.events, name),)


def _load() -> Any:
    """What is run is the pool's business, which is a double."""
    nothing: Any = None
    return measure_moves._Load(nothing, nothing, nothing)


def test_a_step_beside_copies_has_their_host_time_in_it() -> None:
    load = _load()
    alone = load.steps(_Pool(), 3)
    beside = load.steps(_Pool(), 3, before_each=lambda: time.sleep(HOST_SECONDS))
    assert alone < HOST_SECONDS <= beside


def test_the_next_step_is_dispatched_while_one_runs() -> None:
    load = _load()
    pool = _Pool()
    load.steps(pool, 3)
    assert pool.events == ["run 0", "run 1", "await 0", "run 2", "await 1", "await 2"]
