"""One lender's lease: where each of its units is, and what the lender calls back.

Knows: unit indices, open reclaims. Does not know: who holds a grant, which
grants are called, clients (`leases.py`).

A unit is in one of four states; indices are given by the ledger, so a unit that
came home is lent again under the lowest index that has the room.

                 offer             grant
         HOME ----------> FREE -----------> GRANTED
          ^ ^              |                 |   |
          | +--withdraw----+                 |   | the borrower is gone
          |    reclaim     ^                 |   v
          |                +--- release -----+  FENCED
          |                +--- scrubbed ----|---+
          +--------------------- either, while a reclaim is open

A reclaim is open as long as units are to come. What comes back, from whomever,
counts for the reclaim with the earliest deadline; an offer calls off open
reclaims before it lends anything, the latest deadline first. So FREE is empty
while a reclaim is open (L4): no unit lies idle while its lender waits for it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from aqua_jax.control import errors, ranges


@dataclasses.dataclass(slots=True)
class OpenReclaim:
    """`left_count` of `units_count` units are to come home by `deadline`, in ledger time."""

    id: int
    units_count: int
    left_count: int
    deadline: float
    reported: bool = False  # as overdue


class LentUnits:
    """The units of one lease. A unit below `end` in no set here is in one grant."""

    def __init__(self) -> None:
        self.end = 0  # indices in use lie below
        self.home: ranges.Ranges = ()
        self.free: ranges.Ranges = ()
        self.fenced: ranges.Ranges = ()
        self.reclaims: list[OpenReclaim] = []  # by deadline, then id

    @property
    def lent_count(self) -> int:
        """Units that are FREE, GRANTED or FENCED."""
        return self.end - ranges.count(self.home)

    @property
    def owed_count(self) -> int:
        """Units that open reclaims still want."""
        total = 0
        for reclaim in self.reclaims:
            total += reclaim.left_count
        return total

    def offer(self, units_count: int) -> ranges.Ranges:
        """HOME -> FREE, less what calls off open reclaims; the units that are FREE by it."""
        for reclaim in reversed(self.reclaims):
            off = min(reclaim.left_count, units_count)
            reclaim.units_count -= off
            reclaim.left_count -= off
            units_count -= off
        self._close_complete()
        again = ranges.take(self.home, min(units_count, ranges.count(self.home)))
        self.home = ranges.minus(self.home, again)
        grown = units_count - ranges.count(again)
        fresh = ranges.plus(again, [(self.end, self.end + grown)] if grown else [])
        self.end += grown
        self.free = ranges.plus(self.free, fresh)
        return fresh

    def withdraw(self, units_count: int) -> ranges.Ranges:
        """FREE -> HOME for up to so many units, the highest: new grants come from below."""
        taken = ranges.highest(self.free, min(units_count, ranges.count(self.free)))
        self.free = ranges.minus(self.free, taken)
        self._come_home(taken)
        return taken

    def reclaim(self, id: int, units_count: int, deadline: float) -> ranges.Ranges:
        """FREE -> HOME at once, and an open reclaim for the others. The caller has checked."""
        taken = self.withdraw(units_count)
        left = units_count - ranges.count(taken)
        if left:
            self.reclaims.append(OpenReclaim(id, units_count, left, deadline))
            self.reclaims.sort(key=lambda reclaim: (reclaim.deadline, reclaim.id))
        return taken

    def take(self, units_count: int) -> ranges.Ranges:
        """FREE -> GRANTED. The caller has checked that there are as many and no reclaim is open."""
        taken = ranges.take(self.free, units_count)
        self.free = ranges.minus(self.free, taken)
        return taken

    def give_back(self, units: ranges.Ranges) -> ranges.Ranges:
        """GRANTED -> HOME as far as reclaims want units, then -> FREE; those that came home."""
        wanted = min(self.owed_count, ranges.count(units))
        taken = ranges.highest(units, wanted)
        self.free = ranges.plus(self.free, ranges.minus(units, taken))
        self._come_home(taken)
        for reclaim in self.reclaims:
            part = min(reclaim.left_count, wanted)
            reclaim.left_count -= part
            wanted -= part
        self._close_complete()
        return taken

    def fence(self, units: ranges.Ranges) -> None:
        """GRANTED -> FENCED."""
        self.fenced = ranges.plus(self.fenced, units)

    def scrub(self, units: ranges.Ranges) -> ranges.Ranges:
        """FENCED -> HOME or FREE, as `give_back`. Raises UnitsError for a unit not FENCED."""
        if not ranges.holds(self.fenced, units):
            raise errors.UnitsError(
                f"units {text(units)} are not all fenced: expected some of {text(self.fenced)}"
            )
        self.fenced = ranges.minus(self.fenced, units)
        return self.give_back(units)

    def check_integrity(self, granted: list[ranges.Ranges]) -> None:
        """L1, L4, L5 of this lease; `granted`: the units of each grant. Raises InternalError."""
        try:
            known = ranges.plus(ranges.plus(self.home, self.free), self.fenced)
            for units in granted:
                known = ranges.plus(known, units)
        except errors.UnitsError as error:
            raise errors.InternalError(f"L1: a unit is in two states: {error}") from error
        if known != ranges.of([(0, self.end)] if self.end else []):
            raise errors.InternalError(f"L1: of {self.end} units only {text(known)} are known")
        if self.home and self.home[-1].end == self.end:
            raise errors.InternalError(f"L1: home units {text(self.home)} end at {self.end}")
        if self.reclaims and self.free:
            raise errors.InternalError(f"L4: {text(self.free)} are FREE and a reclaim is open")
        order = [(reclaim.deadline, reclaim.id) for reclaim in self.reclaims]
        wrong = [r for r in self.reclaims if not 0 < r.left_count <= r.units_count]
        if order != sorted(order) or wrong or self.owed_count > self.lent_count:
            raise errors.InternalError(f"L5: {self.reclaims} with {self.lent_count} units lent")

    def snapshot(self) -> dict[str, Any]:
        """Plain values."""
        sets = {name: [list(pair) for pair in getattr(self, name)] for name in _SETS}
        reclaims = [
            {
                "id": reclaim.id,
                "units_count": reclaim.units_count,
                "left_count": reclaim.left_count,
                "deadline": reclaim.deadline,
                "reported": reclaim.reported,
            }
            for reclaim in self.reclaims
        ]
        return {"end": self.end, **sets, "reclaims": reclaims}

    @classmethod
    def restore(cls, plain: dict[str, Any]) -> LentUnits:
        """The lease of which `plain` is the snapshot."""
        lease = cls()
        lease.end = plain["end"]
        for name in _SETS:
            setattr(lease, name, ranges.of(plain[name]))
        lease.reclaims = [OpenReclaim(**reclaim) for reclaim in plain["reclaims"]]
        return lease

    def _come_home(self, units: ranges.Ranges) -> None:
        self.home = ranges.plus(self.home, units)
        if self.home and self.home[-1].end == self.end:  # the index space shrinks again
            self.end = self.home[-1].first
            self.home = self.home[:-1]

    def _close_complete(self) -> None:
        self.reclaims = [reclaim for reclaim in self.reclaims if reclaim.left_count]


_SETS = ("home", "free", "fenced")


def text(units: ranges.Ranges) -> str:
    """Units as errors name them.

    >>> text(ranges.of([(0, 3), (5, 6)])), text(())
    ('0 to 2, 5', 'none')
    """
    parts = [str(a) if b == a + 1 else f"{a} to {b - 1}" for a, b in units]
    return ", ".join(parts) or "none"
