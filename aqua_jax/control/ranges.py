"""Sets of indices as ranges: values that are added, subtracted and taken from.

Knows: indices. Does not know: what they number.

A set is a tuple of half-open ranges, ascending, none empty, none touching the
next, so equal sets are equal tuples and a set is its own snapshot. `runs.py`
keeps the free indices of a large pool in place and remembers in which order
they came back; what is taken from a value depends on the value alone. An
operation costs about as much as there are ranges.

>>> taken = take(((0, 4), (6, 8)), 2)
>>> taken, minus(((0, 4), (6, 8)), taken), count(taken)
((Range(first=6, end=8),), (Range(first=0, end=4),), 2)
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aqua_jax.control import errors


class Range(NamedTuple):
    """The indices from `first` up to `end`, without it."""

    first: int
    end: int


Ranges = tuple[Range, ...]
Pairs = Sequence[tuple[int, int]]  # Ranges, or anything in the same order


def of(pairs: Iterable[Sequence[int]]) -> Ranges:
    """The set that (first, end) pairs in any order name. Raises UnitsError when they overlap."""
    given = [tuple(pair) for pair in pairs]
    for pair in given:
        if len(pair) != 2 or not all(type(i) is int for i in pair) or not 0 <= pair[0] < pair[1]:
            raise errors.UnitsError(
                f"{pair} in {given} is no range: expected (first, end) with 0 <= first < end"
            )
    merged: list[Range] = []
    for first, end in sorted(given):
        if merged and first < merged[-1].end:
            raise errors.UnitsError(
                f"ranges {given} name unit {first} twice: expected each unit once"
            )
        if merged and first == merged[-1].end:
            first = merged.pop().first
        merged.append(Range(first, end))
    return tuple(merged)


def count(ranges: Pairs) -> int:
    """Indices in the set."""
    total = 0
    for first, end in ranges:
        total += end - first
    return total


def holds(ranges: Pairs, part: Pairs) -> bool:
    """True when every index of `part` is in `ranges`."""
    at = 0
    for first, end in part:
        while at < len(ranges) and ranges[at][1] < end:
            at += 1
        if at == len(ranges) or first < ranges[at][0]:
            return False
    return True


def plus(ranges: Pairs, more: Pairs) -> Ranges:
    """Both together. Raises UnitsError when they share an index."""
    return of((*ranges, *more))


def minus(ranges: Pairs, part: Pairs) -> Ranges:
    """What is left without `part`. Raises InternalError when that is not a part of it."""
    if not holds(ranges, part):
        raise errors.InternalError(f"{tuple(part)} is not a part of {tuple(ranges)}")
    left: list[Range] = []
    at = 0
    for first, end in ranges:
        while at < len(part) and part[at][0] < end:
            if first < part[at][0]:
                left.append(Range(first, part[at][0]))
            first = part[at][1]
            at += 1
        if first < end:
            left.append(Range(first, end))
    return tuple(left)


def take(ranges: Pairs, wanted: int) -> Ranges:
    """`wanted` indices in few ranges. The caller has checked that there are as many.

    From the smallest range that holds all that is still wanted, else the largest whole; the lowest
    of equals.
    """
    sizes = sorted((end - first, first) for first, end in ranges)
    taken: list[Range] = []
    while wanted:
        size = min(wanted, sizes[-1][0])
        size, first = sizes.pop(bisect.bisect_left(sizes, (size, 0)))
        taken.append(Range(first, first + min(size, wanted)))
        wanted -= min(size, wanted)
    return of(taken)


def highest(ranges: Pairs, wanted: int) -> Ranges:
    """The `wanted` highest indices. The caller has checked that there are as many."""
    taken: list[Range] = []
    for first, end in reversed(ranges):
        if wanted:
            first = max(first, end - wanted)
            wanted -= end - first
            taken.append(Range(first, end))
    return of(taken)
