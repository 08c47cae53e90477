"""What a number of a report means: the row of `metrics.py` and its like.

Knows: words. Does not know: any number.
"""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """What one number means. unit: one of those of `quantities.py`, "" for a count or a name."""

    title: str
    unit: str
    definition: str
