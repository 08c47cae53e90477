"""Many actors on one virtual clock: each gets a turn when something happened to it, and only then.

Knows: time, whose turn it is. Does not know: what an actor does. Nobody is polled, so what an
event costs does not depend on how many others there are.

Each actor has a seat: a clock that is the world's, but for whom `wake` calls.

    RESTING --wake, or wakes_at() has come--> READY --turns until one does nothing--> RESTING

All that is due at a moment happens first; then those who are READY get their turns, in the order
in which they became so. An engine alone in a world does what `Engine.step` does in a loop.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets

_TURNS_MAX = 100_000  # of one actor at one moment


class Actor(Protocol):
    """Whoever does something between events: an engine, a lender."""

    def turn(self) -> bool:
        """Takes in what happened and does what is due. Never waits. True: worth another turn."""
        ...

    def wakes_at(self) -> float:
        """The clock second at which a turn is due though nothing happens; infinite: none is."""
        ...


class World:
    """The clock, and whose turn it is. events: moments at which something happened, so far."""

    def __init__(self) -> None:
        self.clock = clocks.VirtualClock()
        self.events = 0
        self._ready: collections.deque[Seat] = collections.deque()

    def seat(self) -> Seat:
        """A clock for one actor, who is to take it."""
        return Seat(self.clock, self._ready.append)

    def run(self, until: float) -> None:
        """Lets happen what is due up to that second. Then time is where the last of it was."""
        until_ns = clocks.nanoseconds(until)
        while True:
            while self._ready:
                self._ready.popleft().take_turns()
            if not self.clock.run_next(until_ns):
                return
            self.events += 1


class Seat:
    """An actor's clock: the world's time; `wake` gives this actor a turn."""

    def __init__(self, clock: clocks.VirtualClock, make_ready: Callable[[Seat], None]) -> None:
        self._clock = clock
        self._make_ready = make_ready
        self._actor: Actor | None = None
        self._is_ready = False
        self._timer_ns = -1  # of its timers the one that counts
        self._timers: set[int] = set()
        self.now = clock.now
        self.at = clock.at
        self.at_ns = clock.at_ns

    def take(self, actor: Actor) -> None:
        """The seat is this actor's, who gets a first turn."""
        if self._actor is not None:
            raise errors.InternalError("a seat was taken twice: each actor needs one of its own")
        self._actor = actor
        self.wake()

    @property
    def now_ns(self) -> int:
        """The time in nanoseconds."""
        return self._clock.now_ns

    def wake(self) -> None:
        """RESTING -> READY."""
        if not self._is_ready and self._actor is not None:
            self._is_ready = True
            self._make_ready(self)

    def completed(self) -> None:
        """RESTING -> READY: tickets are the actor's own."""
        self.wake()

    def wait(self, pending: Sequence[tickets.Ticket], until: float) -> list[tickets.Ticket]:
        """Waits as the world's clock does. Others get no turn meanwhile: for an actor's end."""
        return self._clock.wait(pending, until)

    def take_turns(self) -> None:
        """READY -> RESTING."""
        actor = self._actor
        assert actor is not None
        self._is_ready = False  # what wakes it in its own turn gives it another
        for _ in range(_TURNS_MAX):
            if not actor.turn():
                break
        else:
            raise errors.InternalError(f"{actor} does something in each of {_TURNS_MAX} turns")
        self._set_timer(actor.wakes_at())

    def _set_timer(self, wakes_at: float) -> None:
        if wakes_at == math.inf:
            self._timer_ns = -1
            return
        at_ns = max(clocks.nanoseconds(wakes_at), self._clock.now_ns)
        self._timer_ns = at_ns
        if at_ns not in self._timers:
            self._timers.add(at_ns)
            self._clock.at_ns(at_ns, lambda: self._ring(at_ns))

    def _ring(self, at_ns: int) -> None:
        self._timers.discard(at_ns)
        if at_ns == self._timer_ns:
            self.wake()
