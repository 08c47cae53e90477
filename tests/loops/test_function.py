"""The runner around somebody else's loop: whatever the schedule, the loop's tokens."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.engine import assemble
from aqua_jax.loops import function, prompt
from aqua_jax.memory import arenas
from aqua_jax.memory.movers import xla

VOCAB = 97
SIZES = function.LoopSizes(
    pages=9, page_tokens=4, units_max=32, vocab=VOCAB, lanes=2, chunk_units=8, steps_max=4
)
WEIGHTS = np.arange(1, SIZES.units_max + 1, dtype=np.int32)
CLOCK = clocks.MonotonicClock()


def loop(pool: jax.Array, work: function.Work) -> tuple[jax.Array, jax.Array]:
    """The next token: a weighted sum over all tokens so far, read back from the pages."""

    def step(
        carry: tuple[jax.Array, jax.Array], unit: function.Units
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        pool, tokens = carry
        tokens = jnp.where(unit.tokens == function.UNKNOWN, tokens, unit.tokens)
        pool = pool.at[unit.pages, unit.positions % SIZES.page_tokens].set(tokens)
        seen = jnp.arange(SIZES.units_max)[None] <= unit.positions[:, None]
        past = jnp.where(seen, pool[work.tables].reshape(SIZES.lanes, SIZES.units_max), 0)
        tokens = past @ WEIGHTS % VOCAB
        return (pool, tokens), tokens

    (pool, _), made = lax.scan(step, (pool, work.last), work.units)
    return pool, made


def expected(request: types.Request) -> list[int]:
    """The same in plain Python, undisturbed."""
    payload: prompt.TextPayload = request.payload
    known = list(payload.prompt_ids)
    while len(known) < request.prompt_units + request.steps_max:
        known.append(sum(t * (i + 1) for i, t in enumerate(known)) % VOCAB)
        if known[-1] in payload.stop_ids:
            break
    return known[request.prompt_units :]


def make(**changes: object) -> function.FunctionRunner:
    sizes = dataclasses.replace(SIZES, **changes)
    return function.FunctionRunner(
        loop, sizes, page_shape=(sizes.page_tokens,), dtype=jnp.int32, clock=CLOCK
    )


@pytest.fixture(scope="module")
def runner() -> function.FunctionRunner:
    return make()


class Seat:
    """A session on fixed pages, planned by hand."""

    _ids = itertools.count(1)

    def __init__(self, request: types.Request, pages: list[int], lane: int) -> None:
        self.session = types.Session(next(self._ids), request, 0.0)
        self.pages, self.lane = pages, lane
        self.planned = 0
        self.outcomes: list[types.Outcome] = []

    def plan(self, *, prefill: int = 0, steps: int = 0) -> types.LanePlan:
        joins, first = self.planned == 0, self.planned
        self.planned += prefill + steps
        return types.LanePlan(self.lane, self.session, self.pages, first, prefill, steps, joins)

    def read(self, outcome: types.Outcome) -> None:
        self.outcomes.append(outcome)
        self.session.emitted += outcome.tokens


def dispatch(run: function.FunctionRunner, *plans: types.LanePlan) -> tickets.Ticket:
    return run.dispatch(types.Batch(plans, max(plan.steps for plan in plans)))


def collect(run: function.FunctionRunner, ticket: tickets.Ticket, *seats: Seat) -> None:
    until = CLOCK.now() + 60.0
    while not ticket.done():
        assert CLOCK.now() < until, "a tiny slice takes no minute"
        CLOCK.wait([ticket], until)
    for seat, outcome in zip(seats, run.collect(ticket), strict=True):
        assert outcome.session == seat.session.id
        seat.read(outcome)


def test_a_slice_is_dispatched_on_outcomes_nobody_has_read(runner: function.FunctionRunner) -> None:
    one = Seat(prompt.text_request([3, 1, 4], max_tokens=9), [2, 5, 3], lane=1)
    first = dispatch(runner, one.plan(prefill=3, steps=4))
    second = dispatch(runner, one.plan(steps=4))
    collect(runner, first, one)
    assert one.outcomes[0] == types.Outcome(one.session.id, one.session.emitted, "", 3, 4)
    collect(runner, second, one)
    assert one.session.emitted == expected(one.session.request)
    assert one.outcomes[1].finished == "length"


def test_partial_prefill_emits_nothing_and_a_long_one_takes_several_calls(
    runner: function.FunctionRunner,
) -> None:
    ids = [(7 * i) % VOCAB for i in range(25)]
    long = Seat(prompt.text_request(ids, max_tokens=4), [1, 2, 3, 4, 5, 6, 7], lane=0)
    short = Seat(prompt.text_request([5], max_tokens=3), [8], lane=1)
    collect(runner, dispatch(runner, long.plan(prefill=5), short.plan(prefill=1)), long, short)
    assert long.outcomes[0].tokens == []
    assert len(short.session.emitted) == 1
    ticket = dispatch(runner, long.plan(prefill=20, steps=3), short.plan(steps=2))
    collect(runner, ticket, long, short)
    assert long.session.emitted == expected(long.session.request)
    assert short.session.emitted == expected(short.session.request)


def test_a_stop_id_ends_the_session_and_the_surplus_is_counted(
    runner: function.FunctionRunner,
) -> None:
    ids = [3, 1, 4]
    stop = expected(prompt.text_request(ids, max_tokens=9))[2]
    one = Seat(prompt.text_request(ids, max_tokens=9, stop_ids=[stop]), [2, 5, 3], lane=0)
    collect(runner, dispatch(runner, one.plan(prefill=3, steps=4)), one)
    assert one.session.emitted == expected(one.session.request)
    (outcome,) = one.outcomes
    computed = len(outcome.tokens) + outcome.overrun
    assert (outcome.finished, computed, outcome.step_units) == ("stop", 5, 4 - outcome.overrun)
    assert outcome.overrun > 0


def test_under_an_engine_short_of_memory_pages_move_and_tokens_stay() -> None:
    run = make()
    host = arenas.HostArena(1, 40, run.pool.page_shape, run.pool.dtype, sharding=run.pool.sharding)
    mover = xla.XlaMover({0: run.pool, 1: host}, CLOCK)
    engine = assemble.make_engine(run, mover, CLOCK, tiers={"host": host})
    requests = [prompt.text_request([n, 2 * n], max_tokens=24) for n in range(1, 6)]
    streams = [engine.submit(request) for request in requests]
    engine.close(deadline_seconds=60.0)
    assert [stream.read() for stream in streams] == [expected(r) for r in requests]
    assert engine.controller.memory.moved.into["host"] > 0


def test_a_lost_pool_fails_the_ticket_and_a_rebuilt_one_serves() -> None:
    run = make()
    run.pool._resident._lose("the test took it")
    one = Seat(prompt.text_request([3], max_tokens=2), [1], lane=0)
    ticket = dispatch(run, one.plan(prefill=1, steps=1))
    with pytest.raises(errors.PoolLostError, match="the test took it"):
        run.collect(ticket)
    run.rebuild()
    again = Seat(one.session.request, [1], lane=0)
    collect(run, dispatch(run, again.plan(prefill=1, steps=1)), again)
    assert again.session.emitted == expected(again.session.request)
    run.close()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"lanes": 0}, "lanes is 0: expected at least 1"),
        ({"units_max": 30}, "units_max is 30: expected a multiple of page_tokens, 4"),
    ],
)
def test_wrong_sizes_are_refused(changes: dict[str, int], text: str) -> None:
    with pytest.raises(errors.ConfigError, match=text):
        make(**changes)


def test_requests_it_cannot_honour_are_refused(runner: function.FunctionRunner) -> None:
    for name, value in (
        ("temperature", 0.5), ("min_p", 0.1), ("repetition_penalty", 1.1), ("logprobs", 0),
        ("logit_bias", {1: 2.0}), ("min_tokens", 1),
    ):  # fmt: skip
        with pytest.raises(errors.RequestError, match=f"{name} is .* takes no such option"):
            runner.check(prompt.text_request([1], max_tokens=1, **{name: value}))
    runner.check(prompt.text_request([1], max_tokens=1, seed=5, stop_ids=range(16)))
    with pytest.raises(errors.RequestError, match="0 to 96"):
        runner.check(prompt.text_request([VOCAB], max_tokens=1))


def test_a_loop_that_makes_something_else_is_refused() -> None:
    def wrong(pool: jax.Array, work: function.Work) -> tuple[jax.Array, jax.Array]:
        return pool, work.last

    run = function.FunctionRunner(
        wrong, SIZES, page_shape=(SIZES.page_tokens,), dtype=jnp.int32, clock=CLOCK
    )
    with pytest.raises(errors.ConfigError, match=r"made int32\[2\]: expected int32\[8, 2\]"):
        run.warm_up()


def test_a_slice_is_collected_once(runner: function.FunctionRunner) -> None:
    one = Seat(prompt.text_request([3], max_tokens=2), [1], lane=0)
    ticket = dispatch(runner, one.plan(prefill=1, steps=1))
    collect(runner, ticket, one)
    with pytest.raises(errors.InternalError, match="no slice in flight"):
        runner.collect(ticket)
