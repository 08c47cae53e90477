"""How the device's wall time was used: running, idle, stalled, empty.

    idle    a session could run and no program was queued or running
    stall   no session could run, and one waited only for a copy
    empty   nobody wanted the device

Time is cut into segments at completions and decisions; a segment is given
to what held when it began, corrected by the decision that ends it.
"""

from __future__ import annotations

import enum


class Use(enum.Enum):
    """What the device does."""

    RUNNING = "running"
    IDLE = "idle"
    STALL = "stall"
    EMPTY = "empty"


class Usage:
    """Seconds by use, summed from `mark` to `mark`."""

    def __init__(self, now: float) -> None:
        self.seconds = dict.fromkeys(Use, 0.0)
        self._use = Use.EMPTY
        self._since = now

    def mark(self, at: float, use: Use) -> None:
        """From `at` on the device is in `use`; what came before keeps its name."""
        at = max(at, self._since)
        self.seconds[self._use] += at - self._since
        self._use, self._since = use, at

    def move(self, seconds: float, source: Use, target: Use) -> None:
        """So much of what counted as `source` was `target`."""
        self.seconds[source] -= seconds
        self.seconds[target] += seconds

    def correct(self, use: Use) -> None:
        """The segment under way turns out to be `use` from its beginning."""
        self._use = use

    @property
    def use(self) -> Use:
        """What the segment under way counts as."""
        return self._use
