"""A client's line to the ledger: one request at a time, the same again until its answer comes.

Knows: requests, their numbers, a port that may lose, repeat and delay what
passes. Does not know: what is asked for (`borrowing.py`, `lending.py`), how a
message travels.

    IDLE --ask--> WAITING --answer of this number--> IDLE
                   |   ^
                   +---+ the same again, when it has taken too long

An answer to any other number is late or a repeat: it is dropped. The ledger
answers the same request twice alike, so what was lost on the way, there or
back, is made up for by asking again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from aqua_jax.control import errors, leases


class Ask(NamedTuple):
    """One call of the ledger: the name of its method and what it is given.

    number: counts the asks of a line; the answer has the same.
    """

    number: int
    name: str
    arguments: Mapping[str, Any]


class Answer(NamedTuple):
    """What the ledger said: a value, or why it refused."""

    number: int
    value: Any
    error: errors.LeaseError | None = None


class Port(Protocol):
    """Carries asks to the ledger and answers back. Never waits."""

    def send(self, ask: Ask, now: float) -> None:
        """On its way; it may be lost, come twice or late."""
        ...

    def poll(self, now: float) -> list[Answer]:
        """Answers that have come since the last call."""
        ...


_CALLS = frozenset(
    ("join", "heartbeat", "leave", "grant", "release", "offer", "withdraw", "reclaim", "scrubbed")
)


class DirectPort:
    """A ledger in this process: it answers at once."""

    def __init__(self, ledger: leases.Ledger) -> None:
        self._ledger = ledger
        self._answers: list[Answer] = []

    def send(self, ask: Ask, now: float) -> None:
        self._answers.append(answer(self._ledger, ask, now))

    def poll(self, now: float) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers


def answer(ledger: leases.Ledger, ask: Ask, now: float) -> Answer:
    """What the ledger answers."""
    if ask.name not in _CALLS:
        raise errors.InternalError(f"{ask.name!r} is no call of the ledger: {sorted(_CALLS)}")
    try:
        return Answer(ask.number, getattr(ledger, ask.name)(**ask.arguments, now=now))
    except errors.LeaseError as refusal:
        return Answer(ask.number, None, refusal)


class Line:
    """One client's requests. heard_at: the ledger was there at this second, or later.

    repeats: asks that were sent again.
    """

    def __init__(self, port: Port, *, timeout_seconds: float, now: float) -> None:
        if not timeout_seconds > 0:
            raise errors.ConfigError(f"timeout_seconds is {timeout_seconds}: give more than 0")
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._number = 0
        self._asked: Ask | None = None
        self._asked_at = self._sent_at = now
        self.heard_at = now
        self.repeats = 0

    @property
    def asked(self) -> Ask | None:
        """The request that waits for its answer."""
        return self._asked

    def ask(self, name: str, now: float, **arguments: Any) -> None:
        """IDLE -> WAITING."""
        if self._asked is not None:
            raise errors.InternalError(f"{name} is asked while {self._asked} waits for its answer")
        self._number += 1
        self._asked = Ask(self._number, name, arguments)
        self._asked_at = self._sent_at = now
        self._port.send(self._asked, now)

    def poll(self, now: float) -> tuple[Ask, Answer] | None:
        """WAITING -> IDLE with the answer, if it has come; asks again if it is late."""
        for one in self._port.poll(now):
            if self._asked is not None and one.number == self._asked.number:
                asked, self._asked = self._asked, None
                self.heard_at = self._asked_at
                return asked, one
        if self._asked is not None and now >= self._sent_at + self._timeout_seconds:
            self._sent_at = now
            self.repeats += 1
            self._port.send(self._asked, now)
        return None

    def forget(self, now: float) -> None:
        """WAITING -> IDLE: nobody wants that answer any more."""
        self._asked = None
        self.heard_at = now

    def wakes_at(self) -> float:
        """When the request is sent again; infinite when none waits."""
        return math.inf if self._asked is None else self._sent_at + self._timeout_seconds
