"""The live view: what it shows, how seldom it draws, and what a plain log gets."""

from __future__ import annotations

import io
import time

import pytest
import rich.console

from aqua_jax.workloads import live, records


class _Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def _console(*, terminal: bool) -> tuple[io.StringIO, rich.console.Console]:
    file = io.StringIO()
    return file, rich.console.Console(
        file=file, force_terminal=terminal, width=120, color_system=None
    )


def _sample(seconds: float, tokens: int, **pages: int) -> records.Sample:
    return records.Sample(seconds, 2, 3, 1, pages, tokens)


def test_plain_lines_are_sparse_where_there_is_no_terminal():
    file, console = _console(terminal=False)
    clock = _Clock()
    with live.LiveView(console=console, now=clock) as view:
        for step in range(101):
            clock.seconds = step * 0.1
            view.update("fcfs", _sample(clock.seconds, step * 5, device=step), step, 200)
        view.finish("fcfs", "done [in] 10 s")
    lines = file.getvalue().splitlines()
    assert lines == [
        "fcfs: 0/200 finished, 3 waiting for their first token, - tokens/s, pages: device 0",
        "fcfs: 50/200 finished, 3 waiting for their first token, 50 tokens/s, pages: device 50",
        "fcfs: 100/200 finished, 3 waiting for their first token, 50 tokens/s, pages: device 100",
        "fcfs: done [in] 10 s",
    ]


def test_a_terminal_shows_arms_bars_and_results_of_finished_arms():
    file, console = _console(terminal=True)
    clock = _Clock()
    with live.LiveView(capacity_pages={"device": 10}, console=console, now=clock) as view:
        view.update("fcfs", _sample(0.0, 0, device=5), 1, 8)
        view.finish("fcfs", "p99 11.2 s")
        clock.seconds = 1.0
        view.update("cfs", _sample(0.0, 0, device=9, peer=4), 2, 8)
    final = file.getvalue().rsplit("arm ", 1)[1]
    assert "p99 11.2 s" in final
    assert "2/8" in final
    assert "device" in final
    assert " 90%" in final
    assert "100%" in final  # peer has no capacity: drawn against the most it held


def test_drawing_is_throttled_and_an_update_is_cheap():
    file, console = _console(terminal=True)
    clock = _Clock()
    with live.LiveView(console=console, now=clock) as view:
        view.update("fcfs", _sample(0.0, 0, device=5), 0, 8)
        drawn = len(file.getvalue())
        started = time.perf_counter()
        for step in range(2_000):
            clock.seconds = step * 0.0001
            view.update("fcfs", _sample(clock.seconds, step, device=5), 0, 8)
        seconds = time.perf_counter() - started
        assert len(file.getvalue()) == drawn
        clock.seconds = 0.21
        view.update("fcfs", _sample(0.21, 9, device=5), 0, 8)
        assert len(file.getvalue()) > drawn
    assert seconds / 2_000 < 1e-3


def test_an_error_inside_leaves_the_terminal_restored():
    file, console = _console(terminal=True)

    def run_into_an_error() -> None:
        with live.LiveView(console=console) as view:
            view.update("fcfs", _sample(0.0, 0), 0, 8)
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run_into_an_error()
    assert file.getvalue().endswith("\x1b[?25h")  # the cursor is shown again
