"""A host in miniature: hands pages and lanes to sessions and runs slices on a real runner.

Knows: what an engine would do between dispatch and collect. Decides nothing: each test says
who runs where.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets, types
from aqua_jax.loops import prompt, text
from models import decoder, llama, shapes
from tests.memory import parts

PAGE_TOKENS = 16
LIMITS = text.TextLimits(
    pages=64, page_tokens=PAGE_TOKENS, units_max=256, lanes=4, chunk_units=64, steps_max=32,
    tile_rows=16,
)  # fmt: skip
WAIT_SECONDS = 60.0

CLOCK = clocks.MonotonicClock()


@functools.cache
def model() -> decoder.CausalDecoder:
    """The one tiny model of these tests."""
    return llama.causal(shapes.TINY, seed=1)


def runner(*, shards: int = 1, **limits: int | bool | str) -> text.TextRunner:
    """A runner that is shared by all tests which ask for the same.

    Skips the test when it asks for what is native and no compiler is there.
    """
    if "native" in (limits.get("attention"), limits.get("linear")) and parts.NO_COMPILER:
        pytest.skip(parts.NO_COMPILER)
    return _runner(shards, dataclasses.replace(LIMITS, **limits))


@functools.cache
def _runner(shards: int, limits: text.TextLimits) -> text.TextRunner:
    mesh = text.tensor_mesh(jax.devices()[:shards])
    return text.TextRunner(model(), limits, space=0, clock=CLOCK, mesh=mesh)


def prompt_ids(count: int, *, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, shapes.TINY.vocab, count).tolist()


class Seat:
    """A session with its pages, and the lane it was last in."""

    def __init__(self, request: types.Request, pages: Sequence[int]) -> None:
        self.session = types.Session(id=id(self), request=request, arrived_at=0.0)
        self.pages = list(pages)
        self.lane = -1

    @property
    def tokens(self) -> list[int]:
        return self.session.emitted

    def plan(self, lane: int, *, prefill: int = 0, steps: int = 0) -> types.LanePlan:
        """Its next rows or steps in `lane`; joins when it was not there before."""
        joins, self.lane = lane != self.lane, lane
        first = self.session.cached
        return types.LanePlan(lane, self.session, self.pages, first, prefill, steps, joins)

    def read(self, outcome: types.Outcome) -> None:
        assert outcome.session == self.session.id
        self.session.emitted += outcome.tokens
        self.session.cached += outcome.prefill_units + outcome.step_units
        self.session.reason = outcome.finished

    def leave(self) -> None:
        """Gives up its lane: the next plan joins."""
        self.lane = -1


def seat(count: int, pages: Sequence[int], *, max_tokens: int = 32, **sampling: object) -> Seat:
    """A seat for a prompt of `count` random ids, which depend on `count` alone."""
    ids = prompt_ids(count, seed=count)
    return Seat(prompt.text_request(ids, max_tokens=max_tokens, **sampling), pages)


def batch(*plans: types.LanePlan) -> types.Batch:
    return types.Batch(plans, max(plan.steps for plan in plans))


def finish(run: text.TextRunner, ticket: tickets.Ticket) -> list[types.Outcome]:
    until = CLOCK.now() + WAIT_SECONDS
    while not ticket.done():
        assert CLOCK.now() < until, "a slice of the tiny model takes no minute"
        CLOCK.wait([ticket], until)
    return run.collect(ticket)


def run_slice(run: text.TextRunner, seats: Sequence[Seat], *plans: types.LanePlan) -> None:
    """One slice, waited for and read into the seats, which stand in the order of the plans."""
    for each, outcome in zip(seats, finish(run, run.dispatch(batch(*plans))), strict=True):
        each.read(outcome)


def prefill(run: text.TextRunner, who: Seat, lane: int, rows: int) -> None:
    """Prefills all that is known, `rows` rows a slice; the last slice emits a token."""
    for left in range(who.session.known - who.session.cached, 0, -rows):
        run_slice(run, [who], who.plan(lane, prefill=min(rows, left)))


def decode(run: text.TextRunner, who: Seat, lane: int, steps: int) -> None:
    """Steps to the end of the session, `steps` a slice."""
    while not who.session.reason:
        run_slice(run, [who], who.plan(lane, steps=steps))


def kv(run: text.TextRunner, who: Seat) -> np.ndarray:
    """The session's cached keys and values, `[units, layers, 2, kv_heads, head_dim]`, as bits."""
    pages = run.pool.snapshot(who.pages)
    units = np.moveaxis(pages, 3, 1).reshape(-1, *pages.shape[1:3], *pages.shape[4:])
    return units[: who.session.cached].view(np.uint32)
