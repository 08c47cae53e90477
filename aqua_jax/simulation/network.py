"""Links that transfers share, and a mover whose copies go over them.

Knows: channels with a bandwidth, routes over several of them, a virtual clock.
Does not know: what a page holds, who lends, policy.

A channel is one direction of one port: a device's NVLink out or in, its PCIe
to the host or from it. A route is what a copy crosses: the lender's link is
one channel of every borrower's route to it, and where a port is slower both
ways at once than in two single ones, both directions cross a third. Transfers under way share
each channel evenly, and each runs as fast as its slowest share; of one mover
from one memory to another they go one at a time, in order, as copies on a
stream do:

    QUEUED --first of its pair, `after` done--> LATENCY --> ON THE ROUTE --> DONE

Rates and what is left are whole numbers, so times are the same on every machine.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types

_NANO = 10**9


@dataclasses.dataclass(slots=True, eq=False)
class Channel:
    """One direction of a port. active: transfers on it now. bytes: carried so far."""

    name: str
    bytes_per_second: int
    active: int = 0
    bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """What a copy crosses. latency_ns: before its first byte; run_ns: for each run but the first.

    A run is a range of neighbouring pages and slots: one copy of the hardware.
    """

    channels: tuple[Channel, ...]
    latency_ns: int
    run_ns: int = 0


class Network:
    """The transfers under way over the channels of one server."""

    def __init__(self, clock: clocks.EventClock) -> None:
        self._clock = clock
        self._active: list[_Transfer] = []
        self._advanced_ns = 0
        self._alarm = 0  # the latest alarm set; older ones find that it is no longer theirs

    def send(self, route: Route, nbytes: int, done: Callable[[], None]) -> None:
        """Puts a transfer on the route now; `done` is called when its last byte has arrived."""
        self._advance()
        for channel in route.channels:
            channel.active += 1
            channel.bytes += nbytes
        self._active.append(_Transfer(route.channels, nbytes * _NANO, done))
        self._set_alarm()

    def copy(self, route: Route, nbytes: int, runs: int, done: Callable[[], None]) -> None:
        """Sends so many bytes, of so many runs, when the route's latency has passed."""
        latency_ns = route.latency_ns + route.run_ns * (runs - 1)
        self._clock.at_ns(self._clock.now_ns + latency_ns, lambda: self.send(route, nbytes, done))

    def _advance(self) -> None:
        """Takes the transfers to the present."""
        passed_ns = self._clock.now_ns - self._advanced_ns
        self._advanced_ns = self._clock.now_ns
        if passed_ns:
            for transfer in self._active:
                transfer.left -= transfer.rate() * passed_ns

    def _set_alarm(self) -> None:
        """For the first that ends as things stand."""
        self._alarm += 1
        if not self._active:
            return
        alarm = self._alarm
        first_ns = min(-(-transfer.left // transfer.rate()) for transfer in self._active)
        self._clock.at_ns(self._clock.now_ns + max(0, first_ns), lambda: self._ring(alarm))

    def _ring(self, alarm: int) -> None:
        if alarm != self._alarm:
            return
        self._advance()
        arrived = [transfer for transfer in self._active if transfer.left <= 0]
        self._active = [transfer for transfer in self._active if transfer.left > 0]
        for transfer in arrived:
            for channel in transfer.channels:
                channel.active -= 1
        self._set_alarm()
        for transfer in arrived:
            transfer.done()


@dataclasses.dataclass(slots=True, eq=False)
class _Transfer:
    channels: tuple[Channel, ...]
    left: int  # bytes times 10**9
    done: Callable[[], None]

    def rate(self) -> int:
        """Bytes a second: the least of its shares."""
        return min([channel.bytes_per_second // channel.active for channel in self.channels])


@dataclasses.dataclass(slots=True, eq=False)
class _Copy:
    ticket: tickets.Ticket
    after: tickets.Ticket | None
    bytes: int
    runs: int
    started: bool = False


class SimulatedMover:
    """Copies of one engine over a network; nothing is moved but time.

    routes: (source space, target space) -> Route. To be polled after `after` is done, as the
    engine does: a copy starts then.
    """

    def __init__(
        self,
        clock: clocks.EventClock,
        network: Network,
        *,
        routes: Mapping[tuple[int, int], Route],
        page_bytes: int,
    ) -> None:
        self._clock = clock
        self._network = network
        self._routes = dict(routes)
        self._page_bytes = page_bytes
        self._queues: dict[tuple[int, int], collections.deque[_Copy]] = {}
        self._completions: list[types.Completion] = []

    def add_routes(self, routes: Mapping[tuple[int, int], Route]) -> None:
        """More of them, or others for spaces that nothing is copied from or to now."""
        self._routes.update(routes)

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """Queues a copy behind those between the same memories."""
        pair, _ = find_route(self._routes, moves)
        ticket = tickets.Ticket("copy", started_at=self._clock.now())
        copy = _Copy(ticket, after, len(moves) * self._page_bytes, count_runs(moves))
        self._queues.setdefault(pair, collections.deque()).append(copy)
        self._start(pair)
        return ticket

    def poll(self) -> list[types.Completion]:
        """Completions since the last call; starts what has become free to start."""
        for pair in self._queues:
            self._start(pair)
        completions, self._completions = self._completions, []
        return completions

    def rebuild(self) -> None:
        """There is nothing to lose."""

    def close(self) -> None:
        """Nothing to release."""

    def _start(self, pair: tuple[int, int]) -> None:
        queue = self._queues[pair]
        if not queue or queue[0].started:
            return
        first, route = queue[0], self._routes[pair]
        if first.after is not None and not first.after.done():
            return
        first.started = True
        self._network.copy(route, first.bytes, first.runs, lambda: self._arrive(pair))

    def _arrive(self, pair: tuple[int, int]) -> None:
        copy, now = self._queues[pair].popleft(), self._clock.now()
        copy.ticket.complete(at=now)
        self._clock.completed()
        seconds = now - copy.ticket.started_at
        self._completions.append(types.Completion(copy.ticket.id, copy.bytes, seconds))
        self._start(pair)


def find_route(
    routes: Mapping[tuple[int, int], Route], moves: Sequence[types.Move]
) -> tuple[tuple[int, int], Route]:
    """The spaces that the moves are between, and their route. Raises MoveError without one."""
    if not moves:
        raise errors.MoveError("refused an empty plan: expected at least one move")
    pair = moves[0].source.space, moves[0].target.space
    if pair not in routes:
        raise errors.MoveError(
            f"refused: no route from space {pair[0]} to {pair[1]} (known: {list(routes)})"
        )
    return pair, routes[pair]


def count_runs(moves: Sequence[types.Move]) -> int:
    """Ranges of pages that are neighbours on both sides."""
    runs, before = 1, moves[0]
    for move in moves[1:]:
        runs += (
            move.source.index != before.source.index + 1
            or move.target.index != before.target.index + 1
        )
        before = move
    return runs
