"""Limits: what is in flight stays within bounds, the rest waits in order."""

from __future__ import annotations

import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors
from aqua_jax.memory.movers import limited, links, reference, xla
from tests.memory import parts

POOL, PEER = parts.POOL, parts.PEER


def _slow(stores: parts.Stores, clock: clocks.Clock) -> links.LinkedMover:
    """One second for each plan, whatever its size."""
    second = links.Link(latency_seconds=1.0, bytes_per_second=1e30)
    return links.LinkedMover(
        reference.ReferenceMover(stores, clock),
        clock,
        links={(POOL, PEER): second, (PEER, POOL): second},
        tiers=parts.TIERS,
    )


@pytest.mark.parametrize(
    ("bytes_max", "tickets_max", "in_flight"),
    [(1 << 30, 2, 2), (3 * parts.PAGE_BYTES, 100, 3), (1, 100, 1)],
)
def test_in_flight_is_bounded(bytes_max: int, tickets_max: int, in_flight: int) -> None:
    clock, stores = clocks.VirtualClock(), parts.make_stores()
    values = parts.pages(6)
    stores[POOL].write(range(1, 7), values)
    mover = limited.LimitedMover(
        _slow(stores, clock), clock, bytes_max=bytes_max, tickets_max=tickets_max
    )
    pending = [mover.submit(parts.moves(POOL, [i + 1], PEER, [i])) for i in range(6)]
    completions = []
    while len(completions) < 6:
        assert mover.tickets_in_flight <= in_flight
        assert mover.bytes_in_flight == mover.tickets_in_flight * parts.PAGE_BYTES
        if len(completions) <= 6 - in_flight:
            assert mover.tickets_in_flight == in_flight  # and all of the room is used
        clock.wait([t for t in pending if not t.done()], clock.now() + 10)
        completions += mover.poll()
    assert [c.ticket for c in completions] == [t.id for t in pending]
    assert clock.now() == pytest.approx(6.0)  # the link carries one at a time
    np.testing.assert_array_equal(stores[PEER].snapshot(range(6)), values)


def test_order_is_kept_across_the_queue() -> None:
    """The second plan reads what the first writes, long after both were submitted."""
    clock, stores = clocks.MonotonicClock(), parts.make_stores()
    values = parts.pages(1)
    stores[POOL].write([1], values)
    mover = limited.LimitedMover(
        xla.XlaMover(stores, clock), clock, bytes_max=1 << 30, tickets_max=1
    )
    pending = [
        mover.submit(parts.moves(POOL, [1], PEER, [0])),
        mover.submit(parts.moves(PEER, [0], PEER, [1])),
        mover.submit(parts.moves(PEER, [1], POOL, [2])),
    ]
    parts.drain(mover, clock, pending)
    np.testing.assert_array_equal(stores[POOL].snapshot([2]), values)
    mover.close()


def test_a_fence_starts_what_waits() -> None:
    """What was submitted before it counts, also where it has not begun."""
    clock, stores = clocks.VirtualClock(), parts.make_stores()
    mover = limited.LimitedMover(_slow(stores, clock), clock, bytes_max=1, tickets_max=1)
    for i in range(3):
        mover.submit(parts.moves(POOL, [1], PEER, [i]))
    assert mover.tickets_in_flight == 1
    mover.fence(POOL)
    assert mover.tickets_in_flight == 3
    mover.close()


def test_the_queue_has_a_bound() -> None:
    clock, stores = clocks.VirtualClock(), parts.make_stores()
    mover = limited.LimitedMover(
        _slow(stores, clock), clock, bytes_max=1, tickets_max=1, queue_max=2
    )
    for i in range(3):
        mover.submit(parts.moves(POOL, [1], PEER, [i]))
    with pytest.raises(errors.QueueFullError, match="2 plans wait for a link: retry after"):
        mover.submit(parts.moves(POOL, [1], PEER, [3]))


def test_what_waits_at_close_fails_and_completes() -> None:
    clock, stores = clocks.VirtualClock(), parts.make_stores()
    mover = limited.LimitedMover(_slow(stores, clock), clock, bytes_max=1, tickets_max=1)
    started = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    waiting = mover.submit(parts.moves(POOL, [1], PEER, [1]))
    mover.close()
    by_ticket = {c.ticket: c for c in mover.poll()}
    assert by_ticket[started.id].error is None
    assert "closed before the copy started" in str(by_ticket[waiting.id].error)


def test_limits_below_one_are_refused() -> None:
    clock, stores = clocks.VirtualClock(), parts.make_stores()
    with pytest.raises(errors.ConfigError, match="tickets_max is 0"):
        limited.LimitedMover(_slow(stores, clock), clock, bytes_max=1, tickets_max=0)
