"""The text runner: tokens and bits that do not depend on how a session was sliced."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from aqua_jax.control import errors, types
from aqua_jax.control.policies import base
from aqua_jax.engine import assemble
from aqua_jax.engine import engine as engines
from aqua_jax.loops import native_attention, prompt, text
from aqua_jax.memory import arenas, native
from aqua_jax.memory.movers import xla
from tests.loops import harness

SAMPLED = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "seed": 7}
PENALTIES = {"repetition_penalty": 1.3, "presence_penalty": 0.4, "frequency_penalty": 0.2}
# Over one block of attention, and no multiple of pages, tiles or chunks.
LONG = 150


@functools.cache
def decoded(
    shards: int, attention: str = "xla", linear: str = "xla"
) -> tuple[list[int], np.ndarray]:
    """A session that was decoded from its first token on: its ids, and the bits of its KV."""
    run = harness.runner(shards=shards, attention=attention, linear=linear)
    who = harness.seat(1, range(1, 12), max_tokens=LONG, **SAMPLED)
    harness.decode(run, who, 2, 32)
    assert len(who.tokens) == LONG
    return [*who.session.request.payload.prompt_ids, *who.tokens], harness.kv(run, who)


@pytest.mark.parametrize(
    ("attention", "linear"), [("xla", "xla"), ("native", "xla"), ("native", "native")]
)
@pytest.mark.parametrize(
    ("shards", "rows", "chunk_units"),
    [(1, 16, 64), (1, 37, 64), (1, 64, 64), (1, 128, 64), (1, 150, 128), (4, 37, 64)],
)
def test_kv_bits_of_prefill_equal_those_of_decode(shards, rows, chunk_units, attention, linear):
    ids, expected = decoded(shards, attention, linear)
    run = harness.runner(shards=shards, chunk_units=chunk_units, attention=attention, linear=linear)
    who = harness.Seat(prompt.text_request(ids[:LONG], max_tokens=1), range(20, 30))
    harness.prefill(run, who, 1, rows)
    np.testing.assert_array_equal(harness.kv(run, who), expected)


@pytest.mark.parametrize("lanes", [4, 17])
def test_kv_bits_do_not_depend_on_the_lanes_there_are(lanes):
    """Of native linear layers, whose programs compute all lanes at once."""
    ids, expected = decoded(1, "native", "native")
    run = harness.runner(lanes=lanes, attention="native", linear="native")
    who = harness.Seat(prompt.text_request(ids[:60], max_tokens=1), range(20, 30))
    harness.prefill(run, who, lanes - 1, 13)
    found = harness.kv(run, who)
    np.testing.assert_array_equal(found, expected[: len(found)])


@pytest.mark.parametrize("linear", text.LINEARS)
def test_kv_bits_do_not_depend_on_the_company(linear):
    ids, expected = decoded(1, "xla", linear)
    run = harness.runner(linear=linear)
    who = harness.Seat(prompt.text_request(ids[:LONG], max_tokens=1), range(20, 30))
    others = [harness.seat(n, range(n, n + 4), max_tokens=20) for n in (31, 35)]
    while left := LONG - who.session.cached:
        plans = [who.plan(3, prefill=min(left, 29))]
        for lane, other in zip((0, 2), others, strict=True):
            rows = other.session.request.prompt_units - other.session.cached
            steps = 0 if rows > 7 else 2
            plans.append(other.plan(lane, prefill=max(0, min(rows, 7)), steps=steps))
        harness.run_slice(run, [who, *others], *plans)
    assert all(len(other.tokens) > 3 for other in others)
    np.testing.assert_array_equal(harness.kv(run, who), expected)


@pytest.mark.parametrize("attention", text.ATTENTIONS)
def test_shards_compute_the_same_but_for_rounding(attention):
    whole = decoded(1)[1].view(np.float32)
    for shards in (1, 4):
        ids, bits = decoded(shards, attention)
        assert ids == decoded(1)[0]
        np.testing.assert_allclose(bits.view(np.float32), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("seed", "shards", "attention", "linear"),
    [
        (0, 1, "xla", "xla"),
        (1, 1, "xla", "xla"),
        (2, 4, "xla", "xla"),
        (3, 1, "native", "native"),
        (4, 4, "native", "native"),
    ],
)
def test_tokens_do_not_depend_on_the_schedule(seed, shards, attention, linear):
    """Random slices, lanes, company, moves of pages and recomputation change no token."""
    run = harness.runner(shards=shards, attention=attention, linear=linear)
    expected = [_bits(who.tokens) for who in _sessions() if _run_alone(run, who)]
    rng = random.Random(seed)
    seats = _sessions()
    free = set(range(1, run.pages)) - {page for who in seats for page in who.pages}
    while running := [who for who in seats if not who.session.reason]:
        chosen = rng.sample(running, rng.randint(1, min(len(running), run.lanes)))
        for who in chosen:
            _disturb(run, who, free, rng)
        lanes = rng.sample(range(run.lanes), len(chosen))
        plans = [_random_plan(who, lane, rng) for who, lane in zip(chosen, lanes, strict=True)]
        for who in set(seats) - set(chosen):
            who.leave()
        harness.run_slice(run, chosen, *plans)
    assert [_bits(who.tokens) for who in seats] == expected
    assert all(len(set(who.tokens)) > 5 for who in seats), "varied enough to tell"
    assert seats[-1].session.reason == "stop"
    assert len(seats[-1].tokens) > 30


@pytest.mark.parametrize("tier", ["host", "none"])
def test_options_hold_under_an_engine_short_of_memory(tier):
    """Samples of one prompt, preempted; their pages move away, or they recompute."""
    run = harness.runner()
    request = prompt.text_request(
        harness.prompt_ids(100), max_tokens=50, temperature=0.9, logprobs=3, seed=8,
        logit_bias={3: 2.0}, min_tokens=50, stop_ids=range(16), **PENALTIES,
    )  # fmt: skip
    requests = prompt.samples(request, 6)
    alone = [harness.Seat(each, range(1, 11)) for each in requests]
    expected = [_bits(who.tokens) for who in alone if _run_alone(run, who)]
    assert len({tuple(bits) for bits in expected}) == 6
    assert all(min(who.tokens) >= 16 for who in alone), "stop ids are held back"

    host = arenas.HostArena(1, 80, run.pool.page_shape, run.pool.dtype, sharding=run.pool.sharding)
    mover = xla.XlaMover({0: run.pool, 1: host}, harness.CLOCK)
    tiers = {"host": host} if tier == "host" else {}
    controller = assemble.make_controller(
        run, tiers=tiers, policy=base.PolicySettings(quantum_tokens=16), pool_pages=32
    )
    engine = engines.Engine(controller, mover, run, harness.CLOCK)
    streams = [engine.submit(each) for each in requests]
    engine.drain(harness.WAIT_SECONDS)
    assert [_bits(stream.read()) for stream in streams] == expected
    assert controller.counters.preemptions > 0
    assert (controller.counters.recomputed_tokens > 0) == (tier == "none")
    mover.close()
    host.close()


def test_a_slice_may_follow_before_the_last_was_read():
    run = harness.runner()
    whole = harness.seat(40, range(1, 6), max_tokens=20)
    harness.prefill(run, whole, 0, 40)
    harness.decode(run, whole, 0, 32)

    who = harness.seat(40, range(6, 11), max_tokens=20)
    plan = who.plan(1, prefill=40, steps=8)
    flights = [run.dispatch(harness.batch(plan))]
    for first in (48, 56, 64):  # the last of them is past the end
        plan = plan._replace(first=first, prefill=0, joins=False)
        flights.append(run.dispatch(harness.batch(plan)))
    outcomes = [harness.finish(run, flight)[0] for flight in flights]
    assert [len(outcome.tokens) for outcome in outcomes] == [9, 8, 3, 0]
    assert [outcome.step_units for outcome in outcomes] == [8, 8, 3, 0]
    assert [outcome.finished for outcome in outcomes] == ["", "", "length", "length"]
    assert [token for outcome in outcomes for token in outcome.tokens] == whole.tokens


def test_stop_ids_end_a_session_and_are_emitted():
    run = harness.runner()
    free = harness.seat(20, range(1, 5))
    harness.prefill(run, free, 0, 20)
    harness.decode(run, free, 0, 32)
    stop = free.tokens[10]
    end = free.tokens.index(stop) + 1
    never = min(set(range(100)) - set(free.tokens))

    who = harness.seat(20, range(5, 9), stop_ids=(never, stop))
    mate = harness.seat(21, range(9, 13))
    for each, lane in ((who, 1), (mate, 2)):
        harness.prefill(run, each, lane, 20)
    harness.run_slice(run, [who, mate], who.plan(1, steps=31), mate.plan(2, steps=31))
    assert who.session.reason == "stop"
    assert who.tokens == free.tokens[:end]
    assert mate.session.reason == "length"
    assert len(mate.tokens) == 32


def test_a_prefill_can_end_a_session():
    run = harness.runner()
    first = harness.seat(20, range(1, 5))
    harness.prefill(run, first, 0, 20)
    for options, reason in (({"max_tokens": 1}, "length"), ({"stop_ids": first.tokens}, "stop")):
        who = harness.seat(20, range(1, 5), **options)
        harness.run_slice(run, [who], who.plan(0, prefill=20, steps=4))
        assert (who.session.reason, who.tokens) == (reason, first.tokens)


def test_each_lane_has_its_own_limit_of_steps():
    run = harness.runner()
    seats = [harness.seat(1, [page]) for page in (1, 2, 3)]
    plans = [seats[0].plan(3, steps=2), seats[1].plan(0, steps=9), seats[2].plan(1, steps=5)]
    harness.run_slice(run, seats, *plans)
    assert [len(who.tokens) for who in seats] == [2, 9, 5]
    assert seats[0].tokens == seats[1].tokens[:2]


@pytest.mark.parametrize("attention", text.ATTENTIONS)
def test_a_token_does_not_leak_from_the_pages_of_another(attention):
    """Pages full of NaN, as a broken session might leave them, change nothing."""
    run = harness.runner(attention=attention)
    clean = harness.seat(20, range(1, 5))
    harness.prefill(run, clean, 0, 20)
    harness.decode(run, clean, 0, 32)
    pages = list(range(5, 9))
    run.pool.write(pages, np.full((4, *run.pool.page_shape), np.nan, np.float32))
    who = harness.seat(20, pages)
    harness.prefill(run, who, 1, 20)
    harness.decode(run, who, 1, 32)
    assert who.tokens == clean.tokens
    run.pool.write(pages, np.zeros((4, *run.pool.page_shape), np.float32))


def test_only_native_attention_reaches_arenas():
    with pytest.raises(errors.ConfigError, match="attention='xla': use 'native'"):
        harness.runner().attend_in(1, native_attention.Arena(store_slot=0, pages=1, store=1))


@pytest.mark.parametrize(
    ("space", "pages", "message"),
    [
        (128, 1, "space: 128, which page tables cannot name: expected 0 to 127"),
        (-1, 1, "space: -1, which"),
        (1, (1 << 24) + 1, "pages of space 1: 16777217, which .* expected 0 to 16777216"),
    ],
)
def test_arenas_that_page_tables_cannot_name_are_refused(space, pages, message):
    run = harness.runner(attention="native")
    with pytest.raises(errors.ConfigError, match=message):
        run.attend_in(space, native_attention.Arena(store_slot=0, pages=pages, store=1))


@pytest.mark.parametrize("shards", [1, 4])
def test_pages_in_an_arena_are_attended_in_place(shards):
    """A session half of whose pages are in an arena, and not in the pool: the same tokens."""
    run = harness.runner(shards=shards, attention="native")
    whole = harness.seat(100, range(1, 10), max_tokens=30)
    harness.prefill(run, whole, 0, 100)
    harness.decode(run, whole, 0, 32)

    who = harness.seat(100, range(11, 20), max_tokens=30)
    harness.prefill(run, who, 1, 100)
    with attended_in_place(run, space=7, pages=who.pages[:4]) as entries:
        who.pages[:4] = entries
        who.leave()
        harness.decode(run, who, 2, 9)
    assert who.tokens == whole.tokens


def test_a_slice_that_names_an_arena_that_has_retired_is_refused_before_it_starts():
    """On the device it would read whatever took the arena's slot, and lose no pool."""
    run = harness.runner(attention="native")
    who = harness.seat(100, range(11, 20), max_tokens=30)
    harness.prefill(run, who, 1, 100)
    with attended_in_place(run, space=8, pages=who.pages[:4]) as entries:
        pass
    who.pages[:4] = entries
    who.leave()
    with pytest.raises(errors.InternalError, match=r"cannot be attended in place: .*STALE"):
        run.dispatch(harness.batch(who.plan(2, steps=9)))
    run.pool.check_integrity()


def test_without_exactness_the_tokens_are_plausible():
    """One tile a program: other bits, but the same arithmetic."""
    run = harness.runner(exact=False)
    who = harness.seat(100, range(1, 8), max_tokens=1)
    harness.prefill(run, who, 0, 100)
    exact = harness.seat(100, range(1, 8), max_tokens=1)
    harness.prefill(harness.runner(), exact, 0, 100)
    assert who.tokens == exact.tokens
    np.testing.assert_allclose(
        harness.kv(run, who).view(np.float32),
        harness.kv(harness.runner(), exact).view(np.float32),
        atol=1e-4,
    )


def test_a_lost_pool_is_reported_and_rebuilt():
    run = text.TextRunner(harness.model(), harness.LIMITS, space=3, clock=harness.CLOCK)
    run.warm_up()
    with pytest.raises(errors.PoolLostError, match="off the bus"):
        run.pool.run(_break)
    who = harness.seat(20, range(1, 5))
    ticket = run.dispatch(harness.batch(who.plan(0, prefill=20)))
    with pytest.raises(errors.PoolLostError, match="rebuild"):
        harness.finish(run, ticket)
    run.rebuild()
    harness.run_slice(run, [who], who.plan(0, prefill=20))
    assert len(who.tokens) == 1
    run.close()


def test_pages():
    run = harness.runner()
    request = prompt.text_request([1], max_tokens=1)
    assert [run.pages_needed(request, units) for units in (1, 16, 17)] == [1, 1, 2]
    assert [run.units_in_page(request, 1, units) for units in (16, 20, 32, 40)] == [0, 4, 16, 16]


def test_a_ticket_is_collected_once():
    run = harness.runner()
    who = harness.seat(1, [1])
    ticket = run.dispatch(harness.batch(who.plan(0, steps=1)))
    harness.finish(run, ticket)
    with pytest.raises(errors.InternalError, match="no slice in flight"):
        run.collect(ticket)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"tile_rows": 20}, "tile_rows is 20: expected a multiple of 16"),
        ({"chunk_units": 72}, "chunk_units is 72: expected a multiple of 16, at least 32"),
        ({"chunk_units": 16}, "chunk_units is 16: expected a multiple of 16, at least 32"),
        ({"units_max": 250}, "units_max is 250: expected a multiple of 16"),
        ({"lanes": 0}, "lanes is 0: expected at least 1"),
        ({"attention": "naitve"}, r"unknown attention 'naitve' \(did you mean 'native'\?\)"),
        ({"shards": 3}, "kv_heads=4, which 3 tensor-parallel shards do not divide"),
    ],
)
def test_limits_that_cannot_be(limits, message):
    with pytest.raises(errors.ConfigError, match=message):
        harness.runner(**limits)


@contextlib.contextmanager
def attended_in_place(run: text.TextRunner, *, space: int, pages: list[int]) -> Iterator[list[int]]:
    """Moves pages to an arena in ordinary memory; their entries. NaN stays behind."""
    library = native.load()
    parts = len(run.pool.addresses)
    kept = run.pool.snapshot(pages)
    memory = [np.ascontiguousarray(part) for part in np.split(kept, parts, axis=4)]
    stores = [
        library.store_register(
            label, bases, devices=[-1] * parts, pages=count, page_bytes=run.page_bytes // parts
        )
        for label, bases, count in (
            ("pool", run.pool.addresses, run.pages),
            ("arena", [part.ctypes.data for part in memory], len(pages)),
        )
    ]
    run.pool.write(pages, np.full_like(kept, np.nan))
    arena = native_attention.Arena.of(library, stores[1], len(pages))
    run.attend_in(space, arena)
    yield [types.away_entry(types.Place(space, index)) for index in range(len(pages))]
    for store in stores:
        library.store_retire(store, "the test is over")
    run.pool.write(pages, np.zeros_like(kept))


def _break(array: jax.Array) -> None:
    array.delete()
    raise RuntimeError("the device fell off the bus")


def _sessions() -> list[harness.Seat]:
    return [
        harness.seat(45, range(1, 6), max_tokens=30),
        harness.seat(1, range(6, 9), max_tokens=40, **SAMPLED),
        harness.seat(17, range(9, 13), max_tokens=33, temperature=1.5, seed=2**32 - 1),
        harness.seat(90, range(13, 21), max_tokens=25, temperature=0.5, top_p=0.5, seed=3),
        harness.seat(7, range(21, 24), max_tokens=28, temperature=1.0, top_k=2, seed=4),
        harness.seat(30, range(24, 29), max_tokens=40, logprobs=5, **PENALTIES),
        harness.seat(
            12, range(29, 33), max_tokens=35, temperature=1.2, min_p=0.01, seed=5, logprobs=20,
            logit_bias={token: token % 7 - 3.0 for token in range(0, 120, 3)}, **PENALTIES,
        ),
        harness.seat(
            20, range(33, 37), max_tokens=40, temperature=0.7, seed=6, logprobs=0,
            min_tokens=30, stop_ids=range(16),
        ),
    ]  # fmt: skip


def _bits(tokens: list[int]) -> list[tuple]:
    """Tokens with the bits of their log probabilities, where they have any."""
    return [
        (token, *((token.logprob, *token.top) if isinstance(token, prompt.ScoredToken) else ()))
        for token in tokens
    ]


def _run_alone(run: text.TextRunner, who: harness.Seat) -> bool:
    rows = who.session.request.prompt_units
    if rows > 1:
        harness.prefill(run, who, 0, rows)
    harness.decode(run, who, 0, 32)
    return True


def _disturb(run: text.TextRunner, who: harness.Seat, free: set[int], rng: random.Random) -> None:
    """Now and then moves the session's pages elsewhere, or loses them."""
    chance = rng.random()
    if chance < 0.2:
        new = rng.sample(sorted(free), len(who.pages))
        run.pool.write(new, run.pool.snapshot(who.pages))
        free ^= {*who.pages, *new}
        who.pages = new
    elif chance < 0.3:
        run.pool.write(who.pages, np.full_like(run.pool.snapshot(who.pages), 9.0))
        who.session.cached = 0
    else:
        return
    who.leave()


def _random_plan(who: harness.Seat, lane: int, rng: random.Random) -> types.LanePlan:
    left = who.session.known - who.session.cached
    if left == 1:
        return who.plan(lane, steps=rng.randint(1, 9))
    rows = rng.randint(1, left)
    return who.plan(lane, prefill=rows, steps=rng.randint(0, 4) if rows == left else 0)
