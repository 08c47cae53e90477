"""How far a sweep is: a bar in a terminal, a plain line for each run elsewhere.

Knows: rich, how many runs there are and how many have ended. Does not know:
what a run is.
"""

from __future__ import annotations

from types import TracebackType

import rich.console
import rich.progress
import rich.text


class RunsView:
    """A context manager. total: runs that there will be."""

    def __init__(self, total: int, *, console: rich.console.Console) -> None:
        self._total = total
        self._console = console
        self._ended = 0
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("runs"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> RunsView:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.update(self._task, description="")
        self._bar.stop()

    def ended(self, run: str, result: str) -> None:
        """One more run has ended, with a result in a few words."""
        self._ended += 1
        self._bar.update(self._task, advance=1, description=f"{run}: {result}")
        if not self._console.is_terminal:
            line = f"{self._ended}/{self._total} {run}: {result}"
            self._console.print(rich.text.Text(line), soft_wrap=True)
