"""Copies with nothing around them, by the native library: what a mover on CPU is measured against.

Knows: addresses, byte ranges, threads. Does not know: pages, arrays, order. It
writes where it is told to, behind the back of whoever owns the memory: only
for benchmarks, on arrays that nothing is running on. xla_ext/cpu/bare_copy.h.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from aqua_jax.control import errors
from aqua_jax.memory import native_library


class Range(NamedTuple):
    """Bytes to copy from one address to another."""

    source: int
    target: int
    bytes: int


class BareCopy:
    """Memcpy in the CPU library. Raises NativeError for a library that lacks it."""

    def __init__(self, library: native_library.Library) -> None:
        handle = ctypes.CDLL(str(library.path))
        try:
            self._copy, self._stream = handle.aqua_bare_copy, handle.aqua_bare_stream
        except AttributeError:
            raise errors.NativeError(
                f"{library.path} has no bare copies: only the CPU library has, built from the "
                "same sources as this package"
            ) from None
        self._copy.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32]
        self._copy.restype = ctypes.c_int64
        self._stream.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
        self._stream.restype = ctypes.c_int64

    def copy(self, ranges: Sequence[Range], *, threads: int = 1) -> float:
        """Copies every range once; the seconds that took. The threads share them range by range."""
        structs = _structs(ranges)
        nanoseconds = self._copy(structs, len(ranges), threads)
        if nanoseconds < 0:
            raise errors.NativeError(f"{threads} threads for a bare copy cannot be had")
        return nanoseconds * 1e-9

    def stream(self, ranges: Sequence[Range], *, bytes_per_second: float) -> Stream:
        """Begins to copy range after range at a steady rate, on a thread of its own."""
        return Stream(self._stream, ranges, bytes_per_second)


class Stream:
    """Copies that go on until `stop`. The ranges are of one size."""

    def __init__(self, call: Any, ranges: Sequence[Range], bytes_per_second: float) -> None:
        if len({each.bytes for each in ranges}) != 1:
            raise errors.InternalError("a stream of bare copies needs ranges of one size")
        self._bytes = ranges[0].bytes
        self._structs = _structs(ranges)
        self._stopped = ctypes.c_int32(0)
        self._copied = 0
        self._begun_at = time.perf_counter()
        period_ns = round(self._bytes / bytes_per_second * 1e9)
        self._thread = threading.Thread(
            target=self._run, args=(call, len(ranges), period_ns), name="bare copies", daemon=True
        )
        self._thread.start()

    def stop(self) -> float:
        """Ends it and waits for the last copy; bytes copied in a second."""
        self._stopped.value = 1
        self._thread.join()
        return self._copied * self._bytes / (time.perf_counter() - self._begun_at)

    def _run(self, call: Any, count: int, period_ns: int) -> None:
        self._copied = call(self._structs, count, period_ns, ctypes.addressof(self._stopped))


class _RangeStruct(ctypes.Structure):
    """`aqua_range`."""

    _fields_ = (
        ("source", ctypes.c_void_p),
        ("target", ctypes.c_void_p),
        ("bytes", ctypes.c_int64),
    )


def _structs(ranges: Sequence[Range]) -> ctypes.Array[_RangeStruct]:
    if not ranges:
        raise errors.InternalError("a bare copy of no ranges: expected at least one")
    return (_RangeStruct * len(ranges))(*(_RangeStruct(*each) for each in ranges))
