"""How a run hears Ctrl-C: at once, or when what is under way has been saved.

Knows: signals, threads. Does not know: what is run.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType


class Stop:
    """Ctrl-C ends the process at once; within `gently` the first one only asks for an end."""

    def __init__(self) -> None:
        self.asked = False
        self._gently = False
        signal.signal(signal.SIGINT, self._hear)

    def __call__(self) -> bool:
        return self.asked

    @contextlib.contextmanager
    def gently(self) -> Iterator[None]:
        """While there is something to save."""
        self._gently = True
        try:
            yield
        finally:
            self._gently = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self._gently:
            raise KeyboardInterrupt
        self.asked = True


def on_a_thread(work: Callable[[], int]) -> int:
    """Its result. Signals are handled on the main thread, which is free this way.

    Python defers them while the thread is in C++, and XLA compiles for seconds.
    """
    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="run")
    return executor.submit(work).result()
