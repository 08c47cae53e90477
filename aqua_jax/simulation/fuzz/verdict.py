"""What a run may break, and what it has met.

Knows: promises and counts. Does not know: who made them.
"""

from __future__ import annotations

import collections
import dataclasses

from aqua_jax.control import errors


class BrokenPromiseError(errors.InternalError):
    """Something that must hold under any schedule and any fault did not."""


class WrongTokensError(BrokenPromiseError):
    """A client got tokens that an undisturbed run does not emit."""


def promise(kept: bool, otherwise: str) -> None:
    """Raises BrokenPromiseError that says `otherwise`."""
    if not kept:
        raise BrokenPromiseError(otherwise)


@dataclasses.dataclass(slots=True)
class Report:
    """What a run reached: counts by name, to show that the rare cases were met."""

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    seconds: float = 0.0

    def add(self, other: Report) -> None:
        """Adds another run's counts."""
        self.counts.update(other.counts)
        self.seconds += other.seconds
