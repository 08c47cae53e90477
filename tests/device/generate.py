"""Section of the GPU check: the text runner with attention by the library, tokens compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from aqua_jax.control import clock as clocks
from aqua_jax.control import types
from aqua_jax.loops import native_attention, prompt, text
from aqua_jax.memory.movers import ffi
from models import decoder, llama, shapes
from tests.device import place as places
from tests.device import report as reports
from tests.device.place import DEVICE, HOST, POOL

_PAGE_TOKENS = 16
_SECONDS = 60.0


def generate(place: places.Place, report: reports.Report) -> None:
    """Tokens of sessions that ran through, against those of sessions whose pages moved about.

    They were paged out and in, or attended in an arena.
    """
    shape = shapes.DEMO if not place.tiny else shapes.TINY
    for dtype in ("float32",) if place.tiny else ("float32", "bfloat16"):
        model = llama.causal(shape, seed=1, dtype=jnp.dtype(dtype))
        native = _Host(place, model, "native")
        through = native.tokens(turns=0)
        count = sum(map(len, through))
        for turns in (1, 3):
            paged = native.tokens(turns=turns)
            same = paged == through
            report.expect(f"{dtype}: tokens, paged every {turns} slices", same, f"{count} tokens")
        for space in (DEVICE, HOST):
            in_place = native.tokens(turns=2, attended_in=space)
            name = f"{dtype}: tokens, full pages attended in the {places.KINDS[space]} arena"
            report.expect(name, in_place == through and native.away > 0, f"{native.away} pages")
        native.close()
        gathered = _Host(place, model, "xla")
        others = gathered.tokens(turns=0)
        gathered.close()
        pairs = list(zip(_flat(through), _flat(others), strict=True))
        equal = sum(one == other for one, other in pairs) / len(pairs)
        # They part where two tokens are nearly alike, and then go on differently.
        report.measured(f"{dtype}: tokens as with attention by XLA", 100 * equal, "%")
        first = sum(one[0] == other[0] for one, other in zip(through, others, strict=True))
        first_share = first / len(through)
        report.expect(
            f"{dtype}: first tokens as with XLA", first_share >= 0.75, f"{first_share:.2f} of them"
        )


def _flat(sessions: Sequence[Sequence[int]]) -> list[int]:
    return [token for tokens in sessions for token in tokens]


@dataclasses.dataclass
class _Seat:
    """A session and where its pages are."""

    session: types.Session
    pages: list[int]
    joins: bool = True


class _Host:
    """Runs a few sessions slice by slice; in between, moves their pages out and elsewhere in."""

    def __init__(self, place: places.Place, model: decoder.CausalDecoder, attention: str) -> None:
        self._tiny = place.tiny
        self._clock = clocks.MonotonicClock()
        self._sessions = 3 if place.tiny else 8
        self._pages_each = 8
        self.away = 0  # pages attended in an arena in the last run
        self._library = place.library
        pages = 2 * self._sessions * self._pages_each + 1
        limits = text.TextLimits(
            pages=pages, page_tokens=_PAGE_TOKENS, units_max=self._pages_each * _PAGE_TOKENS,
            lanes=self._sessions, chunk_units=32, steps_max=8, tile_rows=16, attention=attention,
        )  # fmt: skip
        self._runner = text.TextRunner(model, limits, space=POOL, clock=self._clock)
        self._stores: dict[int, Any] = {POOL: self._runner.pool}
        page_shape, dtype = self._runner.pool.page_shape, self._runner.pool.dtype
        for space in (DEVICE, HOST):
            self._stores[space] = place.arena(space, pages, page_shape, dtype)
        self._mover = ffi.FfiMover(self._stores, self._clock, library=place.library)
        self._mover.warm_up()
        self._runner.warm_up()

    def tokens(self, *, turns: int, attended_in: int = 0) -> list[list[int]]:
        """What each session says; with `turns`, all of them leave and return every so many slices.

        attended_in: a space: then their full pages go there, and are attended there from then on.
        Pages are written over with NaN while nobody owns them.
        """
        self.away = 0
        seats = [self._seat(index) for index in range(self._sessions)]
        for lane, seat in enumerate(seats):
            while seat.session.known - seat.session.cached > 1:
                left = seat.session.known - seat.session.cached
                self._slice([(lane, seat)], prefill=min(left, 32), steps=0)
        for number in range(1, 8 if self._tiny else 10):
            running = [(lane, seat) for lane, seat in enumerate(seats) if not seat.session.reason]
            if not running:
                break
            if attended_in and number % turns == 0:
                self._move_full_pages(seats, attended_in)
            elif turns and number % turns == 0:
                self._move_away_and_back(seats, (DEVICE, HOST)[number % 2])
            self._slice(running, prefill=0, steps=8)
        return [seat.session.emitted for seat in seats]

    def close(self) -> None:
        self._mover.close()
        for space in (DEVICE, HOST):
            self._stores[space].close()
        self._runner.close()

    def _seat(self, index: int) -> _Seat:
        vocab = 100
        ids = np.random.default_rng(index).integers(0, vocab, 20 + 5 * index).tolist()
        room = self._pages_each * _PAGE_TOKENS - len(ids)
        request = prompt.text_request(ids, max_tokens=min(48, room))
        session = types.Session(id=index + 1, request=request, arrived_at=0.0)
        first = 1 + index * self._pages_each
        return _Seat(session, list(range(first, first + self._pages_each)))

    def _slice(self, running: Sequence[tuple[int, _Seat]], *, prefill: int, steps: int) -> None:
        plans = []
        for lane, seat in running:
            first = seat.session.cached
            plans.append(
                types.LanePlan(lane, seat.session, seat.pages, first, prefill, steps, seat.joins)
            )
            seat.joins = False
        ticket = self._runner.dispatch(types.Batch(tuple(plans), steps))
        self._wait([ticket])
        for (_, seat), outcome in zip(running, self._runner.collect(ticket), strict=True):
            seat.session.emitted += outcome.tokens
            seat.session.cached += outcome.prefill_units + outcome.step_units
            seat.session.reason = outcome.finished

    def _move_away_and_back(self, seats: Sequence[_Seat], space: int) -> None:
        total = self._sessions * self._pages_each
        mine = [page for seat in seats for page in seat.pages]
        slots = list(range(len(mine)))
        self._submit(POOL, mine, space, slots)
        self._write_over(mine)
        for seat in seats:
            shift = total if seat.pages[0] <= total else -total
            seat.pages = [page + shift for page in seat.pages]
            seat.joins = True
        self._submit(space, slots, POOL, [page for seat in seats for page in seat.pages])
        self._mover.fence(POOL)

    def _move_full_pages(self, seats: Sequence[_Seat], space: int) -> None:
        arena = self._stores[space]
        self._runner.attend_in(
            space, native_attention.Arena.of(self._library, arena.handle, arena.slots)
        )
        for seat in seats:
            full = range(seat.session.cached // _PAGE_TOKENS)
            leaving = [index for index in full if seat.pages[index] >= 0]
            if not leaving:
                continue
            pages = [seat.pages[index] for index in leaving]
            slots = list(range(self.away, self.away + len(pages)))
            self._submit(POOL, pages, space, slots)
            self._write_over(pages)
            for index, slot in zip(leaving, slots, strict=True):
                seat.pages[index] = types.away_entry(types.Place(space, slot))
            self.away += len(pages)
            seat.joins = True

    def _write_over(self, pages: Sequence[int]) -> None:
        nowhere = np.full((1, *self._runner.pool.page_shape), np.nan, self._runner.pool.dtype)
        for page in pages:
            self._runner.pool.write([page], nowhere)

    def _submit(
        self, source: int, sources: Sequence[int], target: int, targets: Sequence[int]
    ) -> None:
        ticket = self._mover.submit(places.moves(source, sources, target, targets))
        if target != POOL:  # those into the pool are waited for by the fence
            self._wait([ticket])
        for done in self._mover.poll():
            if done.error is not None:
                raise done.error

    def _wait(self, pending: Sequence[Any]) -> None:
        until = self._clock.now() + _SECONDS
        while not all(ticket.done() for ticket in pending):
            if self._clock.now() > until:
                raise TimeoutError(f"{pending} not done in {_SECONDS} s")
            self._clock.wait([t for t in pending if not t.done()], until)
