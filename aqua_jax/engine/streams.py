"""What a client holds of its request: a bounded stream of tokens and the way it ended.

Knows: threads that read while the engine's thread writes. Does not know:
sessions, scheduling. A full stream never blocks the engine: it parks the
session until the client reads (invariant 7).
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aqua_jax.control import errors

Sink = Callable[[Sequence[Any], str, float], None]


class Stream:
    """The handle of a submitted request. Any one thread may read it.

    `sink(tokens, reason, at)`, if given, is called on the engine's thread for
    everything delivered, and nothing is kept here; it must not block.
    `reason` is "" while it lives, then "stop", "length", "abort", "deadline",
    "refused" or "error".
    """

    def __init__(
        self, id: int, *, tokens_max: int, on_room: Callable[[int], None], sink: Sink | None
    ) -> None:
        self.id = id
        self.reason = ""
        self.error: BaseException | None = None
        self.first_token_at: float | None = None
        self.ended_at: float | None = None
        self._tokens_max = tokens_max
        self._on_room = on_room
        self._sink = sink
        self._tokens: collections.deque[Any] = collections.deque()
        self._changed = threading.Condition()
        self._was_full = False

    @property
    def ended(self) -> bool:
        """True once nothing more will come; tokens may still be unread."""
        return self.ended_at is not None

    def read(self, timeout_seconds: float = 0.0) -> list[Any]:
        """All unread tokens; waits up to `timeout_seconds` for the first. Empty: none came."""
        with self._changed:
            self._changed.wait_for(lambda: self._tokens or self.ended, timeout_seconds)
            tokens = list(self._tokens)
            self._tokens.clear()
            was_full, self._was_full = self._was_full, False
        if was_full:
            self._on_room(self.id)
        return tokens

    def tokens(self, timeout_seconds: float = 60.0) -> Iterator[Any]:
        """Tokens as they come, to the end. Raises TimeoutError when none comes for so long.

        Raises the session's error when it ended with one.
        """
        while True:
            batch = self.read(timeout_seconds)
            yield from batch
            if not batch:
                if self.ended and not self._tokens:
                    break
                raise TimeoutError(f"request {self.id}: no token for {timeout_seconds} s")
        if self.error is not None:
            raise self.error

    def deliver(
        self, tokens: Sequence[Any], reason: str, at: float, error: BaseException | None
    ) -> bool:
        """Called by the engine. True when the stream is full now: the session is to be parked."""
        if self._sink is not None:
            self._note(tokens, reason, at, error)
            self._sink(tokens, reason, at)
            return False
        with self._changed:
            self._tokens.extend(tokens)
            self._note(tokens, reason, at, error)  # with the lock: who sees the end sees the tokens
            self._was_full = not reason and len(self._tokens) >= self._tokens_max
            self._changed.notify_all()
            return self._was_full

    def _note(
        self, tokens: Sequence[Any], reason: str, at: float, error: BaseException | None
    ) -> None:
        if tokens and self.first_token_at is None:
            self.first_token_at = at
        if reason:
            self.reason, self.error, self.ended_at = reason, error, at


def check_tokens_max(tokens_max: int) -> int:
    """A stream must hold at least one token."""
    if tokens_max < 1:
        raise errors.ConfigError(f"stream_tokens_max is {tokens_max}; give at least 1")
    return tokens_max
