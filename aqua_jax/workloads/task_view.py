"""How far one long task is: a bar in a terminal, elsewhere a line for every tenth of it.

Knows: rich, how much is done. Does not know: what is done.
"""

from __future__ import annotations

from types import TracebackType

import rich.console
import rich.progress
import rich.text

_LINES = 10


class TaskView:
    """A context manager."""

    def __init__(self, *, console: rich.console.Console) -> None:
        self._console = console
        self._said = 0
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> TaskView:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, done: float, total: float, words: str) -> None:
        """So much of it is done. words: how it goes."""
        self._bar.update(self._task, completed=done, total=total, description=words)
        reached = int(_LINES * done / total)
        if reached > self._said and not self._console.is_terminal:
            self._console.print(rich.text.Text(f"{done / total:.0%} {words}"), soft_wrap=True)
        self._said = max(self._said, reached)
