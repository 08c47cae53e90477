"""What the control plane did, as a bounded list of events, for debugging and timelines."""

from __future__ import annotations

import collections
from typing import NamedTuple

_EVENTS_MAX = 65_536


class Event(NamedTuple):
    """`name` happened to `session` at clock second `at`; `value` is the count it is about."""

    at: float
    name: str
    session: int
    value: int = 0


class EventLog:
    """The last `events_max` events; older ones are forgotten and counted."""

    def __init__(self, events_max: int = _EVENTS_MAX) -> None:
        self.events: collections.deque[Event] = collections.deque(maxlen=events_max)
        self.forgotten = 0

    def add(self, at: float, name: str, session: int, value: int = 0) -> None:
        """Records one event; O(1)."""
        if len(self.events) == self.events.maxlen:
            self.forgotten += 1
        self.events.append(Event(at, name, session, value))
