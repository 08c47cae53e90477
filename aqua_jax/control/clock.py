"""Clocks: the only place where anybody waits.

`MonotonicClock` waits in real time and is woken by other threads;
`VirtualClock` advances only inside `wait`, from event to event, so that a
run of the production controller is exact and repeatable. Both run the
callbacks given to `at` inside `wait`, on the thread that waits, so that what
is timed (emulated links and slices) needs no thread of its own.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from aqua_jax.control import errors, tickets

_NANO = 1e9  # nanoseconds of a second


class Clock(Protocol):
    """Time in seconds, and waiting for tickets."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def wait(self, pending: Sequence[tickets.Ticket], until: float) -> list[tickets.Ticket]:
        """Waits until one of `pending` is done, `wake()` is called or `until` passes.

        Returns those of `pending` that are done, possibly none. `until` must be
        finite: nothing waits for ever.
        """
        ...

    def wake(self) -> None:
        """Ends a wait under way (or the next one). Any thread may call it."""
        ...

    def at(self, when: float, callback: Callable[[], None]) -> None:
        """Runs `callback` in the first `wait` that reaches `when` (seconds; the past means now).

        Callbacks run on the waiting thread, in order of time; they may complete
        tickets and schedule more.
        """
        ...


class EventClock(Clock, Protocol):
    """A simulated clock, of whole nanoseconds."""

    @property
    def now_ns(self) -> int:
        """The time in nanoseconds."""
        ...

    def at_ns(self, when_ns: int, callback: Callable[[], None]) -> None:
        """`at` in nanoseconds."""
        ...

    def completed(self) -> None:
        """Tickets were completed: whoever waits for them is to look."""
        ...


class MonotonicClock:
    """Real time. Threads that complete tickets or submit requests call `wake()`."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._woken = threading.Condition()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wake_pending = False

    def now(self) -> float:
        return time.monotonic() - self._start

    def at(self, when: float, callback: Callable[[], None]) -> None:
        with self._woken:
            heapq.heappush(self._events, (when, next(self._order), callback))
            self._woken.notify_all()  # a wait under way may have to end earlier

    def wait(self, pending: Sequence[tickets.Ticket], until: float) -> list[tickets.Ticket]:
        _check_finite(until)
        while True:
            self._run_due()
            with self._woken:
                finished = [t for t in pending if t.done()]
                now = self.now()
                if finished or self._wake_pending or now >= until:
                    self._wake_pending = False
                    return finished
                wakes_at = min(until, self._events[0][0]) if self._events else until
                if wakes_at > now:
                    self._woken.wait(wakes_at - now)

    def wake(self) -> None:
        with self._woken:
            self._wake_pending = True
            self._woken.notify_all()

    def _run_due(self) -> None:
        while True:
            with self._woken:
                if not self._events or self._events[0][0] > self.now():
                    return
                callback = heapq.heappop(self._events)[2]
            callback()  # outside the lock: it may wake, schedule and complete


class VirtualClock:
    """Simulated time: `at` schedules callbacks, `wait` runs them in order of time.

    Time is a whole number of nanoseconds, so that it is the same on every
    machine; a second that lies between two is taken for the later one. Equal
    times run in the order in which they were scheduled, so a run is
    repeatable. Callbacks may schedule more.
    """

    def __init__(self) -> None:
        self._now_ns = 0
        self._now = 0.0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wake_pending = False

    def now(self) -> float:
        return self._now

    @property
    def now_ns(self) -> int:
        """The time in nanoseconds."""
        return self._now_ns

    def at(self, when: float, callback: Callable[[], None]) -> None:
        """Runs `callback` when time reaches `when` (seconds; the past means now)."""
        self.at_ns(nanoseconds(when), callback)

    def at_ns(self, when_ns: int, callback: Callable[[], None]) -> None:
        """The same in nanoseconds."""
        heapq.heappush(self._events, (max(when_ns, self._now_ns), next(self._order), callback))

    def wait(self, pending: Sequence[tickets.Ticket], until: float) -> list[tickets.Ticket]:
        _check_finite(until)
        until_ns = nanoseconds(until)
        self._run_due()
        while True:
            finished = [t for t in pending if t.done()]
            if finished or self._wake_pending:
                self._wake_pending = False
                return finished
            if not self._events or self._events[0][0] > until_ns:
                self._set(max(self._now_ns, until_ns))
                return []
            self._set(self._events[0][0])
            self._run_due()

    def completed(self) -> None:
        """Nothing to do: `wait` looks whenever something happened."""

    def run_next(self, until_ns: int) -> bool:
        """Goes to the next moment at which something happens, and lets it; False: none is left.

        None is when the next lies behind `until_ns`; then time stays where it is.
        """
        if not self._events or self._events[0][0] > until_ns:
            return False
        self._set(self._events[0][0])
        self._run_due()
        return True

    def wake(self) -> None:
        self._wake_pending = True

    def _set(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._now = now_ns / _NANO

    def _run_due(self) -> None:
        while self._events and self._events[0][0] <= self._now_ns:
            heapq.heappop(self._events)[2]()


def nanoseconds(seconds: float) -> int:
    """The first whole nanosecond that is not before `seconds`.

    >>> nanoseconds(0.3), nanoseconds(0.1 + 0.2)
    (300000000, 300000001)
    """
    whole = int(seconds * _NANO)
    while whole / _NANO < seconds:
        whole += 1
    return whole


def _check_finite(until: float) -> None:
    if not until < float("inf"):
        raise errors.InternalError(f"a wait until {until} would never end: give a finite deadline")
