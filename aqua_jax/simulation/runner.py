"""A runner whose slices take the time that a cost model says and compute nothing else.

Knows: the protocol of runners, counts of units, nanoseconds that a slice
takes, of a virtual clock. Does not know: what a page holds, hardware, jax.
Every session runs to its full length; its token at a position is a hash of
its seed and that position, so that a digest over the tokens tells of one that
was dropped, doubled or given to another. What a page holds is simulated by
`toy.py`, which is for finding faults; this is for time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.simulation import streams

SliceNanoseconds = Callable[[types.Batch], int]

_WORD = (1 << 64) - 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a simulated runner, as in `engine.protocols.Runner`; a page has `page_units`."""

    pages: int
    page_units: int
    page_bytes: int
    lanes: int
    chunk_units: int
    steps_max: int
    units_max: int


class Prompt(NamedTuple):
    """A prompt that begins with blocks which others may have, of `block_units` units each.

    blocks: ids; equal ids, equal units. What is behind them is the request's own.
    """

    seed: int
    blocks: tuple[int, ...]
    block_units: int


def request(
    prompt_units: int, steps_max: int, *, seed: int = 0, kind: str = "simulated", **fields: Any
) -> types.Request:
    """A request for the simulated runner; `fields` go to `types.Request`.

    Without a `payload`, which is a `Prompt`, its prompt is its own.
    """
    fields.setdefault("payload", Prompt(seed, (), 1))
    return types.Request(kind=kind, prompt_units=prompt_units, steps_max=steps_max, **fields)


def tokens(seed: int, first: int, count: int) -> list[int]:
    """The tokens, each of 31 bits, at positions `first`, `first + 1`, ... of a session.

    >>> tokens(7, 100, 3) == tokens(7, 100, 1) + tokens(7, 101, 2)
    True
    """
    start = seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019
    states = [
        (start + position * 0xD1342543DE82EF95) & _WORD for position in range(first, first + count)
    ]
    return [((state ^ (state >> 29)) * 0xBF58476D1CE4E5B9 & _WORD) >> 33 for state in states]


class SimulatedRunner:
    """Slices that take `nanoseconds(batch)`, one after the other; page 0 is scratch.

    stream: what else the device does in turn with them (`in_line.py`); default slices alone.
    """

    def __init__(
        self,
        clock: clocks.EventClock,
        shape: Shape,
        nanoseconds: SliceNanoseconds,
        *,
        space: int = 0,
        kind: str = "simulated",
        stream: streams.Stream | None = None,
    ) -> None:
        self.kind = kind
        self.space = space
        self.pages = shape.pages
        self.page_bytes = shape.page_bytes
        self.lanes = shape.lanes
        self.chunk_units = shape.chunk_units
        self.steps_max = shape.steps_max
        self.units_max = shape.units_max
        self.busy_ns = 0  # in all slices so far, those in flight included
        self.held_ns = 0  # in which the device did what else is in its stream and a slice waited
        self._clock = clock
        self._page_units = shape.page_units
        self._nanoseconds = nanoseconds
        self._stream = stream or streams.Stream()
        self._ended_ns = 0  # the latest slice that has
        self._known: list[int] = [0] * shape.lanes  # units known to the device's lane

    def check(self, request: types.Request) -> None:
        """Raises RequestError for a payload that is no prompt."""
        if not isinstance(request.payload, Prompt):
            raise errors.RequestError(
                f"payload {request.payload!r}: expected a Prompt; use simulation.runner.request"
            )

    def pages_needed(self, request: types.Request, units: int) -> int:
        return -(-units // self._page_units)

    def units_in_page(self, request: types.Request, index: int, units: int) -> int:
        return max(0, min(units - index * self._page_units, self._page_units))

    def page_keys(self, session: types.Session, first: int, end: int) -> list[int]:
        """Hashes over the ids of the blocks that reach into each page and those before it.

        What is behind the last block, and what was emitted, is the seed's.
        """
        prompt: Prompt = session.request.payload
        key = session.page_keys[first - 1] if first else _mix(*session.salt.encode())
        keys = []
        for page in range(first, end):
            begin, until = page * self._page_units, (page + 1) * self._page_units
            last = -(-until // prompt.block_units)
            of_page = prompt.blocks[begin // prompt.block_units : last]
            is_own = last > len(prompt.blocks) or until > session.request.prompt_units
            key = _mix(key, *of_page, *((-1, prompt.seed) if is_own else ()))
            keys.append(key)
        return keys

    def dispatch(self, batch: types.Batch) -> tickets.Ticket:
        """Starts a slice behind those in flight."""
        outcomes = [self._run(plan) for plan in batch.lanes]
        ticket = tickets.Ticket("slice", started_at=self._clock.now())
        slice_ns, dispatched_ns = self._nanoseconds(batch), self._clock.now_ns
        self.busy_ns += slice_ns

        def start(done: Callable[[], None]) -> None:
            def end() -> None:
                self._ended_ns = self._clock.now_ns
                ticket.complete(outcomes, at=self._clock.now())
                self._clock.completed()
                done()

            self.held_ns += self._clock.now_ns - max(dispatched_ns, self._ended_ns)
            self._clock.at_ns(self._clock.now_ns + slice_ns, end)

        self._stream.submit(start)
        return ticket

    def collect(self, ticket: tickets.Ticket) -> list[types.Outcome]:
        return ticket.result()

    def rebuild(self) -> None:
        """Nothing is kept that could be lost."""

    def close(self) -> None:
        """Nothing to release."""

    def _run(self, plan: types.LanePlan) -> types.Outcome:
        session = plan.session
        if plan.joins:
            self._known[plan.lane] = session.known
        known = self._known[plan.lane]
        emitted = plan.steps + (plan.prefill > 0 and plan.first + plan.prefill == known)
        self._known[plan.lane] = known + emitted
        finished = "length" if known + emitted == session.units_end else ""
        made = tokens(session.request.payload.seed, known, emitted) if emitted else ()
        return types.Outcome(session.id, made, finished, plan.prefill, plan.steps)


def _mix(*values: int) -> int:
    state = _WORD
    for value in values:
        state = ((state ^ (value & _WORD)) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & _WORD
        state ^= state >> 29
    return state
