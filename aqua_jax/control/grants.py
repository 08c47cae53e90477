"""One grant as its borrower has it: the units of a lease that are the slots of a tier.

Knows: which units are vacated, called, released, and by when they ought to be.
Does not know: the ledger and its messages (`borrowing.py`), how pages leave.

    a unit   HELD --called or given back--> LEAVING --every slot RETIRED--> VACATED --> RELEASED
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from aqua_jax.control import lease_types, ranges, spare


class Arenas(Protocol):
    """Maps granted memory where a mover reaches it. In a simulation there is nothing to do."""

    def open(self, grant: lease_types.Grant, space: int) -> None:
        """The grant's units are the slots of `space`, in their order."""
        ...

    def scrub(self, space: int, slots: range) -> None:
        """The slots are zeroed when it returns. Nothing is in flight there."""
        ...

    def close(self, space: int) -> None:
        """The space ends; what is still in flight there may complete before memory is unmapped."""
        ...


class NoArenas:
    """Where a space needs no more than its number."""

    def open(self, grant: lease_types.Grant, space: int) -> None:
        """Nothing to map."""

    def scrub(self, space: int, slots: range) -> None:
        """Nothing to zero."""

    def close(self, space: int) -> None:
        """Nothing to unmap."""


class Reclaimed(NamedTuple):
    """A lender had called units of a grant back: when the last of them was released."""

    generation: int
    lender: str
    deadline: float
    released_at: float

    @property
    def met(self) -> bool:
        """True when the deadline was."""
        return self.released_at <= self.deadline


class Held:
    """A grant and its tier, `unit_slots` of which are a unit.

    leaving: units that the tier was told to vacate, over its life. released: those that are the
    ledger's again.
    """

    def __init__(self, grant: lease_types.Grant, tier: spare.Tier) -> None:
        self.grant = grant
        self.tier = tier
        self.leaving = 0
        self.released = 0
        # By number of the tier's unit; None once released.
        self._units: list[int | None] = [
            unit for first, end in grant.units for unit in range(first, end)
        ]
        self._due: dict[float, int] = {}  # deadline -> units to be released by then, over its life

    @property
    def units_count(self) -> int:
        """Units that it has."""
        return len(self._units) - self.released

    def slots(self, number: int) -> range:
        """The slots of the tier's unit `number`."""
        return range(number * self.tier.unit_slots, (number + 1) * self.tier.unit_slots)

    def note_calls(self, calls: Sequence[lease_types.Call]) -> int:
        """What the lender wants now, all of it; returns how many units more must leave for it."""
        due, wanted = {}, self.released
        for call in sorted(calls, key=lambda call: call.deadline):
            wanted += call.units_count
            due[call.deadline] = wanted
        self._due = due  # of one that is not among them the lender wants nothing any more
        return max(0, wanted - self.leaving)

    def vacated(self) -> list[int]:
        """Numbers of units all slots of which have RETIRED and that were not released."""
        pool = self.tier.slots
        if pool.retired_count < (self.released + 1) * self.tier.unit_slots:
            return []
        return [
            number
            for number, unit in enumerate(self._units)
            if unit is not None and all(map(pool.is_retired, self.slots(number)))
        ]

    def named(self, numbers: Sequence[int]) -> ranges.Ranges:
        """These units as the ledger names them."""
        units = (self._units[number] for number in numbers)
        return ranges.of((unit, unit + 1) for unit in units if unit is not None)

    def release(self, units: ranges.Ranges, now: float) -> list[Reclaimed]:
        """VACATED -> RELEASED; the calls that are answered with it."""
        for number, unit in enumerate(self._units):
            if unit is not None and ranges.holds(units, ((unit, unit + 1),)):
                self._units[number] = None
        self.released += ranges.count(units)
        self.leaving = max(self.leaving, self.released)
        answered = sorted(at for at, wanted in self._due.items() if wanted <= self.released)
        for deadline in answered:
            del self._due[deadline]
        generation, lender = self.grant.generation, self.grant.lender
        return [Reclaimed(generation, lender, deadline, now) for deadline in answered]

    def overdue(self, now: float) -> list[float]:
        """Deadlines that have passed and were not met."""
        return sorted(deadline for deadline in self._due if deadline < now)
