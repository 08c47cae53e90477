"""Both clocks: waits end when they should, timed callbacks run inside them."""

from __future__ import annotations

import threading

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets

BOTH = pytest.mark.parametrize("make", [clocks.MonotonicClock, clocks.VirtualClock])


@BOTH
def test_a_wait_ends_at_its_deadline(make: type[clocks.Clock]) -> None:
    clock = make()
    assert clock.wait([tickets.Ticket()], clock.now() + 0.02) == []
    assert clock.now() >= 0.02


@BOTH
def test_a_wait_must_be_finite(make: type[clocks.Clock]) -> None:
    for until in (float("inf"), float("nan")):
        with pytest.raises(errors.InternalError, match="would never end"):
            make().wait([], until)


@BOTH
def test_a_timed_callback_completes_a_ticket_and_ends_the_wait(make: type[clocks.Clock]) -> None:
    clock, ticket = make(), tickets.Ticket()
    due = clock.now() + 0.02
    clock.at(due, lambda: ticket.complete("copied", at=due))
    assert clock.wait([ticket], due + 10.0) == [ticket]
    assert due <= clock.now() < due + 5.0
    assert ticket.result() == "copied"


@BOTH
def test_callbacks_run_in_order_of_time_and_may_schedule_more(make: type[clocks.Clock]) -> None:
    clock, ran = make(), []
    start = clock.now()
    clock.at(start + 0.02, lambda: ran.append("last"))
    clock.at(start + 0.01, lambda: ran.append("tie, first scheduled"))
    clock.at(start + 0.01, lambda: clock.at(start, lambda: ran.append("past: at once")))
    clock.wait([], start + 0.005)
    assert ran == []
    clock.wait([], start + 0.5)
    assert ran == ["tie, first scheduled", "past: at once", "last"]


@BOTH
def test_a_callback_may_wake(make: type[clocks.Clock]) -> None:
    clock = make()
    clock.at(clock.now() + 0.01, clock.wake)
    assert clock.wait([], clock.now() + 10.0) == []
    assert clock.now() < 5.0


@BOTH
def test_a_wake_before_the_wait_counts_once(make: type[clocks.Clock]) -> None:
    clock = make()
    clock.wake()
    clock.wait([], clock.now() + 10.0)
    assert clock.now() < 5.0
    until = clock.now() + 0.02
    clock.wait([], until)
    assert clock.now() >= until


def test_a_callback_scheduled_from_another_thread_shortens_a_wait() -> None:
    clock, ticket = clocks.MonotonicClock(), tickets.Ticket()
    due = clock.now() + 0.05
    thread = threading.Timer(0.02, lambda: clock.at(due, lambda: ticket.complete(at=due)))
    thread.start()
    assert clock.wait([ticket], clock.now() + 10.0) == [ticket]
    assert clock.now() < 5.0
    thread.join()


def test_virtual_time_stands_still_outside_waits_and_lands_on_events() -> None:
    clock, seen = clocks.VirtualClock(), []
    clock.at(3.25, lambda: seen.append(clock.now()))
    assert clock.now() == 0.0
    clock.wait([], 10.0)
    assert seen == [3.25]
    assert clock.now() == 10.0


def test_virtual_time_is_whole_nanoseconds_and_never_early() -> None:
    clock = clocks.VirtualClock()
    ran: list[int] = []
    clock.at(0.1 + 0.2, lambda: ran.append(clock.now_ns))  # a little more than 0.3
    clock.wait([], 0.3)
    assert (clock.now_ns, clock.now(), ran) == (300_000_000, 0.3, [])
    assert clock.run_next(until_ns=300_000_000) is False
    assert clock.run_next(until_ns=400_000_000) is True
    assert ran == [300_000_001]
    assert clock.now() >= 0.1 + 0.2


@pytest.mark.parametrize("seconds", [1e-9, 0.1, 1 / 3, 3599.999_999_999, 86_400.000_000_001])
def test_a_second_becomes_the_first_nanosecond_that_is_not_before_it(seconds: float) -> None:
    whole = clocks.nanoseconds(seconds)
    assert (whole - 1) / 1e9 < seconds
    assert seconds <= whole / 1e9
