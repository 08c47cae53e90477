"""The stages of a start add up, from the process's beginning."""

from __future__ import annotations

import time

import pytest

from aqua_jax.experiments import startup
from tests import processes


def test_a_process_is_as_old_as_the_kernel_says():
    program = (
        "import time; time.sleep(0.3)\n"
        "from aqua_jax.experiments import startup\n"
        "first = startup.process_seconds(); time.sleep(0.2)\n"
        "print(first, startup.process_seconds())"
    )
    first, second = map(float, processes.python(program).split())
    assert first >= 0.3
    assert second >= first + 0.19


def test_stages_add_up_and_what_is_left_out_counts_for_none(monkeypatch):
    now = 100.0
    monkeypatch.setattr(startup, "process_seconds", lambda: 2.0)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    begun = startup.Startup()
    now = 101.0
    begun.ended("weights")
    now = 151.0
    begun.left_out()
    now = 154.0
    begun.ended("links")
    assert begun.table(0.5) == {
        "import": {"seconds": 2.0, "until_seconds": 2.0},
        "weights": {"seconds": 1.0, "until_seconds": 3.0},
        "links": {"seconds": 3.0, "until_seconds": 6.0},
        "first token": {"seconds": 0.5, "until_seconds": pytest.approx(6.5)},
    }
    assert "first token" not in begun.table(None)
    assert begun.sentence(0.5) == (
        "first token 6.50 s after the start: import 2.00, weights 1.00, links 3.00,"
        " first token 0.50"
    )
    assert begun.sentence(None).startswith("links 6.00 s after the start")
