"""What a device does one after the other.

Knows: operations that say when they are done, their order. Does not know:
slices, copies, time.
"""

from __future__ import annotations

import collections
from collections.abc import Callable

Operation = Callable[[Callable[[], None]], None]


class Stream:
    """Operations in the order in which they were submitted, one at a time."""

    def __init__(self) -> None:
        self._waiting: collections.deque[Operation] = collections.deque()
        self._busy = False

    def submit(self, start: Operation) -> None:
        """Calls `start(done)` when all before it are done; the next starts when it calls `done`."""
        self._waiting.append(start)
        if not self._busy:
            self._next()

    def _next(self) -> None:
        self._busy = bool(self._waiting)
        if self._waiting:
            self._waiting.popleft()(self._next)
