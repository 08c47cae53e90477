"""A runner whose slices take the time that they would take on a named device.

Knows: the protocol of runners, a clock, seconds for steps and prefill. Does
not know: policy, jax. The real slice runs at once; its ticket is withheld until
its emulated time has passed. A slice whose real run took longer is counted
late: above 1 % late slices the run says nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets, types
from aqua_jax.engine import protocols
from aqua_jax.experiments import away_reads

_RETRY_SECONDS = 0.0005


@dataclasses.dataclass(frozen=True, slots=True)
class StepCost:
    """Undilated seconds.

    step: of one decode step. step_unit: more for each unit of context attended
    in it. prefill_unit: of one prefill row. away_page: more for each time that a page
    attended in place crosses its link, by its space; nothing hides it. reads: how often it
    does, which for prefill is a bound (`away_reads.py`).
    """

    step: float
    step_unit: float
    prefill_unit: float
    away_page: Mapping[int, float] = dataclasses.field(default_factory=dict)
    reads: away_reads.AwayReads = dataclasses.field(default_factory=away_reads.AwayReads)

    def seconds(self, batch: types.Batch) -> float:
        """The slice's time: memory-bound steps and compute-bound prefill."""
        context = sum(plan.first + plan.prefill for plan in batch.lanes if plan.steps)
        steps = batch.steps * (self.step + self.step_unit * context)
        return steps + self.prefill_unit * batch.prefill_units + self._away_seconds(batch)

    def _away_seconds(self, batch: types.Batch) -> float:
        if not self.away_page:
            return 0.0
        reads = self.reads.count(batch).items()
        return sum(count * self.away_page.get(space, 0.0) for space, count in reads)


def emulate(
    runner: protocols.Runner, clock: clocks.MonotonicClock, cost: StepCost, *, dilation: float
) -> EmulatedRunner:
    """Wraps `runner`; `dilation` clock seconds pass for one emulated second."""
    return EmulatedRunner(runner, clock, lambda batch: cost.seconds(batch) * dilation)


class EmulatedRunner:
    """See the module's text. slices, late: counts over its life."""

    def __init__(
        self,
        inner: protocols.Runner,
        clock: clocks.MonotonicClock,
        seconds: Callable[[types.Batch], float],
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._seconds = seconds
        self._free_at = 0.0
        self._inner_tickets: dict[int, tickets.Ticket] = {}
        self.kind = inner.kind
        self.space = inner.space
        self.pages = inner.pages
        self.page_bytes = inner.page_bytes
        self.lanes = inner.lanes
        self.chunk_units = inner.chunk_units
        self.steps_max = inner.steps_max
        self.units_max = inner.units_max
        self.check = inner.check
        self.pages_needed = inner.pages_needed
        self.units_in_page = inner.units_in_page
        self.page_keys = inner.page_keys
        self.rebuild = inner.rebuild
        self.close = inner.close
        self.slices = 0
        self.late = 0

    def dispatch(self, batch: types.Batch) -> tickets.Ticket:
        """Starts the real slice; the ticket is done when its emulated time has passed too."""
        real = self._inner.dispatch(batch)
        now = self._clock.now()
        self._free_at = max(self._free_at, now) + self._seconds(batch)
        ticket = tickets.Ticket(real.label, started_at=now)
        self._inner_tickets[ticket.id] = real
        self.slices += 1
        self._clock.at(self._free_at, lambda: self._complete(ticket, real, late=False))
        return ticket

    def collect(self, ticket: tickets.Ticket) -> list[types.Outcome]:
        """The real slice's outcomes."""
        ticket.result()
        return self._inner.collect(self._inner_tickets.pop(ticket.id))

    def _complete(self, ticket: tickets.Ticket, real: tickets.Ticket, *, late: bool) -> None:
        if real.done():
            self.late += late
            ticket.complete(at=self._clock.now())
        else:
            again = self._clock.now() + _RETRY_SECONDS
            self._free_at = max(self._free_at, again)
            self._clock.at(again, lambda: self._complete(ticket, real, late=True))
