"""The native library as typed calls: ints in, ints out. xla_ext/aqua.h says what each one does.

Knows: the functions, sizes of the pages it reads and writes. Does not know:
where the library lies (`native.py`), arrays, who may call what when.

The GIL is released during a call, so `wait` may block while others work.
"""

from __future__ import annotations

import atexit
import ctypes
import dataclasses
import enum
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from aqua_jax.control import errors
from aqua_jax.memory import native_abi

EXIT_SECONDS = 10.0  # what an interpreter that exits grants to copies under way

_WAIT_COUNT = 64  # completions taken in one call

Code = native_abi.Code
Completion = native_abi.Completion


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


class Library:
    """One loaded library. All methods may be called from any thread.

    Raises NativeError when the file at `path` is not a library of this ABI version.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._functions = native_abi.Functions(path)
        self.build = _build_info(self._functions["aqua_build_info"](), path)
        self._page_bytes: dict[int, int] = {}  # of live stores: the size of what is read, written

    def capsule(self, handler: str) -> Any:
        """An FFI handler of the library as a PyCapsule. Raises NativeError when it has none."""
        return jax.ffi.pycapsule(self._functions.symbol(handler))

    def start(self, threads: int, *, cores: Sequence[int] = ()) -> None:
        """Starts the transfer threads, pinned to `cores` if given; once, unless closed before.

        The interpreter closes what is still open before jax takes its devices down.
        """
        pinned = native_abi.int32s("cores", cores) if cores else None
        self._functions["aqua_start"](threads, pinned, len(cores))
        atexit.register(self.close, EXIT_SECONDS)

    def close(self, seconds: float) -> None:
        """Waits at most `seconds` for copies under way, fails the rest, joins. Idempotent."""
        atexit.unregister(self.close)
        self._functions["aqua_close"](seconds)

    def memory_allocate(self, kind: MemoryKind, nbytes: int, *, device: int = -1) -> int:
        """Zeroed memory of our own, all there; returns its id. Takes as long as touching it.

        device: the CUDA ordinal of a DEVICE kind. Raises NativeError (EXHAUSTED) for more than the
        machine has left.
        """
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
        """Gives it up; it is unmapped, nothing left to read, with the last store and copy on it."""
        self._functions["aqua_memory_free"](memory)

    def memory_live_bytes(self) -> int:
        """Bytes allocated or imported that are held, or used still by a store or a copy."""
        return self._functions["aqua_memory_live_bytes"]()

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
            raise native_abi.invalid(
                f"store {label!r}: {len(bases)} bases for {len(devices)} devices"
            )
        store = self._functions["aqua_store_register"](
            label.encode(),
            len(bases),
            native_abi.addresses(bases),
            native_abi.int32s("devices", devices),
            pages,
            page_bytes,
            memory,
        )
        self._page_bytes[store] = page_bytes
        return store

    def store_slot(self, store: int) -> int:
        """The small number that stands for a live store in attention's page tables."""
        return self._functions["aqua_store_slot"](store)

    def store_at(self, address: int) -> int:
        """The live store with a part that begins at `address`. Raises NativeError for none."""
        return self._functions["aqua_store_at"](address)

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
        buffer = bytearray(self._size_of_page(store))
        into = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        self._functions["aqua_store_read"](store, part, page, ctypes.addressof(into))
        return buffer

    def store_write(self, store: int, data: bytes | bytearray, *, part: int, page: int) -> None:
        """Writes one part of one page, now: not ordered with copies under way."""
        expected = self._size_of_page(store)
        if len(data) != expected:
            raise native_abi.invalid(
                f"{len(data)} bytes for page {page} of store {store}, whose pages have {expected}"
            )
        source = (ctypes.c_char * expected).from_buffer_copy(data)
        self._functions["aqua_store_write"](store, part, page, ctypes.addressof(source))

    def store_clear(self, store: int) -> None:
        """Zeros in every page, now: not ordered with copies under way."""
        self._functions["aqua_store_clear"](store)

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
            raise native_abi.invalid(f"a copy of {len(sources)} sources to {len(targets)} targets")
        return self._functions["aqua_copy_open"](
            source,
            target,
            native_abi.int32s("sources", sources),
            native_abi.int32s("targets", targets),
            len(sources),
            pool,
        )

    def fence_open(self, pool: int, awaited: Sequence[int], *, seconds: float) -> int:
        """What runs on the pool after this waits for tickets `awaited`, at most `seconds`."""
        tickets = native_abi.int64s("tickets", awaited)
        return self._functions["aqua_fence_open"](pool, tickets, len(awaited), seconds)

    def ticket_abandon(self, ticket: int, why: str) -> None:
        """The pool will never reach this ticket: it fails."""
        self._functions["aqua_ticket_abandon"](ticket, why.encode())

    def tickets_open(self) -> int:
        """Tickets opened and not complete."""
        return self._functions["aqua_tickets_open"]()

    def wait(self, seconds: float) -> list[Completion]:
        """Completions, each once, in order; blocks at most `seconds` for the first."""
        taken = (native_abi.CompletionStruct * _WAIT_COUNT)()
        count = self._functions["aqua_wait"](seconds, ctypes.addressof(taken), _WAIT_COUNT)
        return [native_abi.completion(entry) for entry in taken[:count]]

    def wake(self) -> None:
        """Ends one running or coming `wait` early."""
        self._functions["aqua_wake"]()

    def _size_of_page(self, store: int) -> int:
        if store not in self._page_bytes:
            raise errors.NativeError(
                f"{Code.STALE.name}: store {store} is not registered, or has retired; live are "
                f"{sorted(self._page_bytes)}",
                code=Code.STALE,
            )
        return self._page_bytes[store]


def _build_info(text: bytes, path: pathlib.Path) -> BuildInfo:
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
