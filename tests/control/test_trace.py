"""The log of events forgets the oldest and counts them."""

from __future__ import annotations

from aqua_jax.control import trace


def test_the_latest_events_are_kept_and_the_others_counted() -> None:
    log = trace.EventLog(events_max=2)
    for number in range(5):
        log.add(number / 2, "leave", number, value=number + 1)
    assert list(log.events) == [trace.Event(1.5, "leave", 3, 4), trace.Event(2.0, "leave", 4, 5)]
    assert log.forgotten == 3
