"""Pages in one array: what pools and arenas have in common, and all that a mover needs of them.

Knows: page indices, batches, scratch. Does not know: who owns a page, where
the other side of a copy is. Nobody outside gets at the array: `resident.py`
keeps it, `programs.py` has the programs that read and write it.

Batches are padded to powers of two with the scratch page, so that few programs
are compiled: `warm_up()` compiles them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from aqua_jax.control import errors, types
from aqua_jax.memory import page_store, partition, programs, resident

BATCH_PAGES_MAX = 64  # beyond this the fixed cost of a batch no longer shows
# Of one batch, on each side: a send of 64 MiB over NVLink 4 reaches 0.94 of its peak rate.
STAGING_BYTES_MAX = 64 * types.MIB


class PageArray:
    """Pages `[pages + scratch, *page_shape]` addressed by (space, index).

    Base of `paged.PagedPool` and of the arenas, which override nothing. A
    `page_store.PageStore`, and what movers through XLA need beyond that.

    indices: the page indices that hold state. scratch: the index that padding
    reads and writes. sharding: over any axes but the first.
    """

    def __init__(
        self,
        label: str,
        space: int,
        *,
        indices: range,
        scratch: int,
        page_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        sharding: jax.sharding.Sharding,
    ) -> None:
        _check_layout(label, len(indices), sharding)
        self.label = label
        self.space = space
        self.indices = indices
        self.scratch = scratch
        self.page_shape = tuple(page_shape)
        self._resident = resident.ResidentArray(
            label, (len(indices) + 1, *page_shape), dtype=dtype, sharding=sharding
        )
        self.dtype = self._resident.dtype
        self.sharding = sharding
        self._replicas = partition.of(sharding, self.page_shape).replicas
        self.staging_sharding = programs.staging_sharding(sharding)
        self._ids_sharding = programs.replicated_sharding(sharding)
        self._gather = programs.gather(sharding)
        self._scatter = programs.scatter(sharding)
        self._checksum = programs.checksum(self.staging_sharding)

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all shards; replicated shards count each."""
        return self._replicas * math.prod(self.page_shape) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array over all shards, scratch included."""
        return (len(self.indices) + 1) * self.page_bytes

    @property
    def addresses(self) -> tuple[int, ...]:
        """Where each shard lies, for native code. Fixed until `rebuild`."""
        return self._resident.addresses

    def before_release(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` before the memory is given back or replaced: for who knows `addresses`.

        Returns what takes it back.
        """
        return self._resident.before_release(callback)

    @property
    def batch_pages_max(self) -> int:
        """Pages of the largest batch, a power of two: bounds the memory that staging takes."""
        fit = max(1, STAGING_BYTES_MAX // self.page_bytes)
        return min(BATCH_PAGES_MAX, 1 << (fit.bit_length() - 1))

    def run(self, program: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
        """`program(array, *args) -> (array, *rest)`, donating its first argument; returns the rest.

        Enqueues and returns. Raises PoolLostError when the array was lost or
        moved, InternalError when the program does not donate.
        """
        return self._resident.run(program, *args)

    def read(self, program: Callable[..., Any], *args: Any) -> Any:
        """`program(array, *args)` for a program that only gathers. Enqueues and returns."""
        return self._resident.read(program, *args)

    def gather(self, indices: Sequence[int]) -> jax.Array:
        """Stages at most `batch_pages_max` pages: `[n, *page_shape]`, `n` the next power of two.

        What the array holds after all programs enqueued so far. Rows beyond
        `len(indices)` are scratch. Enqueues and returns.
        """
        return self._resident.read(self._gather, self._padded(indices))

    def scatter(self, indices: Sequence[int], staged: jax.Array) -> jax.Array:
        """Writes rows of `staged` (as from `gather`) to pages; a token ready when they are written.

        Enqueues and returns. The token is a tiny array of its own.
        """
        (token,) = self._resident.run(self._scatter, self._padded(indices), staged)
        return token

    def checksums(self, indices: Sequence[int]) -> list[jax.Array]:
        """Checksums of pages as of now, `uint32[n]` for each batch. Enqueues and returns."""
        step = self.batch_pages_max
        batches = [indices[first : first + step] for first in range(0, len(indices), step)]
        return [self._checksum(self.gather(batch)) for batch in batches]

    def warm_up_checksums(self) -> None:
        """Compiles the checksum of every batch size; waits."""
        jax.block_until_ready([self.checksums([self.scratch] * pages) for pages in self.buckets()])

    def snapshot(self, indices: Sequence[int]) -> np.ndarray:
        """A copy `[len(indices), *page_shape]`, never a view. Waits for what was enqueued."""
        self.check_indices(indices)
        pages = [np.array(jax.device_get(self.gather([index])))[0] for index in indices]
        return np.stack(pages) if pages else np.zeros((0, *self.page_shape), self.dtype)

    def write(self, indices: Sequence[int], values: np.ndarray) -> None:
        """Writes host values `[len(indices), *page_shape]` page by page. Waits until written."""
        self.check_indices(indices)
        page_store.check_values(self, len(indices), values)
        for row, index in enumerate(indices):
            staged = jax.device_put(values[row : row + 1], self.staging_sharding, may_alias=False)
            jax.block_until_ready(self.scatter([index], staged))

    def check_indices(self, indices: Sequence[int]) -> None:
        """Raises MoveError for an index that holds no state (out of range, scratch)."""
        for index in indices:
            if index not in self.indices:
                what = "the scratch page" if index == self.scratch else "out of range"
                raise errors.MoveError(
                    f"index {index} of {self.label} is {what}: expected "
                    f"{self.indices.start} to {self.indices.stop - 1}"
                )

    def buckets(self) -> list[int]:
        """The batch sizes for which programs are compiled: 1, 2, 4 ... `batch_pages_max`."""
        return [1 << k for k in range(self.batch_pages_max.bit_length())]

    def rebuild(self) -> None:
        """A fresh array of zeros after PoolLostError. Everything in it is lost."""
        self._resident.rebuild()

    def close(self) -> None:
        """Waits for writes in flight and frees the memory; afterwards every use raises."""
        self._resident.close()

    def check_integrity(self) -> None:
        """Raises unless the array is live at its registered address."""
        self._resident.check_integrity()

    def _padded(self, indices: Sequence[int]) -> jax.Array:
        if not 0 < len(indices) <= self.batch_pages_max:
            raise errors.InternalError(
                f"a batch of {len(indices)} pages of {self.label}: expected 1 to "
                f"{self.batch_pages_max}; split the plan"
            )
        ids = np.full(1 << (len(indices) - 1).bit_length(), self.scratch, np.int32)
        ids[: len(indices)] = indices
        return jax.device_put(ids, self._ids_sharding)


def _check_layout(label: str, pages: int, sharding: jax.sharding.Sharding) -> None:
    if pages < 1:
        raise errors.ConfigError(f"{label} would hold {pages} pages: at least 1 is needed")
    if isinstance(sharding, jax.sharding.NamedSharding):
        spec = sharding.spec
        if len(spec) and spec[0] is not None:
            raise errors.ConfigError(
                f"{label} is sharded by {spec} over its pages (axis 0): a page must have a part on "
                "every device, so shard another axis, e.g. kv_heads"
            )
    elif not isinstance(sharding, jax.sharding.SingleDeviceSharding):
        raise errors.ConfigError(
            f"{label} got a {type(sharding).__name__}: expected a SingleDeviceSharding or a "
            "NamedSharding"
        )
