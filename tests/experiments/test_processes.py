"""Work over processes: the same outcomes, an end when asked, nothing left behind."""

from __future__ import annotations

import os
import pathlib
import signal
import time
from collections.abc import Callable

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import processes


def square(item: int, stopped: Callable[[], bool]) -> tuple[int, int]:
    return item * item, os.getpid()


def wait_for_stop(item: int, stopped: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not stopped() and time.monotonic() < deadline:
        time.sleep(0.01)
    return stopped()


def fail(item: int, stopped: Callable[[], bool]) -> None:
    raise errors.ConfigError(f"item {item} is wrong")


def die(item: int, stopped: Callable[[], bool]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def never() -> bool:
    return False


def test_every_item_has_its_outcome_whoever_worked():
    for workers in (1, 2):
        done = list(processes.run_all(square, range(5), workers=workers, stopped=never))
        assert sorted(value for value, _ in done) == [0, 1, 4, 9, 16]
        assert (os.getpid() in {pid for _, pid in done}) == (workers == 1)


def test_a_stop_ends_those_that_run_and_begins_no_more():
    began = time.monotonic()
    stop_at = began + 1.0
    done = list(
        processes.run_all(
            wait_for_stop, range(50), workers=2, stopped=lambda: time.monotonic() > stop_at
        )
    )
    assert done == []
    assert time.monotonic() - began < 20
    here = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = [pathlib.Path(f"/proc/{pid}/cmdline").read_text() for pid in here]
    assert not [name for name in names if "spawn_main" in name]


def test_what_work_raises_is_raised():
    with pytest.raises(errors.ConfigError, match=r"item [01] is wrong"):
        list(processes.run_all(fail, range(2), workers=2, stopped=never))


def test_a_process_that_dies_is_said():
    with pytest.raises(errors.InternalError, match=r"a process died .* Use fewer workers"):
        list(processes.run_all(die, range(2), workers=2, stopped=never))


def test_stopped_before_it_begins_nothing_runs():
    assert list(processes.run_all(square, range(5), workers=1, stopped=lambda: True)) == []


def test_cores_are_those_of_this_process():
    assert processes.cores() == len(os.sched_getaffinity(0))
