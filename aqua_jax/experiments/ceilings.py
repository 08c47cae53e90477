"""What this machine can do at most: bytes read and products summed in a second.

Knows: threads, numpy, products of matrices. Does not know: what it is compared with.
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.loops import linear, packed
from aqua_jax.memory import huge_pages, native

_SIZE = 2048  # of the matrices: 16 MiB each in float32


class MemoryReader:
    """Reads memory once through, with a thread for every core: what any kernel is bounded by."""

    def __init__(self, nbytes: int) -> None:
        threads = len(os.sched_getaffinity(0))
        self._parts = np.array_split(np.ones(nbytes // 4, np.float32), threads)
        self.nbytes = sum(part.nbytes for part in self._parts)
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, "read")

    def __enter__(self) -> MemoryReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def read(self) -> None:
        list(self._threads.map(np.max, self._parts))


def read_rate(nbytes: int, *, repeats: int) -> float:
    """Bytes read in a second, the median; more than the caches hold is to be read."""
    with MemoryReader(nbytes) as reader:
        reader.read()
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            reader.read()
            seconds.append(time.perf_counter() - begin)
    return reader.nbytes / statistics.median(seconds)


def product_rate(dtype: str = "float32", *, repeats: int) -> float:
    """Floating-point operations in a second of a product of large matrices, the best.

    On all cores, of XLA in float32, of the native library in bfloat16, which XLA multiplies
    slowly. The best: it stands for what the machine can do, not for what it did.
    """
    matrix = jnp.ones((_SIZE, _SIZE), dtype)
    if dtype == "float32":
        multiply = functools.partial(jax.jit(jnp.matmul), matrix, matrix)
    else:
        native.load()
        packs = jax.jit(packed.pack)(matrix)
        huge_pages.advise([packs.panels])
        apply = jax.jit(lambda x, weights: linear.apply(x, weights, jnp.int32(_SIZE)))
        multiply = functools.partial(apply, matrix, packs)
    jax.block_until_ready(multiply())
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(multiply())
        seconds.append(time.perf_counter() - begin)
    return 2 * _SIZE**3 / min(seconds)
