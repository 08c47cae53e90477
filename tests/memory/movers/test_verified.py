"""A corrupted copy never passes for a good one."""

from __future__ import annotations

import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets
from aqua_jax.memory.movers import faults, verified, xla
from tests.memory import parts

POOL, PEER, HOST = parts.POOL, parts.PEER, parts.HOST


@pytest.mark.parametrize("layout", ["single", "mesh 2 to mesh 2", "mesh 2 to single"])
def test_corruption_becomes_an_error_that_names_the_page(layout: str) -> None:
    clock, stores = clocks.MonotonicClock(), parts.make_stores(layout)
    stores[POOL].write(range(1, 13), parts.pages(12))
    plan = faults.Faults(seed=1, exact={1: faults.Fault.CORRUPT, 4: faults.Fault.CORRUPT})
    inner = faults.FaultyMover(
        xla.XlaMover(stores, clock), clock, plan, corrupt=faults.byte_flipper(stores)
    )
    mover = verified.VerifiedMover(inner, clock, stores)
    pending = [
        mover.submit(parts.moves(POOL, [1, 2, 3], PEER, [0, 1, 2])),
        mover.submit(parts.moves(POOL, [4], PEER, [7])),  # corrupted
        mover.submit(parts.moves(POOL, [5, 6], HOST, [0, 1])),
        mover.submit(parts.moves(HOST, [0], POOL, [7])),
        mover.submit(parts.moves(POOL, [8], HOST, [3])),  # corrupted
    ]
    by_ticket = {c.ticket: c for c in parts.drain(mover, clock, pending)}
    failed = [by_ticket[ticket.id].error is not None for ticket in pending]
    assert failed == [False, True, False, False, True]
    assert "pages [7] of device arena 2 arrived changed from pool 1" in str(
        by_ticket[pending[1].id].error
    )
    mover.close()


def test_every_random_corruption_is_found() -> None:
    clock, stores = clocks.MonotonicClock(), parts.make_stores()
    stores[POOL].write(range(1, 13), parts.pages(12))
    plan = faults.Faults(seed=8, rates={faults.Fault.CORRUPT: 0.5})
    inner = faults.FaultyMover(
        xla.XlaMover(stores, clock), clock, plan, corrupt=faults.byte_flipper(stores)
    )
    mover = verified.VerifiedMover(inner, clock, stores)
    rng = np.random.default_rng(0)
    wrong = []
    for index in range(24):
        sources = (rng.permutation(12)[:3] + 1).tolist()
        ticket = mover.submit(parts.moves(POOL, sources, PEER, [index % 7, 7, 8]))
        (completion,) = parts.drain(mover, clock, [ticket])
        if completion.error is not None:
            wrong.append(index)
    assert wrong == [index for index, _ in inner.injected]
    assert 5 < len(wrong) < 20
    mover.close()


def test_a_failed_copy_keeps_its_own_error() -> None:
    clock, stores = clocks.MonotonicClock(), parts.make_stores()
    inner = faults.FaultyMover(
        xla.XlaMover(stores, clock), clock, faults.Faults(exact={0: faults.Fault.FAIL})
    )
    mover = verified.VerifiedMover(inner, clock, stores)
    ticket = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    (completion,) = parts.drain(mover, clock, [ticket])
    assert "injected" in str(completion.error)
    mover.close()


def test_what_a_later_program_writes_to_the_source_is_no_corruption() -> None:
    clock, stores = clocks.MonotonicClock(), parts.make_stores()
    stores[POOL].write([1], parts.pages(1))
    mover = verified.VerifiedMover(xla.XlaMover(stores, clock), clock, stores)
    ticket = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    stores[POOL].write([1], parts.pages(1, seed=2))  # e.g. the tail of the page grows
    (completion,) = parts.drain(mover, clock, [ticket])
    assert completion.error is None
    np.testing.assert_array_equal(stores[PEER].snapshot([0]), parts.pages(1))
    mover.close()


@pytest.mark.parametrize("holds", [True, False])
def test_sums_taken_behind_a_fence_that_did_not_hold_are_no_verdict(
    holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page is sent on while it arrives: it is summed behind a fence."""
    clock, stores = clocks.MonotonicClock(), parts.make_stores()
    inner = xla.XlaMover(stores, clock)
    mover = verified.VerifiedMover(inner, clock, stores)

    def fence(space: int) -> tickets.Ticket:
        passed = tickets.Ticket(f"a fence on {space}")
        if holds:
            passed.complete(at=0.0)
        else:
            passed.fail(errors.MoveError("it did not hold"), at=0.0)
        return passed

    monkeypatch.setattr(inner, "fence", fence)
    pending = [
        mover.submit(parts.moves(PEER, [0], POOL, [1])),
        mover.submit(parts.moves(POOL, [1, 2], HOST, [0, 1])),
    ]
    by_ticket = {c.ticket: c.error for c in parts.drain(mover, clock, pending)}
    assert by_ticket[pending[0].id] is None
    assert str(by_ticket[pending[1].id]) == ("None" if holds else "it did not hold")
    mover.close()
