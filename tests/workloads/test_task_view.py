"""Progress of one task, in a terminal and elsewhere."""

from __future__ import annotations

import io

import rich.console

from aqua_jax.workloads import task_view


def shown(*, terminal: bool) -> str:
    console = rich.console.Console(
        file=io.StringIO(), force_terminal=terminal, width=100, color_system=None
    )
    with task_view.TaskView(console=console) as view:
        for done in (1, 2, 30, 35, 100):
            view.update(done, 100, f"at {done}")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_elsewhere_each_tenth_is_one_line():
    assert shown(terminal=False).splitlines() == ["30% at 30", "100% at 100"]


def test_in_a_terminal_a_bar_says_how_far_it_is():
    text = shown(terminal=True)
    assert "100%" in text
    assert "at 100" in text
