"""Copies that hold the device: paging without overlap, as an ablation.

Knows: the stream that slices run on, a network. Does not know: policy, pages.

Slices and copies of one engine share one stream and run one at a time, in the
order in which the engine submitted them: a slice waits for the copies before
it, whether it needs them or not, and a copy for the slice before it. That is
how a system pages which copies on the stream that computes, or waits for its
copies between iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets, types
from aqua_jax.simulation import network, streams


class InLineMover:
    """A mover whose copies take their turn in `stream`, which it shares with a runner.

    routes: as of `network.SimulatedMover`.
    """

    def __init__(
        self,
        clock: clocks.EventClock,
        over: network.Network,
        *,
        stream: streams.Stream,
        routes: Mapping[tuple[int, int], network.Route],
        page_bytes: int,
    ) -> None:
        self._clock = clock
        self._network = over
        self._stream = stream
        self._routes = dict(routes)
        self._page_bytes = page_bytes
        self._completions: list[types.Completion] = []

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """Queues a copy in the stream; the slice `after` which it is to run is there already."""
        _, route = network.find_route(self._routes, moves)
        nbytes, runs = len(moves) * self._page_bytes, network.count_runs(moves)
        ticket = tickets.Ticket("copy", started_at=self._clock.now())

        def start(done: Callable[[], None]) -> None:
            def arrive() -> None:
                self._arrive(ticket, nbytes)
                done()

            self._network.copy(route, nbytes, runs, arrive)

        self._stream.submit(start)
        return ticket

    def poll(self) -> list[types.Completion]:
        """Completions since the last call."""
        completions, self._completions = self._completions, []
        return completions

    def rebuild(self) -> None:
        """There is nothing to lose."""

    def close(self) -> None:
        """Nothing to release."""

    def _arrive(self, ticket: tickets.Ticket, nbytes: int) -> None:
        now = self._clock.now()
        ticket.complete(at=now)
        self._clock.completed()
        self._completions.append(types.Completion(ticket.id, nbytes, now - ticket.started_at))
