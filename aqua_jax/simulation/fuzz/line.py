"""A port to a ledger that loses, repeats and delays messages, and is silent for a while.

Knows: asks and answers on their way. Does not know: what they say.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
from collections.abc import Callable
from typing import Any

from aqua_jax.control import clock as clocks
from aqua_jax.control import lease_line
from aqua_jax.simulation.fuzz import draws


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LineFaults:
    """Rates are of messages, each way; a message takes up to `delay_seconds`."""

    seed: int = 0
    lose: float = 0.0
    repeat: float = 0.0
    delay_seconds: float = 0.0


class BadLine:
    """One client's port. ask_until, answer_until: each way is silent until that second."""

    def __init__(
        self,
        faults: LineFaults,
        clock: clocks.Clock,
        ledger: Callable[[lease_line.Ask], lease_line.Answer],
        counts: collections.Counter[str],
    ) -> None:
        """ledger: what answers an ask that has arrived. clock: the one that messages travel by."""
        self.faults = faults
        self.ask_until = self.answer_until = 0.0
        self._clock = clock
        self._ledger = ledger
        self._counts = counts
        self._draws = draws.Draws(faults.seed, "line")
        self._order = itertools.count()
        self._asks: list[tuple[float, int, lease_line.Ask]] = []
        self._answers: list[tuple[float, int, lease_line.Answer]] = []

    def send(self, ask: lease_line.Ask, now: float) -> None:
        """The asker's `now` is its own; messages travel by the line's clock."""
        self._carry(self._asks, ask, self.ask_until)
        self.deliver()

    def poll(self, now: float) -> list[lease_line.Answer]:
        self.deliver()
        come = []
        while self._answers and self._answers[0][0] <= self._clock.now():
            come.append(heapq.heappop(self._answers)[2])
        return come

    def deliver(self) -> None:
        """Asks that have arrived are answered, though nobody waits for it any more."""
        while self._asks and self._asks[0][0] <= self._clock.now():
            answer = self._ledger(heapq.heappop(self._asks)[2])
            self._counts["refusals"] += answer.error is not None
            self._carry(self._answers, answer, self.answer_until)

    def _carry(self, queue: list[Any], message: Any, silent_until: float) -> None:
        """Puts it on its way, or does not."""
        now = self._clock.now()
        copies = 1 + self._draws.chance(self.faults.repeat)
        self._counts["repeated messages"] += copies - 1
        for _ in range(copies):
            if now < silent_until or self._draws.chance(self.faults.lose):
                self._counts["lost messages"] += 1
                continue
            at = now + self._draws.within(0, self.faults.delay_seconds)
            heapq.heappush(queue, (at, next(self._order), message))
            self._clock.at(at, _arrive)  # whoever turns on events finds it there


def _arrive() -> None:
    """A moment at which a message may be taken."""
