"""A run as it goes: who waits for a first token, tokens a second, memory by tier, progress.

Knows: samples and rich. Does not know: the engine. Cheap enough to be called
after every slice: it draws at most five times a second, and where the output
is no terminal it writes one plain line every few seconds instead.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType

import rich.console
import rich.live
import rich.table
import rich.text

from aqua_jax.workloads import quantities, records

_REDRAW_SECONDS = 0.2
_LINE_SECONDS = 5.0  # between plain lines
_RATE_SECONDS = 2.0  # tokens a second are averaged over this long
_BAR_CELLS = 12  # of a bar at most
_BAR_CELLS_MIN = 3  # where there is room for fewer, the percentage stands alone
_FIGURES_CELLS = 40  # the table without the bars: its other columns, the gaps


@dataclasses.dataclass(slots=True)
class _Arm:
    """What is shown of one arm. `recent` holds (seconds, tokens emitted) of the last samples."""

    sample: records.Sample | None = None
    finished: int = 0
    total: int = 0
    result: str = ""
    pages_max: dict[str, int] = dataclasses.field(default_factory=dict)
    recent: deque[tuple[float, int]] = dataclasses.field(default_factory=deque)


class LiveView:
    """A context manager; the arms stay on screen, each with its result once it has one.

    capacity_pages: pages of each tier, for the bars; a tier without one is
    drawn against the most it held so far. now: seconds for throttling only.
    """

    def __init__(
        self,
        *,
        capacity_pages: Mapping[str, int] | None = None,
        console: rich.console.Console | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity_pages = dict(capacity_pages or {})
        self._console = console or rich.console.Console()
        self._now = now
        self._arms: dict[str, _Arm] = {}
        self._drawn_at = float("-inf")
        self._live: rich.live.Live | None = None

    def __enter__(self) -> LiveView:
        if self._console.is_terminal:
            self._live = rich.live.Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()
            self._live = None

    def update(self, arm: str, sample: records.Sample, finished: int, total: int) -> None:
        """Takes in the state of a running arm; draws only when the last drawing is old enough."""
        state = self._arms.setdefault(arm, _Arm())
        state.sample, state.finished, state.total = sample, finished, total
        state.recent.append((sample.at_seconds, sample.tokens_emitted))
        while sample.at_seconds - state.recent[0][0] > _RATE_SECONDS and len(state.recent) > 2:
            state.recent.popleft()
        for tier, pages in sample.pages.items():
            state.pages_max[tier] = max(pages, state.pages_max.get(tier, 0))
        pause_seconds = _REDRAW_SECONDS if self._live is not None else _LINE_SECONDS
        if self._now() - self._drawn_at >= pause_seconds:
            self._draw(arm)

    def finish(self, arm: str, result: str) -> None:
        """Keeps the arm on screen with its result, a few words, in place of its state."""
        self._arms.setdefault(arm, _Arm()).result = result
        self._draw(arm)

    def _draw(self, arm: str) -> None:
        self._drawn_at = self._now()
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        else:
            self._console.print(self._line(arm), markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> rich.table.Table:
        table = rich.table.Table(box=None)
        table.add_column("arm")
        for name in ("finished", "no token yet", "tokens/s"):
            table.add_column(name, justify="right")
        table.add_column("memory by tier")
        for name, arm in self._arms.items():
            table.add_row(rich.text.Text(name), _progress(arm), *self._state_cells(arm))
        return table

    def _state_cells(self, arm: _Arm) -> list[rich.text.Text]:
        if arm.result or arm.sample is None:
            return [rich.text.Text(""), rich.text.Text(""), rich.text.Text(arm.result, "green")]
        waiting = arm.sample.waiting_first
        cells = self._bar_cells(arm)
        return [
            rich.text.Text(str(waiting), style="red" if waiting else "dim"),
            rich.text.Text(_rate(arm)),
            rich.text.Text("  ").join(
                _bar(tier, pages, self._capacity_pages.get(tier) or arm.pages_max[tier], cells)
                for tier, pages in arm.sample.pages.items()
            ),
        ]

    def _bar_cells(self, arm: _Arm) -> int:
        """What the terminal has room for: bars shrink before numbers are cut."""
        assert arm.sample is not None
        names = list(arm.sample.pages)
        room = self._console.width - _FIGURES_CELLS - max(map(len, self._arms))
        taken = sum(len(name) for name in names) + len(names) * len("  100%  ")
        cells = min(_BAR_CELLS, (room - taken) // max(1, len(names)))
        return cells if cells >= _BAR_CELLS_MIN else 0

    def _line(self, arm_name: str) -> str:
        arm = self._arms[arm_name]
        if arm.result or arm.sample is None:
            return f"{arm_name}: {arm.result}"
        pages = ", ".join(f"{tier} {pages}" for tier, pages in arm.sample.pages.items())
        return (
            f"{arm_name}: {arm.finished}/{arm.total} finished, {arm.sample.waiting_first} waiting "
            f"for their first token, {_rate(arm)} tokens/s, pages: {pages or 'none'}"
        )


def _progress(arm: _Arm) -> rich.text.Text:
    return rich.text.Text(f"{arm.finished}/{arm.total}" if arm.total else "")


def _rate(arm: _Arm) -> str:
    """Tokens a second over the samples kept."""
    (first_seconds, first_tokens), (last_seconds, last_tokens) = arm.recent[0], arm.recent[-1]
    if last_seconds <= first_seconds:
        return quantities.NONE
    return f"{(last_tokens - first_tokens) / (last_seconds - first_seconds):,.0f}"


def _bar(tier: str, pages: int, capacity: int, cells: int) -> rich.text.Text:
    share = min(1.0, pages / capacity) if capacity else 0.0
    if not cells:
        return rich.text.Text.assemble((f"{tier} ", "dim"), f"{share:.0%}")
    filled = round(share * cells)
    return rich.text.Text.assemble(
        (f"{tier} ", "dim"),
        ("━" * filled, "cyan"),
        ("━" * (cells - filled), "bright_black"),
        f" {share:4.0%}",
    )
