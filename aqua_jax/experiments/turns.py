"""Calls measured in turn, again and again, so that neighbours and clocks touch all alike.

Knows: a clock. Does not know: what is called.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def medians(calls: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median seconds of each; the first round, which compiles, does not count."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats + 1):
        for call, own in zip(calls, seconds, strict=True):
            begin = time.perf_counter()
            call()
            if turn:
                own.append(time.perf_counter() - begin)
    return [statistics.median(own) for own in seconds]
