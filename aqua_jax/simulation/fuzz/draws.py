"""Draws that are the same on every machine and Python for a seed: whole numbers and fractions.

Knows: `random.Random`'s methods that never change. Does not know: what is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Draws:
    """One stream of draws; streams of other names do not depend on it."""

    def __init__(self, seed: int, name: str) -> None:
        self._random = random.Random(f"{seed}/{name}")

    def one_of(self, items: Sequence[Item]) -> Item:
        """One of the items; what stands there twice is twice as likely."""
        return items[self._random.randrange(len(items))]

    def between(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return self._random.randrange(least, most + 1)

    def within(self, least: float, most: float) -> float:
        """A number of an interval."""
        return least + (most - least) * self._random.random()

    def chance(self, share: float) -> bool:
        """True in that share of all draws."""
        return self._random.random() < share

    def some(self, least: int, most: int, count: int) -> list[int]:
        """`count` different whole numbers, or all that there are, in the order drawn."""
        left = list(range(least, most + 1))
        chosen = []
        while left and len(chosen) < count:
            chosen.append(left.pop(self._random.randrange(len(left))))
        return chosen
