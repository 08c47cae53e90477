"""Emulated links: when completions come, on either clock."""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets
from aqua_jax.memory.movers import faults, links, reference, xla
from tests.memory import parts

POOL, PEER, HOST = parts.POOL, parts.PEER, parts.HOST
LINK = links.Link(latency_seconds=0.5, bytes_per_second=2 * parts.PAGE_BYTES)  # 1 page: 1 s
LINKS = {(POOL, PEER): LINK, (PEER, POOL): LINK, (POOL, HOST): LINK}


def _linked(clock: clocks.Clock, **options: Any) -> links.LinkedMover:
    inner = reference.ReferenceMover(parts.make_stores(), clock)
    return links.LinkedMover(inner, clock, links=LINKS, tiers=parts.TIERS, **options)


def _finish_times(clock: clocks.Clock, mover: links.LinkedMover, pending: list[Any]) -> list[Any]:
    parts.drain(mover, clock, pending)
    return [ticket.finished_at for ticket in pending]


def test_latency_and_bandwidth() -> None:
    clock = clocks.VirtualClock()
    mover = _linked(clock)
    ticket = mover.submit(parts.moves(POOL, [1, 2, 3], PEER, [0, 1, 2]))
    clock.wait([], 0.0)  # the wake of the real copy
    assert clock.wait([ticket], 1.99) == []
    assert clock.now() == 1.99
    assert clock.wait([ticket], 10.0) == [ticket]
    assert clock.now() == 2.0  # 0.5 + 3 pages at half a second
    (completion,) = mover.poll()
    assert (completion.seconds, completion.bytes) == (2.0, 3 * parts.PAGE_BYTES)
    assert (mover.count, mover.late) == (1, 0)


def test_one_transfer_at_a_time_on_each_link_and_direction() -> None:
    clock = clocks.VirtualClock()
    mover = _linked(clock)
    pending = [
        mover.submit(parts.moves(POOL, [1], PEER, [0])),
        mover.submit(parts.moves(POOL, [2], PEER, [1])),  # waits for the first
        mover.submit(parts.moves(PEER, [2], POOL, [3])),  # the other direction: its own
        mover.submit(parts.moves(POOL, [4], HOST, [0])),  # another link
    ]
    assert _finish_times(clock, mover, pending) == [1.0, 2.0, 1.0, 1.0]


def test_dilation_stretches_time() -> None:
    clock = clocks.VirtualClock()
    mover = _linked(clock, dilation=4.0)
    ticket = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    assert _finish_times(clock, mover, [ticket]) == [4.0]


def test_a_transfer_starts_when_the_dispatch_it_follows_is_done() -> None:
    clock = clocks.VirtualClock()
    mover = _linked(clock)
    dispatch = tickets.Ticket("slice")
    clock.at(3.0, lambda: dispatch.complete(at=3.0))
    follows = mover.submit(parts.moves(POOL, [1], PEER, [0]), dispatch)
    behind = mover.submit(parts.moves(POOL, [2], PEER, [1]))  # first in, first out
    while not dispatch.done():
        clock.wait([dispatch], 10.0)
    assert _finish_times(clock, mover, [follows, behind]) == [4.0, 5.0]


def test_a_late_poll_does_not_delay_the_link() -> None:
    """Times are those of the link, not of whoever looks."""
    clock = clocks.VirtualClock()
    mover = _linked(clock)
    pending = [mover.submit(parts.moves(POOL, [i], PEER, [i])) for i in (1, 2)]
    clock._now = 7.5  # nobody looked for a long while
    assert [c.ticket for c in mover.poll()] == [t.id for t in pending]
    assert [t.finished_at for t in pending] == [1.0, 2.0]


def test_a_slow_real_copy_is_late() -> None:
    clock = clocks.VirtualClock()
    inner = faults.FaultyMover(
        reference.ReferenceMover(parts.make_stores(), clock),
        clock,
        faults.Faults(exact={0: faults.Fault.DELAY}, delay_seconds=5.0),
    )
    mover = links.LinkedMover(inner, clock, links=LINKS, tiers=parts.TIERS)
    slow = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    fast = mover.submit(parts.moves(POOL, [1], HOST, [0]))
    assert _finish_times(clock, mover, [slow, fast]) == [5.0, 1.0]
    assert (mover.count, mover.late) == (2, 1)


def test_spans_tell_the_time_on_the_link() -> None:
    clock, spans = clocks.VirtualClock(), []
    mover = _linked(clock, on_span=lambda *span: spans.append(span))
    pending = [
        mover.submit(parts.moves(POOL, [1], PEER, [0])),
        mover.submit(parts.moves(POOL, [2], PEER, [1])),
        mover.submit(parts.moves(PEER, [0], POOL, [3])),
    ]
    parts.drain(mover, clock, pending)
    args = {"pages": 1, "bytes": parts.PAGE_BYTES, "late": 0}
    assert sorted(spans, key=lambda span: span[:4]) == [
        ("device->peer", "page_out", 0.0, 1.0, args),
        ("device->peer", "page_out", 1.0, 2.0, args),
        ("peer->device", "page_in", 0.0, 1.0, args),
    ]


def test_real_time() -> None:
    """On the real clock a wait on the ticket alone ends when the link delivers."""
    clock = clocks.MonotonicClock()
    inner = xla.XlaMover(parts.make_stores(), clock)
    link = links.Link(latency_seconds=0.1, bytes_per_second=1e12)
    mover = links.LinkedMover(inner, clock, links={(POOL, PEER): link}, tiers=parts.TIERS)
    parts.drain(mover, clock, [mover.submit(parts.moves(POOL, [1], PEER, [0]))])  # compiles
    started = clock.now()
    ticket = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    parts.drain(mover, clock, [ticket])
    assert clock.now() - started >= 0.1
    assert ticket.finished_at == pytest.approx(started + 0.1, abs=0.05)
    mover.close()


def test_close_delivers_at_once() -> None:
    clock = clocks.VirtualClock()
    mover = _linked(clock)
    pending = [mover.submit(parts.moves(POOL, [i], PEER, [i])) for i in (1, 2)]
    mover.close()
    assert {c.ticket for c in mover.poll()} == {t.id for t in pending}


def test_what_cannot_be_is_refused() -> None:
    clock = clocks.VirtualClock()
    with pytest.raises(errors.MoveError, match="no link from space 3 to 1"):
        _linked(clock).submit(parts.moves(HOST, [1], POOL, [1]))
    with pytest.raises(errors.ConfigError, match="dilation is 0"):
        _linked(clock, dilation=0.0)
    inner = reference.ReferenceMover(parts.make_stores(), clock)
    with pytest.raises(errors.ConfigError, match="space 3 has no tier name"):
        links.LinkedMover(inner, clock, links=LINKS, tiers={POOL: "device", PEER: "peer"})
