"""The XLA mover beyond the conformance suite: batches, warm programs, failures."""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors
from aqua_jax.memory import arenas, page_array, paged
from aqua_jax.memory.movers import xla
from tests.memory import parts

POOL, PEER, HOST = parts.POOL, parts.PEER, parts.HOST


def _small_stores(pages: int, page_shape: tuple[int, ...]) -> parts.Stores:
    """One device, pages of a few words, enough of them for several batches."""
    first, second = parts.on(0), parts.on(1)
    return {
        POOL: paged.PagedPool(POOL, pages + 1, page_shape, jnp.float32, sharding=first),
        PEER: arenas.DeviceArena(PEER, pages, page_shape, jnp.float32, sharding=second),
        HOST: arenas.HostArena(HOST, pages, page_shape, jnp.float32, sharding=first),
    }


def test_long_plans_are_split() -> None:
    pages = 2 * page_array.BATCH_PAGES_MAX + 3
    stores, clock = _small_stores(pages, (5,)), clocks.MonotonicClock()
    values = np.arange(pages * 5, dtype=np.float32).reshape(pages, 5)
    stores[POOL].write(range(1, pages + 1), values)
    mover = xla.XlaMover(stores, clock)
    order = np.random.default_rng(0).permutation(pages).tolist()
    out = mover.submit(parts.moves(POOL, range(1, pages + 1), PEER, order))
    over = mover.submit(parts.moves(PEER, order, HOST, range(pages)))
    completions = parts.drain(mover, clock, [out, over])
    assert [c.bytes for c in completions] == [pages * 20, pages * 20]
    np.testing.assert_array_equal(stores[HOST].snapshot(range(pages)), values)
    mover.close()


def test_nothing_compiles_after_warm_up(caplog: pytest.LogCaptureFixture) -> None:
    def compiled() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")]

    # A page shape of its own, so that other tests have not compiled for it.
    stores, clock = _small_stores(70, (7,)), clocks.MonotonicClock()
    mover = xla.XlaMover(stores, clock)
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        mover.warm_up()
        assert len(compiled()) >= 7 * 2 * len(stores)  # buckets, gather and scatter, stores
        caplog.clear()
        for count in (1, 2, 3, 7, 20, 33, 64, 70):
            for source, target in ((POOL, PEER), (PEER, HOST), (HOST, POOL), (POOL, HOST)):
                sources = [*stores[source].indices][:count]
                targets = [*stores[target].indices][-count:]
                ticket = mover.submit(parts.moves(source, sources, target, targets))
                parts.drain(mover, clock, [ticket])
        assert compiled() == []
    mover.close()


def test_submitting_transfers_nothing_implicitly() -> None:
    stores, clock = parts.make_stores("mesh 2 to single"), clocks.MonotonicClock()
    mover = xla.XlaMover(stores, clock)
    with jax.transfer_guard("disallow"):
        pending = [
            mover.submit(parts.moves(POOL, [1, 2, 3], PEER, [0, 1, 2])),
            mover.submit(parts.moves(PEER, [0, 1, 2], HOST, [0, 1, 2])),
            mover.submit(parts.moves(HOST, [0, 1, 2], POOL, [4, 5, 6])),
        ]
    assert all(c.error is None for c in parts.drain(mover, clock, pending))
    mover.close()


def test_a_lost_arena_is_a_completion_with_an_error() -> None:
    """The host could not have foreseen it, so it is no refusal: the ticket completes."""
    stores, clock = parts.make_stores(), clocks.MonotonicClock()
    mover = xla.XlaMover(stores, clock)
    lost = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    parts.drain(mover, clock, [lost])
    stores[PEER].close()
    failing = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    working = mover.submit(parts.moves(POOL, [1], HOST, [0]))
    by_ticket = {c.ticket: c for c in parts.drain(mover, clock, [failing, working])}
    assert "device arena 2 was closed" in str(by_ticket[failing.id].error)
    assert by_ticket[failing.id].bytes == 0
    assert by_ticket[working.id].error is None
    mover.close()


def test_stores_that_do_not_fit_are_refused_at_once() -> None:
    clock = clocks.MonotonicClock()
    stores = parts.make_stores()
    with pytest.raises(errors.ConfigError, match="given as space 9, but its space is 1"):
        xla.XlaMover({9: stores[POOL]}, clock)
    four = paged.PagedPool(9, 3, parts.PAGE_SHAPE, jnp.float32, sharding=parts.on(0, 1, 2, 3))
    two = arenas.DeviceArena(8, 3, parts.PAGE_SHAPE, jnp.float32, sharding=parts.on(0, 1))
    with pytest.raises(errors.ConfigError, match="cannot send pages from"):
        xla.XlaMover({9: four, 8: two}, clock)


@parts.needs_native
def test_native_memory_is_out_of_reach() -> None:
    stores = parts.make_stores("single, native arenas")
    with pytest.raises(errors.ConfigError, match=r"device arena 2 is a NativeArena.*the ffi mover"):
        xla.XlaMover(stores, clocks.MonotonicClock())
    for store in stores.values():
        store.close()


def test_pages_of_two_kinds_live_side_by_side_but_do_not_mix() -> None:
    clock = clocks.MonotonicClock()
    stores = parts.make_stores()
    stores[9] = arenas.DeviceArena(9, 3, (8,), jnp.float32, sharding=parts.on(1))
    mover = xla.XlaMover(stores, clock)
    with pytest.raises(errors.MoveError, match="of two kinds"):
        mover.submit(parts.moves(POOL, [1], 9, [0]))
    mover.close()


def test_a_rebuild_gives_fresh_arenas_and_leaves_the_pool() -> None:
    stores, clock = parts.make_stores(), clocks.MonotonicClock()
    mover = xla.XlaMover(stores, clock)
    page = np.ones((1, *stores[POOL].page_shape), np.float32)
    stores[POOL].write([1], page)
    stores[PEER].write([0], page)
    stores[HOST].write([0], page)
    mover.rebuild()
    for space in (PEER, HOST):
        assert not stores[space].snapshot([0]).any()
    np.testing.assert_array_equal(stores[POOL].snapshot([1]), page)
    (done,) = parts.drain(mover, clock, [mover.submit(parts.moves(POOL, [1], PEER, [0]))])
    assert done.error is None
    np.testing.assert_array_equal(stores[PEER].snapshot([0]), page)
    mover.close()
