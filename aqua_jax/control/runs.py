"""Free runs: the free indices of a range, kept as stretches of neighbours.

Knows: indices. Does not know: what they number, why one is free (`pages.py`).

A copy of pages that are neighbours on both sides is one large copy, so indices
are taken in runs as long as there are: from the smallest run that holds all
that is asked for, whole runs from the largest down where none does. Best fit
leaves the large runs to those who need them. It was measured against taking
from the largest run, or from its middle to leave room to grow: where memory is
short, as it is when anything is copied, both shred what best fit keeps whole.

Each run is known at both ends, so a run that is given back finds its
neighbours at once. Runs are binned by size. There are at most sqrt(2 n)
distinct sizes among n indices, so their sorted list stays short.

Example: of 0 to 9, `take(3)` gives 0, 1, 2. `give(1, 1)` makes the run [1, 1];
`take(1)` takes it again, and `take(2, after=2)` gives 3, 4.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from aqua_jax.control import errors

_NONE = -1


class FreeRuns:
    """The free ones of the indices `first` to `end - 1`; at the start all are.

    Not thread-safe. The caller gives back only what it took.
    """

    def __init__(self, first: int, end: int) -> None:
        self.count = 0
        self._ends = [_NONE] * (end + 1)  # by the first index of a run: its last
        self._firsts = [_NONE] * (end + 1)  # by the last index of a run: its first
        self._bins: dict[int, dict[int, None]] = {}  # by size: first indices of runs, none empty
        self._sizes: list[int] = []  # of the bins, ascending
        if end > first:
            self.give(first, end - 1)

    def take(self, count: int, *, after: int = _NONE) -> list[int]:
        """`count` indices in as few runs as best fit finds, ascending in each.

        after: an index that is not free; they begin with those behind it, as far as
        these are. The caller has checked `count`.
        """
        taken: list[int] = []
        if after >= 0 and self._ends[after + 1] != _NONE:
            last = self._remove(after + 1)
            taken = self._split(after + 1, last, count)
        while len(taken) < count:
            wanted = count - len(taken)
            first, last = self._pop_best(wanted)
            taken += self._split(first, last, wanted)
        return taken

    def give(self, first: int, last: int) -> None:
        """The indices `first` to `last` are free; the run joins its neighbours."""
        self.count += last - first + 1
        before = self._firsts[first - 1] if first else _NONE
        if before != _NONE:
            self._remove(before)
            first = before
        if self._ends[last + 1] != _NONE:
            last = self._remove(last + 1)
        self._insert(first, last)

    def withdraw(self, indices: Sequence[int]) -> None:
        """Takes out these free indices, wherever they lie. The caller has checked that they are."""
        wanted = sorted(indices)
        for first, last in self.runs():
            begin = bisect.bisect_left(wanted, first)
            end = bisect.bisect_right(wanted, last)
            if begin == end:
                continue
            self._remove(first)
            self.count -= end - begin
            for index in wanted[begin:end]:
                if first < index:
                    self._insert(first, index - 1)
                first = index + 1
            if first <= last:
                self._insert(first, last)

    def highest(self, count: int) -> list[int]:
        """The `count` highest free indices, or all there are, ascending. Takes none."""
        chosen: list[int] = []
        for first, last in reversed(self.runs()):
            first = max(first, last + 1 - (count - len(chosen)))
            chosen[:0] = range(first, last + 1)
            if len(chosen) >= count:
                break
        return chosen

    def runs(self) -> list[tuple[int, int]]:
        """(first, last) of every run, ascending."""
        return sorted((first, self._ends[first]) for bin_ in self._bins.values() for first in bin_)

    def check_integrity(self) -> None:
        """Runs are maximal, known at both ends and binned by size. Raises InternalError."""
        runs = self.runs()
        sizes = {last - first + 1 for first, last in runs}
        touching = [a for a, b in itertools.pairwise(runs) if b[0] <= a[1] + 1]
        misplaced = [
            (first, last)
            for first, last in runs
            if self._firsts[last] != first or first not in self._bins.get(last - first + 1, ())
        ]
        known = sum(end != _NONE for end in self._ends), sum(f != _NONE for f in self._firsts)
        counted = sum(last - first + 1 for first, last in runs)
        if touching or misplaced or known != (len(runs),) * 2 or self._sizes != sorted(sizes):
            raise errors.InternalError(
                f"free runs {runs} of sizes {self._sizes}: {touching} touch what follows,"
                f" {misplaced} are misplaced, {known} ends are known"
            )
        if counted != self.count:
            raise errors.InternalError(f"{counted} indices in free runs, {self.count} counted")

    def _pop_best(self, count: int) -> tuple[int, int]:
        """Takes out the smallest run of at least `count`, else the largest: (first, last)."""
        sizes = self._sizes
        fits = bisect.bisect_left(sizes, count)
        size = sizes[fits] if fits < len(sizes) else sizes[-1]
        bin_ = self._bins[size]
        first, _ = bin_.popitem()
        last = first + size - 1
        self._ends[first] = self._firsts[last] = _NONE
        if not bin_:
            self._drop_bin(size)
        return first, last

    def _split(self, first: int, last: int, count: int) -> list[int]:
        """Up to `count` indices from the low end of a run taken out before; the rest goes back."""
        end = first + count
        if end <= last:
            self._insert(end, last)
        else:
            end = last + 1
        self.count -= end - first
        return list(range(first, end))

    def _insert(self, first: int, last: int) -> None:
        self._ends[first] = last
        self._firsts[last] = first
        size = last - first + 1
        bin_ = self._bins.get(size)
        if bin_ is None:
            self._bins[size] = {first: None}
            bisect.insort(self._sizes, size)
        else:
            bin_[first] = None

    def _remove(self, first: int) -> int:
        """Takes out the run that begins at `first`; its last index."""
        last = self._ends[first]
        self._ends[first] = self._firsts[last] = _NONE
        size = last - first + 1
        bin_ = self._bins[size]
        del bin_[first]
        if not bin_:
            self._drop_bin(size)
        return last

    def _drop_bin(self, size: int) -> None:
        del self._bins[size]
        del self._sizes[bisect.bisect_left(self._sizes, size)]
