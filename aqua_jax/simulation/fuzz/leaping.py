"""A clock of one process on a shared virtual clock: it may leap forward.

Knows: how far it is ahead. Does not know: who reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets


class LeapingClock:
    """Ahead of `clock` by all its leaps. What was to happen in the meantime happens late."""

    def __init__(self, clock: clocks.Clock) -> None:
        self._clock = clock
        self._ahead_seconds = 0.0

    def leap(self, seconds: float) -> None:
        """`now` is so much later at once."""
        self._ahead_seconds += seconds

    def to_shared(self, when: float) -> float:
        """The shared clock's second of this clock's."""
        return when - self._ahead_seconds

    def now(self) -> float:
        return self._clock.now() + self._ahead_seconds

    def wait(self, pending: Sequence[tickets.Ticket], until: float) -> list[tickets.Ticket]:
        return self._clock.wait(pending, self.to_shared(until))

    def wake(self) -> None:
        self._clock.wake()

    def at(self, when: float, callback: Callable[[], None]) -> None:
        self._clock.at(self.to_shared(when), callback)
