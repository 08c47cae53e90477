"""A toy runner and a toy mover on a virtual clock, with real bytes to get wrong.

Public test tools. Knows: pages as lists of ints, virtual seconds. Does not
know: jax. The toy "model" reads every cached unit of a session out of its
pages, on the device or attended away, to make the next token, so a page that
was reused, overwritten or lost changes the tokens; `expected_tokens` says what
an undisturbed run gives.

Both are as hostile as the protocols allow. A slice garbles the units it will
write when it is dispatched and writes them when it completes; a copy garbles
its target when submitted, reads its source as late as possible, and writes
when it completes. So whoever touches a page too early or too late is seen.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types

_GARBAGE = -1
_MASK = (1 << 61) - 1


def mix(*values: int) -> int:
    """A small integer hash: the same on every machine."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = ((state ^ (value & _MASK)) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (
            (1 << 64) - 1
        )
        state ^= state >> 29
    return state


@dataclasses.dataclass(frozen=True, slots=True)
class ToyPayload:
    """prompt: the tokens known at the start. stop_modulus: a token divisible by it is the last."""

    prompt: tuple[int, ...]
    stop_modulus: int = 0


def request(
    prompt: Sequence[int], steps_max: int, *, stop_modulus: int = 0, **fields: Any
) -> types.Request:
    """A request for the toy runner; `fields` go to `types.Request`."""
    payload = ToyPayload(tuple(prompt), stop_modulus)
    return types.Request(
        kind="toy", prompt_units=len(prompt), steps_max=steps_max, payload=payload, **fields
    )


def expected_tokens(request: types.Request) -> list[int]:
    """What any schedule must emit for the request."""
    payload: ToyPayload = request.payload
    state = 0
    for token in payload.prompt:
        state = mix(state, token)
    emitted: list[int] = []
    while len(emitted) < request.steps_max:
        token = _token(state)
        emitted.append(token)
        if payload.stop_modulus and token % payload.stop_modulus == 0:
            break
        state = mix(state, token)
    return emitted


class ToyMemory:
    """Pages of every space as lists of unit values. `spaces`: space id -> number of pages."""

    def __init__(self, spaces: dict[int, int], page_units: int) -> None:
        self.page_units = page_units
        self.pages = {
            space: [[_GARBAGE] * page_units for _ in range(count)]
            for space, count in spaces.items()
        }

    def add(self, space: int, count: int) -> None:
        """Memory that was lent: garbage."""
        self.pages[space] = [[_GARBAGE] * self.page_units for _ in range(count)]

    def detach(self) -> None:
        """Its process is gone: what others have mapped of it stays, without it."""
        for space, pages in list(self.pages.items()):
            self.add(space, len(pages))

    def garble(self, space: int, page: int | None = None) -> None:
        """Its lender uses one page of it for other things, or is gone with all of it."""
        for units in self.pages[space] if page is None else [self.pages[space][page]]:
            units[:] = [_GARBAGE] * self.page_units

    def garble_all(self, pages: list[list[int]]) -> None:
        """The same for pages, of whatever space."""
        for units in pages:
            units[:] = [_GARBAGE] * self.page_units


@dataclasses.dataclass(slots=True)
class _Lane:
    session: int
    token: int
    position: int
    left: int


class ToyRunner:
    """Runs toy sessions in dispatch order: seconds for each prefill program and each step.

    fail_at: dispatch numbers (from 1) whose collection raises; the pool is void then.
    device: the clock by which slices run; default `clock`, which stamps what they end at.
    """

    kind = "toy"

    # Eleven arguments: each is a knob that some test turns.
    def __init__(  # noqa: PLR0913
        self,
        memory: ToyMemory,
        clock: clocks.Clock,
        *,
        space: int = 0,
        lanes: int = 4,
        chunk_units: int = 8,
        steps_max: int = 4,
        units_max: int = 1 << 20,
        chunk_seconds: float = 0.002,
        step_seconds: float = 0.001,
        fail_at: frozenset[int] = frozenset(),
        device: clocks.Clock | None = None,
    ) -> None:
        self.space = space
        self.pages = len(memory.pages[space])
        self.page_bytes = memory.page_units * 8
        self.lanes = lanes
        self.chunk_units = chunk_units
        self.steps_max = steps_max
        self.units_max = units_max
        self._memory = memory
        self._clock = clock
        self._device = device or clock
        self._seconds = (chunk_seconds, step_seconds)
        self._fail_at = fail_at
        self._dispatches = 0
        self._busy_until = 0.0
        self._lane_state: dict[int, _Lane] = {}
        self._void = False  # a slice failed: those queued behind it fail too

    def check(self, request: types.Request) -> None:
        """Raises RequestError for a payload that is not a toy's."""
        if not isinstance(request.payload, ToyPayload):
            raise errors.RequestError(f"payload {request.payload!r}; use simulation.toy.request")

    def pages_needed(self, request: types.Request, units: int) -> int:
        """Pages for `units` units."""
        return -(-units // self._memory.page_units)

    def units_in_page(self, request: types.Request, index: int, units: int) -> int:
        """Units of page `index` that hold data."""
        return max(0, min(units - index * self._memory.page_units, self._memory.page_units))

    def page_keys(self, session: types.Session, first: int, end: int) -> list[int]:
        """Hashes over salt and tokens up to the end of each full page."""
        size, known = self._memory.page_units, self._known(session)
        key = session.page_keys[first - 1] if first else mix(*session.salt.encode())
        keys = []
        for page in range(first, end):
            key = mix(key, *known[page * size : (page + 1) * size])
            keys.append(key)
        return keys

    def dispatch(self, batch: types.Batch) -> tickets.Ticket:
        """Starts a slice behind those in flight."""
        self._dispatches += 1
        number = self._dispatches
        for plan in batch.lanes:
            self._garble(plan)
        # What the device would read of the host's state, taken now as a real runner packs it.
        known = {p.session.id: self._known(p.session) for p in batch.lanes if p.joins or p.prefill}
        chunks = -(-batch.prefill_units // self.chunk_units)
        seconds = chunks * self._seconds[0] + batch.steps * self._seconds[1]
        self._busy_until = max(self._busy_until, self._device.now()) + seconds
        ticket = tickets.Ticket(f"slice {number}")
        plans = [plan._replace(pages=list(plan.pages)) for plan in batch.lanes]

        def complete() -> None:
            self._void |= number in self._fail_at
            if self._void:
                ticket.fail(RuntimeError(f"slice {number} failed on purpose"), at=self._clock.now())
            else:
                outcomes = [self._run(plan, known.get(plan.session.id)) for plan in plans]
                ticket.complete(outcomes, at=self._clock.now())

        self._device.at(self._busy_until, complete)
        return ticket

    def collect(self, ticket: tickets.Ticket) -> list[types.Outcome]:
        """The outcomes; raises what the slice raised."""
        return ticket.result()

    def rebuild(self) -> None:
        """A new pool, full of garbage, and no lane state; who borrows pages of the old has them."""
        self._void = False
        self._memory.add(self.space, self.pages)
        self._lane_state.clear()

    def close(self) -> None:
        """Nothing to release."""

    def _garble(self, plan: types.LanePlan) -> None:
        for position in range(plan.first, plan.first + plan.prefill + plan.steps):
            self._write(plan.pages, position, _GARBAGE)

    def _known(self, session: types.Session) -> list[int]:
        return [*session.request.payload.prompt, *session.emitted]

    def _run(self, plan: types.LanePlan, known: list[int] | None) -> types.Outcome:
        request = plan.session.request
        lane = self._lane_state.get(plan.lane)
        if plan.joins:
            assert known is not None
            left = request.prompt_units + request.steps_max - len(known)
            lane = _Lane(plan.session.id, known[-1], plan.first, left)
            self._lane_state[plan.lane] = lane
        if lane is None or lane.session != plan.session.id:
            raise errors.InternalError(
                f"lane {plan.lane} runs session {plan.session.id} without joining"
            )
        if lane.left > 0 and lane.position != plan.first:
            raise errors.InternalError(
                f"session {plan.session.id} stands at {lane.position}, planned from {plan.first}"
            )
        tokens: list[int] = []
        if plan.prefill:
            assert known is not None
            for position in range(plan.first, plan.first + plan.prefill):
                self._write(plan.pages, position, known[position])
            lane.position += plan.prefill
            if lane.position == len(known):
                self._emit(plan, lane, tokens)
        steps = 0
        while steps < plan.steps and lane.left > 0:
            self._write(plan.pages, lane.position, lane.token)
            lane.position += 1
            steps += 1
            self._emit(plan, lane, tokens)
        finished = ""
        if tokens and lane.left <= 0:
            finished = "stop" if lane.left < 0 else "length"
        return types.Outcome(plan.session.id, tokens, finished, plan.prefill, steps)

    def _emit(self, plan: types.LanePlan, lane: _Lane, tokens: list[int]) -> None:
        state = 0
        for position in range(lane.position):
            state = mix(state, self._read(plan.pages, position))
        lane.token = _token(state)
        tokens.append(lane.token)
        lane.left -= 1
        modulus = plan.session.request.payload.stop_modulus
        if modulus and lane.token % modulus == 0:
            lane.left = -1

    def _write(self, pages: Sequence[int], position: int, value: int) -> None:
        index, offset = divmod(position, self._memory.page_units)
        if pages[index] < 0:
            raise errors.InternalError(f"a slice writes to {types.entry_place(pages[index])}")
        self._memory.pages[self.space][pages[index]][offset] = value

    def _read(self, pages: Sequence[int], position: int) -> int:
        index, offset = divmod(position, self._memory.page_units)
        entry = pages[index]
        place = types.Place(self.space, entry) if entry >= 0 else types.entry_place(entry)
        return self._memory.pages[place.space][place.index][offset]


@dataclasses.dataclass(frozen=True, slots=True)
class ToyFaults:
    """Faults of a `ToyMover`, each a rate in 0..1 of its copies, drawn by `seed` and copy number.

    fail: the completion carries an error and the target holds garbage.
    delay: the copy takes up to `delay_factor` times as long, so completions overtake each other.
    refuse: `submit` raises.
    corrupt: a unit arrives changed, and no error tells of it: checksums do.
    """

    seed: int = 0
    fail: float = 0.0
    delay: float = 0.0
    refuse: float = 0.0
    corrupt: float = 0.0
    delay_factor: float = 50.0


class ToyMover:
    """Copies pages of a `ToyMemory`: latency plus a time a page, faults by rate.

    Sums of each page are taken at its source and compared with what arrived, as
    `aqua_jax.memory.movers.verified` does. met: faults by name, and copies in all.
    """

    def __init__(
        self,
        memory: ToyMemory,
        clock: clocks.Clock,
        *,
        latency_seconds: float = 0.0002,
        page_seconds: float = 0.0001,
        faults: ToyFaults | None = None,
        pool_space: int = 0,
    ) -> None:
        self._memory = memory
        self._pool_space = pool_space
        self._clock = clock
        self._seconds = (latency_seconds, page_seconds)
        self._faults = faults or ToyFaults()
        self._copies = 0
        self.met: collections.Counter[str] = collections.Counter()
        self._completed: list[types.Completion] = []

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """Starts a copy once `after` is done."""
        self._copies += 1
        if self._chance(0) < self._faults.refuse:
            self.met["refused"] += 1
            raise errors.MoveError(f"copy {self._copies} refused on purpose")
        seconds = self._seconds[0] + self._seconds[1] * len(moves)
        if self._chance(1) < self._faults.delay:
            self.met["delayed"] += 1
            seconds *= 1 + self._faults.delay_factor * self._chance(2)
        fails = self._chance(3) < self._faults.fail
        corrupts = self._chance(4) < self._faults.corrupt
        self.met["failed"] += fails
        self.met["made"] += 1
        ticket = tickets.Ticket(f"copy {self._copies}")
        for move in moves:
            self._fill(move.target)
        moves = list(moves)

        def start() -> None:
            if after is not None and not after.done():
                self._clock.at(self._clock.now() + self._seconds[0], start)
                return
            # As on a device: what is copied behind a failed slice voids all that it is written to.
            void = after is not None and after.error is not None
            if void:
                self._void(moves[0].target.space)
            end = self._clock.now() + seconds
            self._clock.at(end, lambda: self._complete(ticket, moves, fails or void, corrupts))

        start()
        return ticket

    def poll(self) -> list[types.Completion]:
        """Completions since the last call."""
        completed, self._completed = self._completed, []
        return completed

    def rebuild(self) -> None:
        """Every arena full of garbage."""
        for space in self._memory.pages:
            if space != self._pool_space:
                self._void(space)

    def close(self) -> None:
        """Nothing to release."""

    def _complete(
        self, ticket: tickets.Ticket, moves: list[types.Move], fails: bool, corrupts: bool
    ) -> None:
        error = errors.MoveError(f"{ticket.label} failed on purpose") if fails else None
        if not fails:
            sums = [self._copy(move) for move in moves]
            if corrupts:
                self._memory.pages[moves[0].target.space][moves[0].target.index][0] ^= 1
            arrived = [self._sum(move.target, move.units) for move in moves]
            if arrived != sums:
                self.met["corrupted"] += 1
                error = errors.MoveError(f"{ticket.label} arrived changed")
        ticket.complete(None, at=self._clock.now())
        size = 0 if error else len(moves) * self._memory.page_units * 8
        self._completed.append(types.Completion(ticket.id, size, 0.0, error))

    def _copy(self, move: types.Move) -> int:
        """Its source's sum. Units that are not final are not promised: they stay garbage."""
        source = self._memory.pages[move.source.space][move.source.index]
        target = self._memory.pages[move.target.space][move.target.index]
        target[: move.units] = source[: move.units]
        return self._sum(move.source, move.units)

    def _sum(self, place: types.Place, units: int) -> int:
        return mix(*self._memory.pages[place.space][place.index][:units])

    def _void(self, space: int) -> None:
        for page in self._memory.pages[space]:
            page[:] = [_GARBAGE] * len(page)

    def _fill(self, place: types.Place) -> None:
        page = self._memory.pages[place.space][place.index]
        page[:] = [_GARBAGE] * len(page)

    def _chance(self, salt: int) -> float:
        return mix(self._faults.seed, self._copies, salt) / 2.0**64


def _token(state: int) -> int:
    return mix(state, 7) % 50_000
