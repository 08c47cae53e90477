"""The C interface of the native library (xla_ext/aqua.h) as typed calls: ints in, ints out.

Knows: signatures, structs, error codes. Does not know: where the library lies,
jax, arrays, who may call what when. Every integer is checked against the C
type it becomes (ctypes would cut it off), and every refusal is a NativeError
with the library's own text, file and line.

ctypes releases the GIL during a call, so `wait` may block while others work.
"""

from __future__ import annotations

import array
import atexit
import ctypes
import dataclasses
import enum
import json
import operator
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from aqua_jax.control import errors

ABI_VERSION = 1
EXIT_SECONDS = 10.0  # what an interpreter that exits grants to copies under way

_WAIT_COUNT = 64  # completions taken in one call


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


class MemoryKind(enum.IntEnum):
    """`aqua_memory_kind`."""

    HOST = 1
    SHARED = 2
    DEVICE = 3


@dataclasses.dataclass(frozen=True, slots=True)
class BuildInfo:
    """What `aqua_build_info` says. `ffi_api`: (major, minor) of the headers it was built with.

    cuda: version of the toolkit, None in the CPU library.
    """

    abi: int
    ffi_api: tuple[int, int]
    compiler: str
    platform: str
    cuda: int | None


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


class Library:
    """One loaded library. All methods may be called from any thread.

    Raises NativeError: a library of another ABI version, or one without a
    function of aqua.h.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.handle = _open(path)
        self.build = _build_info(self.handle, path)
        self._functions = {
            name: _bind(self.handle, name, parameters) for name, parameters in _FALLIBLE.items()
        }
        self._wait = _declare(self.handle, "aqua_wait", _I64, [_F64, _POINTER, _I32])
        self._wake = _declare(self.handle, "aqua_wake", None, [])
        self._tickets_open = _declare(self.handle, "aqua_tickets_open", _I64, [])
        self._live_bytes = _declare(self.handle, "aqua_memory_live_bytes", _I64, [])
        self._page_bytes: dict[int, int] = {}  # of live stores: the size of what is read, written

    def start(self, threads: int, *, cores: Sequence[int] = ()) -> None:
        """Starts the transfer threads, pinned to `cores` if given; once, unless closed before.

        The interpreter closes what is still open before jax takes its devices down.
        """
        pinned = _int32s("cores", cores)
        self._functions["aqua_start"](threads, pinned if cores else None, len(cores))
        atexit.register(self.close, EXIT_SECONDS)

    def close(self, seconds: float) -> None:
        """Waits at most `seconds` for copies under way, fails the rest, joins. Idempotent."""
        atexit.unregister(self.close)
        self._functions["aqua_close"](seconds)

    def memory_allocate(self, kind: MemoryKind, nbytes: int, *, device: int = -1) -> int:
        """Zeroed memory of our own; returns its id. device: the CUDA ordinal of a DEVICE kind."""
        return self._functions["aqua_memory_allocate"](kind, nbytes, device)

    def memory_export(self, memory: int) -> int:
        """A file descriptor of it, which the caller owns and closes."""
        return self._functions["aqua_memory_export"](memory)

    def memory_import(self, kind: MemoryKind, fd: int, nbytes: int, *, device: int = -1) -> int:
        """Maps memory that another process exported; returns its id. `fd` stays the caller's."""
        return self._functions["aqua_memory_import"](kind, fd, nbytes, device)

    def memory_address(self, memory: int) -> int:
        """Where it begins in this process."""
        return self._functions["aqua_memory_address"](memory)

    def memory_free(self, memory: int) -> None:
        """Gives it up; it is scrubbed and unmapped when the last store and copy on it are gone."""
        self._functions["aqua_memory_free"](memory)

    def memory_live_bytes(self) -> int:
        """Bytes allocated or imported and not yet unmapped."""
        return self._live_bytes()

    def store_register(
        self,
        label: str,
        bases: Sequence[int],
        *,
        devices: Sequence[int],
        pages: int,
        page_bytes: int,
        memory: int = 0,
    ) -> int:
        """Registers `pages` pages of `page_bytes` a part at `bases`; returns a handle.

        devices: of each part, -1 for host memory. memory: the id that the parts lie in and that
        is kept alive with them; 0: the caller keeps them alive.
        """
        if len(bases) != len(devices):
            raise _invalid(f"store {label!r}: {len(bases)} bases for {len(devices)} devices")
        store = self._functions["aqua_store_register"](
            label.encode(), len(bases), _addresses(bases), _int32s("devices", devices),
            pages, page_bytes, memory,
        )  # fmt: skip
        self._page_bytes[store] = page_bytes
        return store

    def store_slot(self, store: int) -> int:
        """The small number that stands for a live store in attention's page tables."""
        return self._functions["aqua_store_slot"](store)

    def store_retire(self, store: int, why: str) -> int:
        """No new plan may name it; returns the number of tickets still under way on it."""
        under_way = self._functions["aqua_store_retire"](store, why.encode())
        self._page_bytes.pop(store, None)
        return under_way

    def store_busy(self, store: int) -> int:
        """Tickets that are not complete on it."""
        return self._functions["aqua_store_busy"](store)

    def store_read(self, store: int, *, part: int, page: int) -> bytearray:
        """A copy of one part of one page, now: not ordered with copies under way."""
        page = operator.index(page)
        buffer = bytearray(self._size_of_page(store))
        into = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        self._functions["aqua_store_read"](store, part, page, ctypes.addressof(into))
        return buffer

    def store_write(self, store: int, data: bytes | bytearray, *, part: int, page: int) -> None:
        """Writes one part of one page, now: not ordered with copies under way."""
        expected = self._size_of_page(store)
        if len(data) != expected:
            raise _invalid(f"page {page} of store {store}: {len(data)} bytes, its pages {expected}")
        source = (ctypes.c_char * expected).from_buffer_copy(data)
        self._functions["aqua_store_write"](store, part, page, ctypes.addressof(source))

    def copy_open(
        self,
        source: int,
        target: int,
        *,
        sources: Sequence[int],
        targets: Sequence[int],
        pool: int = 0,
    ) -> int:
        """Opens copies of pages sources[i] of one store to targets[i] of another; returns a ticket.

        pool: 0 starts them at once; else the store whose array starts them when it gets there.
        """
        if len(sources) != len(targets):
            raise _invalid(f"a copy of {len(sources)} sources to {len(targets)} targets")
        return self._functions["aqua_copy_open"](
            source, target, _int32s("sources", sources), _int32s("targets", targets), len(sources),
            pool,
        )  # fmt: skip

    def fence_open(self, pool: int, awaited: Sequence[int], *, seconds: float) -> int:
        """What runs on the pool after this waits for tickets `awaited`, at most `seconds`."""
        return self._functions["aqua_fence_open"](pool, _int64s(awaited), len(awaited), seconds)

    def ticket_abandon(self, ticket: int, why: str) -> None:
        """The pool will never reach this ticket: it fails."""
        self._functions["aqua_ticket_abandon"](ticket, why.encode())

    def tickets_open(self) -> int:
        """Tickets opened and not complete."""
        return self._tickets_open()

    def wait(self, seconds: float) -> list[Completion]:
        """Completions, each once, in order; blocks at most `seconds` for the first."""
        taken = (_Completion * _WAIT_COUNT)()
        count = self._wait(seconds, ctypes.addressof(taken), _WAIT_COUNT)
        return [_completion(entry) for entry in taken[:count]]

    def wake(self) -> None:
        """Ends one running or coming `wait` early."""
        self._wake()

    def _size_of_page(self, store: int) -> int:
        if store not in self._page_bytes:
            raise errors.NativeError(
                f"{Code.STALE.name}: store {store} is not registered, or has retired; live are "
                f"{sorted(self._page_bytes)}",
                code=Code.STALE,
            )
        return self._page_bytes[store]


_I32, _I64, _F64 = ctypes.c_int32, ctypes.c_int64, ctypes.c_double
_POINTER, _TEXT = ctypes.c_void_p, ctypes.c_char_p
_BOUNDS = {_I32: 2**31, _I64: 2**63}

# Parameters of the functions that return -1 and fill in an error, which comes last.
_FALLIBLE: dict[str, list[Any]] = {
    "aqua_start": [_I32, _POINTER, _I32],
    "aqua_close": [_F64],
    "aqua_memory_allocate": [_I32, _I64, _I32],
    "aqua_memory_export": [_I64],
    "aqua_memory_import": [_I32, _I32, _I64, _I32],
    "aqua_memory_address": [_I64],
    "aqua_memory_free": [_I64],
    "aqua_store_register": [_TEXT, _I32, _POINTER, _POINTER, _I64, _I64, _I64],
    "aqua_store_slot": [_I32],
    "aqua_store_retire": [_I32, _TEXT],
    "aqua_store_busy": [_I32],
    "aqua_store_read": [_I32, _I32, _I64, _POINTER],
    "aqua_store_write": [_I32, _I32, _I64, _POINTER],
    "aqua_copy_open": [_I32, _I32, _POINTER, _POINTER, _I32, _I32],
    "aqua_fence_open": [_I32, _POINTER, _I32, _F64],
    "aqua_ticket_abandon": [_I64, _TEXT],
}


class _Error(ctypes.Structure):
    _fields_ = (
        ("code", _I32),
        ("line", _I32),
        ("file", ctypes.c_char * 48),
        ("text", ctypes.c_char * 456),
    )


class _Completion(ctypes.Structure):
    _fields_ = (
        ("ticket", _I64),
        ("bytes", _I64),
        ("opened_ns", _I64),
        ("started_ns", _I64),
        ("finished_ns", _I64),
        ("error", _Error),
    )


def _open(path: pathlib.Path) -> ctypes.CDLL:
    try:
        handle = ctypes.CDLL(str(path))
    except OSError as error:
        raise errors.NativeError(f"{path} cannot be loaded: {error}") from error
    # First of all: nothing else may be believed before the versions agree.
    version = _declare(handle, "aqua_abi_version", _I32, [])()
    if version != ABI_VERSION:
        raise errors.NativeError(
            f"{path} has ABI version {version}, this package needs {ABI_VERSION}: they were built "
            "from different sources"
        )
    return handle


def _build_info(handle: ctypes.CDLL, path: pathlib.Path) -> BuildInfo:
    text = _declare(handle, "aqua_build_info", _TEXT, [])()
    try:
        given = json.loads(text)
        major, minor = given["ffi_api"]
        return BuildInfo(
            given["abi"], (major, minor), given["compiler"], given["platform"], given["cuda"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise errors.NativeError(
            f"{path} describes itself as {text!r}, which is not the JSON that aqua.h promises"
        ) from error


def _declare(
    handle: ctypes.CDLL, name: str, result: Any, parameters: Sequence[Any]
) -> Callable[..., Any]:
    try:
        function = getattr(handle, name)
    except AttributeError:
        raise errors.NativeError(
            f"{handle._name} has no {name}: it is not this package's library, or an old one"
        ) from None
    function.restype = result
    function.argtypes = list(parameters)
    return function


def _bind(handle: ctypes.CDLL, name: str, parameters: Sequence[Any]) -> Callable[..., int]:
    """The function, with integers checked and a returned -1 raised."""
    function = _declare(handle, name, _I64, [*parameters, ctypes.POINTER(_Error)])

    def call(*arguments: Any) -> int:
        for number, (kind, given) in enumerate(zip(parameters, arguments, strict=True), 1):
            bound = _BOUNDS.get(kind)
            if bound and not -bound <= given < bound:
                raise _invalid(f"argument {number} of {name} is {given}: expected {kind.__name__}")
        error = _Error()
        result = function(*arguments, ctypes.byref(error))
        if result < 0:
            raise _native_error(error)
        return result

    return call


def _int32s(name: str, values: Sequence[int]) -> ctypes.Array[ctypes.c_int32]:
    try:
        return (_I32 * len(values)).from_buffer(array.array("i", values))
    except OverflowError:
        wrong = [value for value in values if not -(2**31) <= value < 2**31]
        raise _invalid(f"{name} {wrong} do not fit into 32 bits") from None


def _int64s(values: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    try:
        return (_I64 * len(values)).from_buffer(array.array("q", values))
    except OverflowError:
        raise _invalid(f"{list(values)} do not fit into 64 bits") from None


def _addresses(values: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (_POINTER * len(values))(*values)


def _completion(entry: _Completion) -> Completion:
    error = _native_error(entry.error) if entry.error.code != Code.OK else None
    return Completion(
        entry.ticket, entry.bytes, entry.opened_ns, entry.started_ns, entry.finished_ns, error
    )


def _native_error(error: _Error) -> errors.NativeError:
    known = error.code in Code.__members__.values()
    name = Code(error.code).name if known else f"code {error.code}"
    text = f"{name}: {error.text.decode(errors='replace')}"
    return errors.NativeError(
        text, code=error.code, file=error.file.decode(errors="replace"), line=error.line
    )


def _invalid(text: str) -> errors.NativeError:
    return errors.NativeError(f"{Code.INVALID.name}: {text}", code=Code.INVALID)
