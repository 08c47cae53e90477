"""Bare copies move the bytes that they are told to, at the pace that they are told to."""

from __future__ import annotations

import time

import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.memory import bare_copy, native
from tests.memory import parts

pytestmark = parts.needs_native


@pytest.fixture
def copies() -> bare_copy.BareCopy:
    return bare_copy.BareCopy(native.load())


@pytest.mark.parametrize("threads", [1, 3])
def test_every_range_arrives_and_nothing_else(copies: bare_copy.BareCopy, threads: int) -> None:
    source, target = np.arange(64, dtype=np.uint8), np.zeros(64, np.uint8)
    moved = [(0, 8, 8), (16, 0, 4), (32, 32, 16)]
    ranges = [bare_copy.Range(source.ctypes.data + a, target.ctypes.data + b, n)
              for a, b, n in moved]  # fmt: skip
    assert copies.copy(ranges, threads=threads) > 0
    expected = np.zeros(64, np.uint8)
    for a, b, n in moved:
        expected[b : b + n] = source[a : a + n]
    assert np.array_equal(target, expected)


def test_a_stream_keeps_its_rate_and_ends(copies: bare_copy.BareCopy) -> None:
    source, target = np.arange(64, dtype=np.uint8), np.zeros(64, np.uint8)
    ranges = [bare_copy.Range(source.ctypes.data + i, target.ctypes.data + i, 16)
              for i in range(0, 64, 16)]  # fmt: skip
    stream = copies.stream(ranges, bytes_per_second=3200)  # a range every 5 ms
    time.sleep(0.1)
    rate = stream.stop()
    assert 640 <= rate <= 3200 + 160 / 0.1  # one more than is due, at most; slow machines do less
    assert np.array_equal(target, source)


def test_ranges_that_make_no_sense_are_refused(copies: bare_copy.BareCopy) -> None:
    with pytest.raises(errors.InternalError, match="no ranges"):
        copies.copy([])
    uneven = [bare_copy.Range(1, 2, 3), bare_copy.Range(1, 2, 4)]
    with pytest.raises(errors.InternalError, match="of one size"):
        copies.stream(uneven, bytes_per_second=1.0)
