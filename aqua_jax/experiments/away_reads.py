"""How often a batch reads pages that are attended in place: for reports and emulated times alike.

Knows: batches, the first unit that a row sees. Does not know: bytes, seconds,
links.

A count, not a measurement. A decode step reads every page that its row sees
once. A prefill program is taken to do the same, for all its rows together:
that asks for a kernel which brings each page over its link once a program and
keeps it for all rows. The kernels of the native library read a page again for
each tile of rows, so for prefill the count is the least that there could be.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator

import numpy as np

from aqua_jax.control import types


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AwayReads:
    """See the module's text.

    chunk_units: rows of one prefill program. page_units: of one page. window: a row sees the
    last so many units; 0: all. step_reads: reads in one step, which may stand for several.
    """

    chunk_units: int = 1
    page_units: int = 1
    window: int = 0
    step_reads: int = 1

    def count(self, batch: types.Batch) -> dict[int, int]:
        """Reads of pages that are attended in place, by their space."""
        counts: collections.Counter[int] = collections.Counter()
        row = 0  # of the slice's prefill programs, which take the plans' rows in order
        for plan in batch.lanes:
            if plan.pages and plan.pages[0] < 0:  # else none is
                table = np.asarray(plan.pages, np.int32)
                for first, reads in self._first_pages(plan, row).items():
                    for space, pages in _pages_by_space(table[first:]):
                        counts[space] += reads * pages
            row += plan.prefill
        return dict(counts)

    def _first_pages(self, plan: types.LanePlan, row: int) -> collections.Counter[int]:
        """The first page that is seen, and how often it is that one; `row`: where it begins."""
        counts: collections.Counter[int] = collections.Counter()
        for unit, reads in self._programs(plan, row):
            seen = max(0, unit - self.window + 1) if self.window else 0
            counts[seen // self.page_units] += reads
        return counts

    def _programs(self, plan: types.LanePlan, row: int) -> Iterator[tuple[int, int]]:
        """The first unit that each prefill program and step computes, and its reads."""
        unit, end = plan.first, plan.first + plan.prefill
        while unit < end:
            yield unit, 1
            unit += self.chunk_units - row % self.chunk_units
            row = 0  # the next program begins with this plan
        for step in range(plan.steps):
            yield end + step, self.step_reads


def _pages_by_space(table: np.ndarray) -> Iterator[tuple[int, int]]:
    """How many entries of the table name a slot of each space."""
    spaces = ~table[table < 0] // types.ENTRY_SLOTS
    for space, pages in enumerate(np.bincount(spaces).tolist()):
        if pages:
            yield space, pages
