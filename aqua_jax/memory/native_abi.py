"""How a call crosses into the native library: the C types, structs and errors of xla_ext/aqua.h.

Knows: signatures, codes, which integers fit, how an error comes back. Does not
know: what the functions mean (`native_library.py`), where a library lies.

ctypes cuts integers off silently and has no idea of errors; here an integer
that does not fit and a function that returns -1 both raise NativeError.
"""

from __future__ import annotations

import array
import ctypes
import dataclasses
import enum
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from aqua_jax.control import errors

ABI_VERSION = 2

_I32, _I64, _F64 = ctypes.c_int32, ctypes.c_int64, ctypes.c_double
_POINTER, _TEXT = ctypes.c_void_p, ctypes.c_char_p

# Parameters of the functions that return -1 and fill in an error, which comes last.
FALLIBLE: dict[str, tuple[Any, ...]] = {
    "aqua_start": (_I32, _POINTER, _I32),
    "aqua_close": (_F64,),
    "aqua_memory_allocate": (_I32, _I64, _I32),
    "aqua_memory_export": (_I64,),
    "aqua_memory_import": (_I32, _I32, _I64, _I32),
    "aqua_memory_address": (_I64,),
    "aqua_memory_free": (_I64,),
    "aqua_store_register": (_TEXT, _I32, _POINTER, _POINTER, _I64, _I64, _I64),
    "aqua_store_slot": (_I32,),
    "aqua_store_at": (_POINTER,),
    "aqua_store_retire": (_I32, _TEXT),
    "aqua_store_busy": (_I32,),
    "aqua_store_read": (_I32, _I32, _I64, _POINTER),
    "aqua_store_write": (_I32, _I32, _I64, _POINTER),
    "aqua_store_clear": (_I32,),
    "aqua_copy_open": (_I32, _I32, _POINTER, _POINTER, _I32, _I32),
    "aqua_fence_open": (_I32, _POINTER, _I32, _F64),
    "aqua_ticket_abandon": (_I64, _TEXT),
}
# The others: result, parameters.
PLAIN: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "aqua_abi_version": (_I32, ()),
    "aqua_build_info": (_TEXT, ()),
    "aqua_memory_live_bytes": (_I64, ()),
    "aqua_tickets_open": (_I64, ()),
    "aqua_wait": (_I64, (_F64, _POINTER, _I32)),
    "aqua_wake": (None, ()),
}

_BOUNDS = {_I32: 2**31, _I64: 2**63}


class Code(enum.IntEnum):
    """`aqua_code`."""

    OK = 0
    INVALID = 1
    STALE = 2
    OUT_OF_RANGE = 3
    EXHAUSTED = 4
    UNAVAILABLE = 5
    TIMEOUT = 6
    INTERNAL = 7
    CLOSED = 8


class ErrorStruct(ctypes.Structure):
    """`aqua_error`."""

    _fields_ = (
        ("code", _I32),
        ("line", _I32),
        ("file", ctypes.c_char * 48),
        ("text", ctypes.c_char * 456),
    )


class CompletionStruct(ctypes.Structure):
    """`aqua_completion`."""

    _fields_ = (
        ("ticket", _I64),
        ("bytes", _I64),
        ("opened_ns", _I64),
        ("started_ns", _I64),
        ("finished_ns", _I64),
        ("error", ErrorStruct),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """What became of a ticket. Times are of the clock that `time.monotonic_ns` reads.

    bytes: over all parts, 0 when it failed. started_ns: 0 when no copy began.
    """

    ticket: int
    bytes: int
    opened_ns: int
    started_ns: int
    finished_ns: int
    error: errors.NativeError | None


class Functions:
    """The functions of aqua.h in the library at `path`, by name, ready to be called.

    Raises NativeError for what is no library, one of another ABI version, or one that lacks a
    function.
    """

    def __init__(self, path: pathlib.Path) -> None:
        try:
            self._handle = ctypes.CDLL(str(path))
        except OSError as error:
            raise errors.NativeError(f"{path} cannot be loaded: {error}") from error
        self._path = path
        # First of all: nothing else may be believed before the versions agree.
        version = self._declare("aqua_abi_version", *PLAIN["aqua_abi_version"])()
        if version != ABI_VERSION:
            raise errors.NativeError(
                f"{path} has ABI version {version}, this package needs {ABI_VERSION}: they come "
                "from different sources"
            )
        self._callables = {name: self._declare(name, *PLAIN[name]) for name in PLAIN}
        self._callables |= {name: self._raising(name, FALLIBLE[name]) for name in FALLIBLE}

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._callables[name]

    def symbol(self, name: str) -> Any:
        """What the library exports under `name`: an FFI handler, say."""
        try:
            return getattr(self._handle, name)
        except AttributeError:
            raise errors.NativeError(
                f"{self._path} has no {name}: it is not this package's library, or an old one"
            ) from None

    def _declare(self, name: str, result: Any, parameters: Sequence[Any]) -> Callable[..., Any]:
        function = self.symbol(name)
        function.restype = result
        function.argtypes = list(parameters)
        return function

    def _raising(self, name: str, parameters: Sequence[Any]) -> Callable[..., int]:
        """The function, with its integers checked and a returned -1 raised."""
        function = self._declare(name, _I64, [*parameters, ctypes.POINTER(ErrorStruct)])

        def call(*arguments: Any) -> int:
            for number, (kind, given) in enumerate(zip(parameters, arguments, strict=True), 1):
                bound = _BOUNDS.get(kind)
                if bound and not -bound <= given < bound:
                    raise invalid(
                        f"argument {number} of {name} is {given}, which does not fit {kind}"
                    )
            error = ErrorStruct()
            result = function(*arguments, ctypes.byref(error))
            if result < 0:
                raise native_error(error)
            return result

        return call


def int32s(name: str, values: Sequence[int]) -> ctypes.Array[ctypes.c_int32]:
    """`values` as a C array. Raises NativeError for one that does not fit; `name` says whose."""
    try:
        return (_I32 * len(values)).from_buffer(array.array("i", values))
    except OverflowError:
        wrong = [value for value in values if not -(2**31) <= value < 2**31]
        raise invalid(f"{name} {wrong} do not fit 32 bits") from None


def int64s(name: str, values: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    """`int32s` for 64 bits."""
    try:
        return (_I64 * len(values)).from_buffer(array.array("q", values))
    except OverflowError:
        wrong = [value for value in values if not -(2**63) <= value < 2**63]
        raise invalid(f"{name} {wrong} do not fit 64 bits") from None


def addresses(values: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    """`values` as a C array of pointers."""
    return (_POINTER * len(values))(*values)


def completion(entry: CompletionStruct) -> Completion:
    """The struct as a value of Python's, with its error if it has one."""
    error = native_error(entry.error) if entry.error.code != Code.OK else None
    return Completion(
        entry.ticket, entry.bytes, entry.opened_ns, entry.started_ns, entry.finished_ns, error
    )


def native_error(error: ErrorStruct) -> errors.NativeError:
    """The library's error: its code by name, its text, file and line."""
    known = {code.value: code.name for code in Code}
    name = known.get(error.code, f"code {error.code}")
    text = f"{name}: {error.text.decode(errors='replace')}"
    file = error.file.decode(errors="replace")
    return errors.NativeError(text, code=error.code, file=file, line=error.line)


def invalid(text: str) -> errors.NativeError:
    """A refusal that the library need not be asked for."""
    return errors.NativeError(f"{Code.INVALID.name}: {text}", code=Code.INVALID)
