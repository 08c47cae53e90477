"""Asks the system to hold large arrays on CPU in huge pages, which are read faster.

Knows: Linux's madvise, where arrays lie. Does not know: what they are for. Advice only: what the
system does not grant changes nothing but speed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from typing import NamedTuple

import jax

_HUGE_BYTES = 2 << 20
_WORTH_BYTES = 4 * _HUGE_BYTES
_ADVISE_HUGE, _COLLAPSE = 14, 25  # MADV_HUGEPAGE; MADV_COLLAPSE, of Linux 6.1


class Range(NamedTuple):
    """Addresses [first, end) that huge pages fill."""

    first: int
    end: int


def advise(arrays: Iterable[jax.Array]) -> None:
    """Those parts of the arrays that are on CPU and large are to lie in huge pages from now on.

    Waits until the arrays are computed. Contents and addresses stay.
    """
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for array in arrays:
        for where in ranges(array):
            for advice in (_ADVISE_HUGE, _COLLAPSE):
                madvise(where.first, where.end - where.first, advice)


def ranges(array: jax.Array) -> list[Range]:
    """The whole huge pages within each of its parts on CPU, of those that are worth it."""
    if array.nbytes < _WORTH_BYTES:
        return []
    jax.block_until_ready(array)
    found = []
    for shard in array.addressable_shards:
        if shard.device.platform == "cpu" and shard.data.nbytes >= _WORTH_BYTES:
            first = shard.data.unsafe_buffer_pointer()
            end = first + shard.data.nbytes
            found.append(
                Range(-(-first // _HUGE_BYTES) * _HUGE_BYTES, end // _HUGE_BYTES * _HUGE_BYTES)
            )
    return found
