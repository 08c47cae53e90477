"""The transfer threads of a native library, and the one thread that waits for what they did.

Knows: native tickets, completions, arrays whose failure means that a ticket
will never be reached. Does not know: moves, pools, clocks. Completions of a
library come out of one queue, so the movers over it share one `Transfers`:

    share() --first--> the library starts       submit() -> expected --completion--> deliver
    release() --last--> drained, closed, joined

A ticket of a pool begins when the pool's array reaches its program. If the
array is lost before that, the program never runs; its token fails instead
(XLA hands the error on), and the ticket is abandoned here, within the time of
one turn of the waiting thread.
"""

from __future__ import annotations

import atexit
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from aqua_jax.control import errors
from aqua_jax.memory import native_abi, native_library

CLOSE_SECONDS = 10.0  # for copies under way, before what they touch is given up
_TURN_SECONDS = 0.2  # how late a lost array may be noticed

_log = logging.getLogger(__name__)

Deliver = Callable[[native_abi.Completion], None]

_sharing = threading.Lock()
_shared: dict[native_library.Library, Transfers] = {}


def share(library: native_library.Library, *, threads: int, cores: Sequence[int] = ()) -> Transfers:
    """The running transfers of `library`, started if need be; `release` them in the end.

    Raises ConfigError when they run with other threads or cores.
    """
    with _sharing:
        transfers = _shared.get(library)
        if transfers is None:
            transfers = _shared[library] = Transfers(library, threads=threads, cores=cores)
        if (transfers.threads, transfers.cores) != (threads, tuple(cores)):
            raise errors.ConfigError(
                f"asked for {threads} transfer threads on cores {tuple(cores)}, but "
                f"{transfers.threads} run on {transfers.cores}: give all movers of a process the "
                "same, or close the others first"
            )
        transfers.users += 1
        return transfers


@dataclasses.dataclass(slots=True)
class _Expected:
    """An open ticket. `token`: fails when the array that should reach it is lost."""

    deliver: Deliver
    token: Any = None  # a jax.Array; its stubs lack `is_ready`


class Transfers:
    """Made by `share`. Any thread may call it."""

    def __init__(
        self, library: native_library.Library, *, threads: int, cores: Sequence[int]
    ) -> None:
        self.threads = threads
        self.cores = tuple(cores)
        self.users = 0
        self._library = library
        self._expected: dict[int, _Expected] = {}
        self._changed = threading.Condition()
        self._closing = False
        library.start(threads, cores=cores)
        self._thread = threading.Thread(target=self._work, name="native copies", daemon=True)
        self._thread.start()
        # After the library's own, so it runs before: tickets are drained first.
        atexit.register(self._close)

    def submit(self, open_ticket: Callable[[], int], deliver: Deliver) -> int:
        """Calls `open_ticket` and returns its ticket, whose completion goes to `deliver`.

        `deliver` runs on the waiting thread, once.
        """
        with self._changed:  # so that no completion comes before it is expected
            ticket = open_ticket()
            self._expected[ticket] = _Expected(deliver)
        return ticket

    def watch(self, ticket: int, token: jax.Array) -> None:
        """`ticket` fails when `token`, a result of the program that should reach it, does."""
        with self._changed:
            if ticket in self._expected:
                self._expected[ticket].token = token

    def abandon(self, ticket: int, why: str) -> None:
        """The program that should have reached `ticket` will not run: it fails.

        One that was reached, or is complete, is left to what became of it.
        """
        try:
            self._library.ticket_abandon(ticket, why)
        except errors.NativeError as error:
            if error.code not in (native_abi.Code.STALE, native_abi.Code.INVALID):
                raise

    def settle(self, wanted: Iterable[int], seconds: float) -> list[int]:
        """Waits until the tickets were delivered, at most `seconds`; those that were not."""
        wanted = list(wanted)
        deadline = time.monotonic() + seconds
        with self._changed:
            while left := [ticket for ticket in wanted if ticket in self._expected]:
                if (remaining := deadline - time.monotonic()) <= 0:
                    break
                self._changed.wait(remaining)
            return left

    def release(self) -> None:
        """One user less. The last one's closes the library, once what it does is done."""
        with _sharing:
            self.users -= 1
            if not self.users:
                del _shared[self._library]
                self._close()

    def _close(self) -> None:
        """Waits (bounded) for what is under way, fails the rest, ends the threads. Idempotent."""
        atexit.unregister(self._close)
        self.settle(list(self._expected), CLOSE_SECONDS)
        self._library.close(CLOSE_SECONDS)  # completes everything; the thread delivers it
        self._closing = True
        self._library.wake()
        self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        while True:
            closing = self._closing  # read before the wait: what came before it is delivered
            completions = self._library.wait(_TURN_SECONDS)
            for completion in completions:
                self._deliver(completion)
            self._abandon_lost()
            if closing and not completions:
                return

    def _deliver(self, completion: native_abi.Completion) -> None:
        with self._changed:
            expected = self._expected.get(completion.ticket)
        if expected is None:  # opened past this class, by a test of the library; or no ticket's
            if not completion.ticket and completion.error is not None:
                _log.error("a program on a pool was none of its tickets': %s", completion.error)
            return
        try:
            expected.deliver(completion)
        except Exception:  # one mover's; the others' tickets depend on this thread
            _log.exception("the completion of native ticket %d was lost", completion.ticket)
        with self._changed:
            del self._expected[completion.ticket]
            self._changed.notify_all()

    def _abandon_lost(self) -> None:
        with self._changed:
            tokens = [(t, e.token) for t, e in self._expected.items() if e.token is not None]
        for ticket, token in tokens:
            if not token.is_ready():
                continue
            try:
                token.block_until_ready()  # is ready: raises or returns
            except Exception as error:  # whatever took the array
                self._abandon_one(ticket, f"its pool was lost before it was reached: {error}")
            with self._changed:
                if ticket in self._expected:
                    self._expected[ticket].token = None

    def _abandon_one(self, ticket: int, why: str) -> None:
        try:
            self.abandon(ticket, why)
        except errors.NativeError:  # the other tickets depend on this thread
            _log.exception("native ticket %d could not be abandoned", ticket)
