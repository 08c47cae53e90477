"""Progress of a sweep, in a terminal and elsewhere."""

from __future__ import annotations

import io

import rich.console

from aqua_jax.workloads import runs_view


def shown(*, terminal: bool) -> str:
    console = rich.console.Console(
        file=io.StringIO(), force_terminal=terminal, width=100, color_system=None
    )
    with runs_view.RunsView(2, console=console) as view:
        view.ended("cfs [1], seed 0", "first token max 2.00 s")
        view.ended("cfs [1], seed 1", "first token max 3.00 s")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_elsewhere_each_run_is_a_plain_line():
    assert shown(terminal=False).splitlines() == [
        "1/2 cfs [1], seed 0: first token max 2.00 s",
        "2/2 cfs [1], seed 1: first token max 3.00 s",
    ]


def test_in_a_terminal_a_bar_says_how_many_have_ended():
    text = shown(terminal=True)
    assert "2/2" in text
    assert "runs" in text
