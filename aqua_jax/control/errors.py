"""Errors: what was given, what was expected, what to do.

`AquaError` is the base of all. `InternalError` is the one class that means a
bug of ours; every other class is about input, capacity or hardware.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AquaError(Exception):
    """Base of every error this package raises on purpose."""


class InternalError(AquaError):
    """A broken invariant: our bug. Please report it with the message."""


class ConfigError(AquaError, ValueError):
    """A setting that is unknown, of the wrong type or out of range."""


class RequestError(AquaError, ValueError):
    """A request that can never run: malformed, or longer than all memory."""


class QueueFullError(AquaError):
    """A bounded queue is full: retry later or raise its limit."""


class TraceError(AquaError, ValueError):
    """A workload file that cannot be read; names file, line and what was expected."""


class MoveError(AquaError):
    """A batch of page moves failed: its targets keep their old contents or are void."""


class PoolLostError(AquaError):
    """The pool array was destroyed or moved; the runner must be rebuilt."""


class LeaseError(AquaError, ValueError):
    """A call that the ledger of leases refuses: nothing was lent, moved or given back by it."""


class UnknownClientError(LeaseError):
    """The ledger does not know this lender or borrower, or counts it as gone: join again."""


class StaleRequestError(LeaseError):
    """A late message: of a client's former life, or before the latest that was answered."""


class StaleGrantError(LeaseError):
    """A grant that is no more; what it held is lost or given back. Drop what refers to it."""


class ForeignGrantError(LeaseError):
    """A grant of another borrower."""


class UnitsError(LeaseError):
    """An amount, or units, that cannot be: negative, more than there are, not the caller's."""


class NativeError(AquaError):
    """The native library refused, or cannot be used: what it was given and what it expected.

    code: of `aqua_code` in xla_ext/aqua.h; None: not from the library, which then did not load.
    file, line: where in its source it was raised.
    """

    def __init__(
        self, message: str, *, code: int | None = None, file: str = "", line: int = 0
    ) -> None:
        super().__init__(f"{message} ({file}:{line})" if file else message)
        self.code = code
        self.file = file
        self.line = line


def close_match(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: `, did you mean 'cfs'?`, or the list of what is known.

    >>> close_match("cfx", ["fcfs", "cfs"])
    " (did you mean 'cfs'?)"
    """
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return f" (known: {', '.join(options)})"
