"""A thread that waits for device arrays so that the engine's thread never does.

Knows: jax arrays become ready, in the order in which they were handed over.
Does not know: what they hold. The engine waits only in its clock.

A process that exits while a watcher waits inside XLA would abort, so watchers
that were not closed are closed (bounded) before the interpreter goes.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable
from typing import Any

import jax

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets

_CLOSE_SECONDS = 10.0
_open: set[ReadyWatcher] = set()


class ReadyWatcher:
    """Completes tickets when their arrays are ready, first in first out.

    `finish`, if given, runs on the watcher's thread once the arrays are ready
    (a copy off the device, say); what it returns is the ticket's result.
    """

    def __init__(self, clock: clocks.Clock, name: str) -> None:
        self._clock = clock
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        _open.add(self)

    def watch(
        self,
        arrays: Any,
        ticket: tickets.Ticket,
        finish: Callable[[], Any] | None = None,
    ) -> None:
        """Completes `ticket` once every array of the pytree `arrays` is ready."""
        self._queue.put((arrays, ticket, finish))

    def close(self) -> None:
        """Waits (bounded) for what is watched, then ends the thread. Idempotent."""
        _open.discard(self)
        self._queue.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            arrays, ticket, finish = item
            try:
                jax.block_until_ready(arrays)
                result = finish() if finish is not None else None
            except BaseException as error:  # reported through the ticket, to the engine's thread
                ticket.fail(error, at=self._clock.now())
            else:
                ticket.complete(result, at=self._clock.now())
            del item, arrays, finish
            self._clock.wake()


def _close_all() -> None:
    for watcher in list(_open):
        watcher.close()


# After jax registered its own, so it runs before the backends are torn down.
atexit.register(_close_all)
