"""The host's own time in a simulated engine: decisions, dispatches and reading are not free.

Knows: virtual time, runners and movers by their protocols. Does not know: what
a decision is. On a virtual clock the engine decides in no time; the runner and the
mover here let the time pass that a real host needs. Devices and links go on
meanwhile, and the engine takes in what they did when the host is free again.
"""

from __future__ import annotations

from collections.abc import Sequence

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets, types
from aqua_jax.engine import protocols
from aqua_jax.simulation import profile


class HostRunner:
    """A runner whose host needs time to dispatch a slice and to read one.

    last: the ticket of the latest slice; None before the first.
    """

    def __init__(
        self,
        inner: protocols.Runner,
        clock: clocks.VirtualClock,
        overhead: profile.Overhead,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._overhead = overhead
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
        self.last: tickets.Ticket | None = None

    def dispatch(self, batch: types.Batch) -> tickets.Ticket:
        """Starts the slice after the time that deciding and dispatching take."""
        spend(self._clock, self._overhead.dispatch_ns)
        self.last = self._inner.dispatch(batch)
        return self.last

    def collect(self, ticket: tickets.Ticket) -> list[types.Outcome]:
        """The slice's outcomes, after the time that reading them takes."""
        spend(self._clock, self._overhead.read_ns)
        return self._inner.collect(ticket)


class HostMover:
    """A mover whose host needs time to submit a copy, which runs behind the latest slice.

    As those of real devices do, in either direction: a copy's place in the order of programs
    is that of its submission.
    """

    def __init__(
        self,
        inner: protocols.Mover,
        clock: clocks.VirtualClock,
        overhead: profile.Overhead,
        *,
        behind: HostRunner,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._overhead = overhead
        self._behind = behind
        self.poll = inner.poll
        self.rebuild = inner.rebuild
        self.close = inner.close

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """Queues the copy behind the latest slice, of which `after` can only be an earlier one."""
        ticket = self._inner.submit(moves, self._behind.last)
        spend(self._clock, self._overhead.copy_ns)  # a copy's time counts from here too
        return ticket


def spend(clock: clocks.VirtualClock, duration_ns: int) -> None:
    """Lets so much time pass, and what is due in it happen."""
    until_ns = clock.now_ns + duration_ns
    clock.at_ns(until_ns, _do_nothing)  # time stops at events alone
    while clock.now_ns < until_ns:
        clock.run_next(until_ns)


def _do_nothing() -> None:
    """Something that happens."""
