"""A mover that tells when every copy started and ended, for the timeline.

Knows: tickets' times, tier names. Does not know: bytes' ways, trace formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets, types
from aqua_jax.memory.movers import base


class LoggedMover:
    """Calls `on_span(track, name, start_seconds, end_seconds, args)` for every completion.

    tiers: space -> tier name, nearest first; names tracks and tells out from in.
    args: pages, bytes, and error where there was one. Called in `poll`.
    """

    def __init__(
        self,
        inner: base.PageMover,
        clock: clocks.Clock,
        *,
        tiers: Mapping[int, str],
        on_span: base.SpanSink,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._tracks = base.Tracks(tiers)
        self._on_span = on_span
        self._open: dict[int, tuple[tickets.Ticket, str, str, int]] = {}

    def check(self, moves: Sequence[types.Move]) -> int:
        """As the inner mover's."""
        return self._inner.check(moves)

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """As the inner mover's."""
        self._inner.check(moves)
        track, name = self._tracks.name(moves[0].source.space, moves[0].target.space)
        ticket = self._inner.submit(moves, after)
        self._open[ticket.id] = ticket, track, name, len(moves)
        return ticket

    def fence(self, space: int) -> tickets.Ticket:
        """As the inner mover's."""
        return self._inner.fence(space)

    def poll(self) -> list[types.Completion]:
        """As the inner mover's; tells a span of each."""
        completions = self._inner.poll()
        for completion in completions:
            self._tell(completion)
        return completions

    def rebuild(self) -> None:
        """As the inner mover's."""
        self._inner.rebuild()

    def close(self) -> None:
        """As the inner mover's."""
        self._inner.close()

    def _tell(self, completion: types.Completion) -> None:
        ticket, track, name, pages = self._open.pop(completion.ticket)
        args: base.SpanArgs = {"pages": pages, "bytes": completion.bytes}
        if completion.error is not None:
            args["error"] = str(completion.error)
        ended_at = self._clock.now() if ticket.finished_at is None else ticket.finished_at
        self._on_span(track, name, ticket.started_at, ended_at, args)
