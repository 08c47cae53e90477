"""Tickets: promises for work that runs elsewhere (a dispatch, a batch of copies).

Knows: completion, its time, and that a result is read once.
Does not know: who waits (`clock.py`), what runs, jax.

        PENDING --complete()--> DONE --result()--> READ
           |                                        ^
           +------fail()------> FAILED --result()---+   (raises)
"""

from __future__ import annotations

import itertools
from typing import Any

from aqua_jax.control import errors

_ids = itertools.count(1)


class Ticket:
    """The handle of a submitted batch of moves or of a dispatch.

    `done()` never blocks. `result()` is read once: it returns what `complete`
    was given or raises what `fail` was given. `finished_at` is in the seconds
    of the clock of whoever completes it, None while pending.
    Completed by exactly one thread; read by the engine's.
    """

    __slots__ = ("_done", "_error", "_read", "_result", "finished_at", "id", "label", "started_at")

    def __init__(self, label: str = "", *, started_at: float = 0.0) -> None:
        self.id = next(_ids)
        self.label = label
        self.started_at = started_at
        self.finished_at: float | None = None
        self._done = False
        self._read = False
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """True once completed or failed. Never blocks."""
        return self._done

    @property
    def error(self) -> BaseException | None:
        """The failure, or None while pending or when it succeeded. Does not count as reading."""
        return self._error

    def complete(self, result: Any = None, *, at: float) -> None:
        """PENDING -> DONE at clock time `at` (seconds)."""
        self._finish(at)
        self._result = result
        self._done = True

    def fail(self, error: BaseException, *, at: float) -> None:
        """PENDING -> FAILED at clock time `at` (seconds)."""
        self._finish(at)
        self._error = error
        self._done = True

    def result(self) -> Any:
        """The result, once. Raises the failure, or InternalError when pending or read before."""
        if not self._done:
            raise errors.InternalError(f"{self!r} is pending: wait for it with clock.wait first")
        if self._read:
            raise errors.InternalError(f"{self!r} was read before: a result is read once")
        self._read = True
        if self._error is not None:
            raise self._error
        result, self._result = self._result, None
        return result

    def _finish(self, at: float) -> None:
        if self._done:
            raise errors.InternalError(f"{self!r} completed twice")
        self.finished_at = at

    def __repr__(self) -> str:
        state = "pending" if not self._done else "failed" if self._error else "done"
        return f"Ticket({self.id}, {self.label or 'unnamed'}, {state})"
