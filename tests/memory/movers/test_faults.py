"""Faults come where they are asked for, and the same again with the same seed."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors
from aqua_jax.memory.movers import faults, reference
from tests.memory import parts

POOL, PEER = parts.POOL, parts.PEER
FAIL, DELAY, REORDER, CORRUPT = faults.Fault


def _faulty(stores: parts.Stores, clock: clocks.Clock, plan: faults.Faults) -> faults.FaultyMover:
    inner = reference.ReferenceMover(stores, clock)
    return faults.FaultyMover(inner, clock, plan, corrupt=faults.byte_flipper(stores))


def test_a_failure_copies_nothing() -> None:
    clock, stores = clocks.VirtualClock(), parts.make_stores()
    old = parts.pages(2)
    stores[PEER].write([0, 1], old)
    mover = _faulty(stores, clock, faults.Faults(exact={1: FAIL}))
    works = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    fails = mover.submit(parts.moves(POOL, [2], PEER, [1]))
    by_ticket = {c.ticket: c for c in parts.drain(mover, clock, [works, fails])}
    assert by_ticket[works.id].error is None
    assert isinstance(by_ticket[fails.id].error, errors.MoveError)
    np.testing.assert_array_equal(stores[PEER].snapshot([1]), old[1:])
    assert mover.injected == [(1, FAIL)]


def test_a_delay() -> None:
    clock, stores = clocks.VirtualClock(), parts.make_stores()
    mover = _faulty(stores, clock, faults.Faults(exact={0: DELAY}, delay_seconds=2.0))
    slow = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    quick = mover.submit(parts.moves(POOL, [1], PEER, [1]))
    assert [c.ticket for c in mover.poll()] == [quick.id]
    parts.drain(mover, clock, [slow])
    assert slow.finished_at == 2.0


def test_a_reordered_completion_comes_after_the_next() -> None:
    clock, stores = clocks.VirtualClock(), parts.make_stores()
    mover = _faulty(stores, clock, faults.Faults(exact={0: REORDER, 2: REORDER}))
    first, second = (mover.submit(parts.moves(POOL, [1], PEER, [i])) for i in (0, 1))
    assert [c.ticket for c in mover.poll()] == [second.id, first.id]
    last = mover.submit(parts.moves(POOL, [1], PEER, [2]))  # nothing follows: it comes all the same
    parts.drain(mover, clock, [last])
    assert last.finished_at == pytest.approx(0.01)


def test_corruption_is_one_byte_and_silent() -> None:
    clock, stores = clocks.VirtualClock(), parts.make_stores()
    values = parts.pages(3)
    stores[POOL].write([1, 2, 3], values)
    mover = _faulty(stores, clock, faults.Faults(seed=5, exact={0: CORRUPT}))
    ticket = mover.submit(parts.moves(POOL, [1, 2, 3], PEER, [0, 1, 2]))
    (completion,) = parts.drain(mover, clock, [ticket])
    assert completion.error is None
    arrived = stores[PEER].snapshot([0, 1, 2])
    assert np.count_nonzero(arrived.view(np.uint8) != values.view(np.uint8)) == 1
    np.testing.assert_array_equal(stores[POOL].snapshot([1, 2, 3]), values)


def test_rates_are_met_and_replay() -> None:
    rates = {FAIL: 0.1, DELAY: 0.2, CORRUPT: 0.05}
    drawn = [faults.Faults(seed=3, rates=rates).of(i) for i in range(4000)]
    counts = collections.Counter(drawn)
    assert counts[FAIL] == pytest.approx(400, rel=0.15)
    assert counts[DELAY] == pytest.approx(800, rel=0.15)
    assert counts[CORRUPT] == pytest.approx(200, rel=0.25)
    assert drawn == [faults.Faults(seed=3, rates=rates).of(i) for i in range(4000)]
    assert drawn != [faults.Faults(seed=4, rates=rates).of(i) for i in range(4000)]
    assert drawn[17] == faults.Faults(seed=3, rates=rates).of(17)  # by index, not by history


def test_close_brings_what_was_withheld() -> None:
    clock, stores = clocks.VirtualClock(), parts.make_stores()
    mover = _faulty(stores, clock, faults.Faults(rates={DELAY: 1.0}, delay_seconds=1e6))
    pending = [mover.submit(parts.moves(POOL, [1], PEER, [i])) for i in range(3)]
    assert mover.poll() == []
    mover.close()
    assert {c.ticket for c in mover.poll()} == {t.id for t in pending}


def test_settings_that_cannot_be() -> None:
    with pytest.raises(errors.ConfigError, match="expected 0 or more, 1 in all"):
        faults.Faults(rates={FAIL: 0.7, DELAY: 0.7})
    clock = clocks.VirtualClock()
    inner = reference.ReferenceMover(parts.make_stores(), clock)
    with pytest.raises(errors.ConfigError, match="needs `corrupt`"):
        faults.FaultyMover(inner, clock, faults.Faults(rates={CORRUPT: 0.1}))
