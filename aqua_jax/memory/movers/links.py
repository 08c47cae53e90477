"""A mover whose copies take the time that they would take on a named link.

Knows: bandwidth, latency, the clock. Does not know: bytes' real way, devices.

The real copy is made by the inner mover at once. Its ticket is withheld until
the emulated link would have delivered it: one transfer at a time for each
link and direction, first in first out, each `latency + bytes / bandwidth`
seconds long, times the dilation of the run. A transfer starts when it was
submitted, when the link is free and when the dispatch it follows has
completed, whichever is last. A real copy that is slower than its emulated
time is delivered when it is there, and counted in `late`.

        QUEUED --first of its link, `after` done--> ON THE LINK --ends_at reached,
        real copy done--> DELIVERED (a completion of the next poll)
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.memory.movers import base


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """One direction between two spaces, undilated: t = latency + bytes / rate.

    E.g. one NVLink 4 send of an H100: Link(8.9e-6, 370e9).
    """

    latency_seconds: float
    bytes_per_second: float

    def seconds(self, nbytes: int) -> float:
        """Time of one transfer alone on the link."""
        return self.latency_seconds + nbytes / self.bytes_per_second


@dataclasses.dataclass(slots=True, eq=False)
class _Transfer:
    """A submitted plan on its way."""

    ticket: tickets.Ticket
    copy: tickets.Ticket  # the inner mover's
    after: tickets.Ticket | None
    bytes: int
    seconds: float  # on the link, dilated
    track: tuple[str, str]
    pages: int
    ends_at: float | None = None  # None while QUEUED
    landed: types.Completion | None = None  # of the real copy


@dataclasses.dataclass(slots=True)
class _Queue:
    """The transfers of one link and when it is free (clock seconds)."""

    link: Link
    transfers: collections.deque[_Transfer] = dataclasses.field(default_factory=collections.deque)
    free_at: float = 0.0


class LinkedMover:
    """Delivers completions at emulated times.

    links: (source space, target space) -> Link. tiers: space -> tier name,
    nearest first. dilation: clock seconds for one emulated second.
    on_span, if given, is told every transfer's time on the link.
    """

    def __init__(
        self,
        inner: base.PageMover,
        clock: clocks.Clock,
        *,
        links: Mapping[tuple[int, int], Link],
        tiers: Mapping[int, str],
        dilation: float = 1.0,
        on_span: base.SpanSink | None = None,
    ) -> None:
        if not dilation > 0:
            raise errors.ConfigError(f"dilation is {dilation}: expected more than 0")
        self._inner = inner
        self._clock = clock
        self._queues = {pair: _Queue(link) for pair, link in links.items()}
        self._tracks = base.Tracks(tiers)
        for source, target in links:
            self._tracks.name(source, target)  # an unnamed space is refused now
        self._dilation = dilation
        self._on_span = on_span
        self._copying: dict[int, _Transfer] = {}
        self._completions: list[types.Completion] = []
        self.late = 0  # transfers whose real copy took longer than the emulated one
        self.count = 0  # transfers delivered

    def check(self, moves: Sequence[types.Move]) -> int:
        """As the inner mover's; also raises MoveError where no link is."""
        self._queue(moves)
        return self._inner.check(moves)

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """Starts the real copy and queues the emulated one."""
        nbytes = self.check(moves)
        queue = self._queue(moves)
        track = self._tracks.name(*_pair(moves))
        ticket = base.new_ticket(self._clock, moves)
        copy = self._inner.submit(moves, after)
        seconds = queue.link.seconds(nbytes) * self._dilation
        transfer = _Transfer(ticket, copy, after, nbytes, seconds, track, len(moves))
        self._copying[copy.id] = transfer
        queue.transfers.append(transfer)
        self._advance()
        return ticket

    def fence(self, space: int) -> tickets.Ticket:
        """As the inner mover's: what holds a program back is the real copy."""
        return self._inner.fence(space)

    def poll(self) -> list[types.Completion]:
        """Completions since the last call, in order of delivery."""
        self._advance()
        completions, self._completions = self._completions, []
        return completions

    def rebuild(self) -> None:
        """As the inner mover's."""
        self._inner.rebuild()

    def close(self) -> None:
        """Waits for the real copies, then delivers everything at once: the emulation is over."""
        self._inner.close()
        self._land()
        for queue in self._queues.values():
            while queue.transfers and queue.transfers[0].landed is not None:
                self._deliver(queue.transfers.popleft(), self._clock.now())

    def _queue(self, moves: Sequence[types.Move]) -> _Queue:
        pair = _pair(moves)
        if pair not in self._queues:
            raise errors.MoveError(
                f"refused: no link from space {pair[0]} to {pair[1]} (known: {list(self._queues)})"
            )
        return self._queues[pair]

    def _advance(self) -> None:
        self._land()
        for queue in self._queues.values():
            while queue.transfers and self._step(queue, queue.transfers[0]):
                queue.transfers.popleft()

    def _land(self) -> None:
        for completion in self._inner.poll():
            self._copying.pop(completion.ticket).landed = completion

    def _step(self, queue: _Queue, first: _Transfer) -> bool:
        """Takes the first transfer of a link as far as time allows; True once delivered."""
        if first.ends_at is None:
            if first.after is not None and not first.after.done():
                return False
            self._put_on_link(queue, first)
        if first.landed is None or self._clock.now() < (first.ends_at or 0.0):
            return False
        self._deliver(first, first.ends_at or 0.0)
        return True

    def _put_on_link(self, queue: _Queue, transfer: _Transfer) -> None:
        follows = 0.0 if transfer.after is None else transfer.after.finished_at or 0.0
        starts_at = max(transfer.ticket.started_at, queue.free_at, follows)
        transfer.ends_at = queue.free_at = starts_at + transfer.seconds
        self._clock.at(transfer.ends_at, self._alarm)

    def _deliver(self, transfer: _Transfer, at: float) -> None:
        landed_at = transfer.copy.finished_at or 0.0
        late = landed_at > at
        self.late += late
        self.count += 1
        error = transfer.landed.error if transfer.landed is not None else None
        finished_at = max(at, landed_at)
        completion = base.settle(transfer.ticket, transfer.bytes, at=finished_at, error=error)
        self._completions.append(completion)
        if self._on_span is not None:
            args: base.SpanArgs = {
                "pages": transfer.pages,
                "bytes": transfer.bytes,
                "late": int(late),
            }
            self._on_span(*transfer.track, at - transfer.seconds, at, args)

    def _alarm(self) -> None:
        """Runs inside `clock.wait` when a transfer is due: its ticket must not wait for a poll."""
        self._advance()
        self._clock.wake()


def _pair(moves: Sequence[types.Move]) -> tuple[int, int]:
    if not moves:
        raise errors.MoveError("refused an empty plan: expected at least one move")
    return moves[0].source.space, moves[0].target.space
