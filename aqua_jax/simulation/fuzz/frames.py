"""A lender's memory with bytes in it: what its source lends is what borrowers map.

Knows: units as lists of toy pages. Does not know: what the source can spare
(`aqua_jax/control/sources.py`), who borrows. What comes home is used at once:
whoever touches it still, reads and leaves garbage.
"""

from __future__ import annotations

from collections.abc import Callable

from aqua_jax.control import ranges, sources

Frames = list[list[int]]  # the pages of a unit


class Lent:
    """A source that keeps the frames of the units that are lent."""

    def __init__(
        self,
        source: sources.Source,
        *,
        take: Callable[[int], Frames],
        give: Callable[[Frames], None],
        garble: Callable[[Frames], None],
    ) -> None:
        """take: what stands behind a unit from now on; give: it is the source's own again."""
        self._source = source
        self._take = take
        self._give = give
        self._garble = garble
        self._lent: dict[int, Frames] = {}
        self.is_closing = False  # it wants all of it back

    def frames(self, unit: int) -> Frames | None:
        """What a borrower maps; None: the unit is not lent, as far as its lender knows."""
        return self._lent.get(unit)

    def target(self, lent: int, now: float) -> int:
        return 0 if self.is_closing else self._source.target(lent, now)

    def reserve(self, count: int) -> int:
        return self._source.reserve(count)

    def lend(self, units: ranges.Ranges) -> None:
        self._source.lend(units)
        for unit in _each(units):
            self._lent[unit] = self._take(unit)

    def scrub(self, units: ranges.Ranges) -> None:
        self._source.scrub(units)
        for unit in _each(units):
            self._garble(self._lent[unit])

    def take_back(self, units: ranges.Ranges) -> None:
        self._source.take_back(units)
        for unit in _each(units):
            frames = self._lent.pop(unit)
            self._garble(frames)
            self._give(frames)


def _each(units: ranges.Ranges) -> list[int]:
    return [unit for first, end in units for unit in range(first, end)]
