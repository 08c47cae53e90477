"""The probe finds one wrong byte, a copy that does nothing, and the time a link takes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.memory import paged, probe
from aqua_jax.memory.movers import faults, links, reference, xla
from tests.memory import parts

POOL, PEER, HOST = parts.POOL, parts.PEER, parts.HOST
PAIRS = [(POOL, PEER), (PEER, POOL), (POOL, HOST), (HOST, POOL)]
LATENCY_SECONDS, BYTES_PER_SECOND = 1e-3, 1e8


@pytest.mark.parametrize("layout", list(parts.LAYOUTS))
@pytest.mark.parametrize("make", [reference.ReferenceMover, xla.XlaMover])
def test_every_byte_arrives_over_a_good_link(layout, make):
    stores, clock = parts.make_stores(layout), clocks.MonotonicClock()
    mover = make(stores, clock)
    probing = probe.Probe(mover, stores, clock)
    for pair in PAIRS:
        found = probing.compare(*pair)
        assert (found.source, found.target) == pair
        assert found.bytes == 9 * parts.PAGE_BYTES  # all slots of the arena
        assert (found.wrong_bytes, found.first_wrong) == (0, "")
    mover.close()


@pytest.mark.parametrize("pair", PAIRS)
def test_one_wrong_byte_is_found_and_placed(pair):
    stores, clock = parts.make_stores(), clocks.MonotonicClock()
    flip = faults.byte_flipper(stores)
    damaged: list[types.Place] = []

    def corrupt(place: types.Place, word: int) -> None:
        damaged.append(place)
        flip(place, 77)

    mover = faults.FaultyMover(
        xla.XlaMover(stores, clock),
        clock,
        faults.Faults(exact={0: faults.Fault.CORRUPT}),
        corrupt=corrupt,
    )
    probing = probe.Probe(mover, stores, clock)
    found = probing.compare(*pair)
    assert found.wrong_bytes == 1
    assert found.first_wrong == f"byte 77 of page {damaged[0].index}"
    assert probing.compare(*pair).wrong_bytes == 0
    mover.close()


class _Idle(reference.ReferenceMover):
    """Says that it copied."""

    def submit(self, moves, after=None):
        nothing = [move._replace(target=types.Place(HOST, 0)) for move in moves[:1]]
        return super().submit(nothing, after)


def test_a_copy_that_does_nothing_is_all_wrong():
    stores, clock = parts.make_stores(), clocks.MonotonicClock()
    for mover in (reference.ReferenceMover(stores, clock), _Idle(stores, clock)):
        found = probe.Probe(mover, stores, clock).compare(POOL, PEER)
        mover.close()
    assert found.wrong_bytes == found.bytes  # though the pages held the pattern before


def test_a_failed_copy_raises_with_its_ends_and_cause():
    stores, clock = parts.make_stores(), clocks.MonotonicClock()
    mover = faults.FaultyMover(
        reference.ReferenceMover(stores, clock),
        clock,
        faults.Faults(rates={faults.Fault.FAIL: 1.0}),
    )
    probing = probe.Probe(mover, stores, clock)
    with pytest.raises(errors.MoveError, match=r"9 pages from pool 1 to host arena 3 .*injected"):
        probing.compare(POOL, HOST)
    with pytest.raises(errors.MoveError, match="1 pages from pool 1 to host arena 3"):
        probing.measure(POOL, HOST, seconds=1.0)


class _Silent(reference.ReferenceMover):
    """Never says that it copied."""

    def poll(self):
        return []


class _Stuck(_Silent):
    """Never has copied."""

    def submit(self, moves, after=None):
        return tickets.Ticket("stuck copy")


@pytest.mark.parametrize("make", [_Silent, _Stuck])
def test_a_copy_without_completion_ends_everything(make):
    stores, clock = parts.make_stores(), clocks.VirtualClock()
    probing = probe.Probe(make(stores, clock), stores, clock)
    with pytest.raises(errors.InternalError, match=r"no completion of Ticket.* within 30 s"):
        probing.compare(POOL, PEER)


def on_links(pages: int) -> tuple[probe.Probe, clocks.VirtualClock]:
    """A probe of emulated links between a pool and arenas of so many pages, and its clock."""
    stores, clock = parts.make_stores(pages=pages + 1, slots=pages), clocks.VirtualClock()
    link = links.Link(LATENCY_SECONDS, BYTES_PER_SECOND)
    mover = links.LinkedMover(
        reference.ReferenceMover(stores, clock), clock, links=dict.fromkeys(PAIRS, link),
        tiers=parts.TIERS,
    )  # fmt: skip
    return probe.Probe(mover, stores, clock), clock


@pytest.mark.parametrize("pair", PAIRS[:2])
def test_latency_and_bandwidth_are_those_of_the_link(pair):
    probing, _ = on_links(pages=160)
    speed = probing.measure(*pair, seconds=60.0)
    assert (speed.source, speed.target) == pair
    page_seconds = LATENCY_SECONDS + parts.PAGE_BYTES / BYTES_PER_SECOND
    assert speed.latency_seconds == pytest.approx(page_seconds)
    # 64 and 256 KiB, then all that both have.
    assert [rate.bytes for rate in speed.rates] == [64 << 10, 256 << 10, 160 * parts.PAGE_BYTES]
    for rate in speed.rates:
        assert rate.seconds == pytest.approx(LATENCY_SECONDS + rate.bytes / BYTES_PER_SECOND)
    assert speed.fastest is speed.rates[-1]  # latency weighs least
    assert speed.fastest.bytes_per_second == speed.fastest.bytes / speed.fastest.seconds


def test_no_more_time_is_taken_than_given_but_for_the_least():
    probing, clock = on_links(pages=160)
    speed = probing.measure(POOL, PEER, seconds=1e-6)
    assert [rate.bytes for rate in speed.rates] == [64 << 10]
    assert clock.now() == pytest.approx(speed.latency_seconds + speed.rates[0].seconds)
    given = 0.05
    began_at = clock.now()
    most = probing.measure(POOL, PEER, seconds=given)
    assert len(most.rates) > 1
    assert clock.now() - began_at <= given + most.rates[-1].seconds


def test_a_page_larger_than_the_smallest_plan_is_a_plan_of_its_own():
    shape, clock = (70, 1024), clocks.VirtualClock()
    stores = {
        space: paged.PagedPool(space, 3, shape, jnp.int32, sharding=parts.on(space))
        for space in (0, 1)
    }
    mover = reference.ReferenceMover(stores, clock)
    links_of = dict.fromkeys([(0, 1)], links.Link(LATENCY_SECONDS, BYTES_PER_SECOND))
    linked = links.LinkedMover(mover, clock, links=links_of, tiers={0: "device", 1: "peer"})
    speed = probe.Probe(linked, stores, clock).measure(0, 1, seconds=60.0)
    assert [rate.bytes for rate in speed.rates] == [280 << 10, 2 * 280 << 10]
    assert speed.rates[0].seconds == speed.latency_seconds


def test_the_last_pages_are_compared_however_large_a_page_is():
    shape, clock = (1280, 1024), clocks.VirtualClock()  # 5 MiB
    stores = {
        space: paged.PagedPool(space, 4, shape, jnp.int32, sharding=parts.on(space))
        for space in (0, 1)
    }
    seen: list[types.Move] = []

    class Seen(reference.ReferenceMover):
        def submit(self, moves, after=None):
            seen.extend(moves)
            return super().submit(moves, after)

    found = probe.Probe(Seen(stores, clock), stores, clock).compare(0, 1)
    assert found.bytes == 10 << 20
    assert {move.source.index for move in seen} == {1, 3}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int8])
def test_the_pattern_sets_and_clears_every_bit_and_is_an_ordinary_number(dtype):
    store = paged.PagedPool(0, 2, (64, 16), dtype, sharding=parts.on(0))
    pattern = probe._pattern(8, store)
    for one in (pattern, ~pattern):
        elements = probe._pages(one, store)
        assert elements.shape == (8, 64, 16)
        if jnp.issubdtype(dtype, jnp.floating):
            values = elements.astype(np.float64)
            assert np.isfinite(values).all()
            assert (np.abs(values) >= float(jnp.finfo(dtype).tiny)).all()
    words = pattern.reshape(-1, store.dtype.itemsize)
    assert (np.bitwise_or.reduce(words) == 0xFF).all()
    assert (np.bitwise_and.reduce(words) == 0).all()


def test_a_probe_takes_any_mover():
    stores, clock = parts.make_stores(), clocks.MonotonicClock()
    for make in parts.MOVERS.values():
        mover = make(stores, clock)
        assert probe.Probe(mover, stores, clock).compare(HOST, POOL).wrong_bytes == 0
        mover.close()
