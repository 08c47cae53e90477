"""Arenas in memory of the native library: outside XLA, sharable with other processes.

Knows: native memory and its registration, how the pool cuts a page into parts.
Does not know: jax arrays, who copies, which slot is in use.

    memory: [parts][slots][part bytes]

Each part of a page lies beside the same part of the neighbouring slots, so a
run of slots is one copy in every part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.control import errors
from aqua_jax.memory import native_library, page_store, partition, programs

Kind = Literal["host", "shared", "device"]

_KINDS = {
    "host": native_library.MemoryKind.HOST,
    "shared": native_library.MemoryKind.SHARED,
    "device": native_library.MemoryKind.DEVICE,
}
_PART_ALIGNMENT_BYTES = 64  # a part begins on a cache line, whatever the page size


class NativeArena:
    """Slots 0 to slots - 1 for pages of a pool; a `page_store.PageStore` for the ffi mover.

    pool_sharding: of the pool whose pages it takes; its parts are cut alike.
    kind: "host" (page-locked where there is a GPU), "shared" (host memory that
    other processes can map) or "device" (of CUDA device `device`, outside XLA's
    pool; on CPU ordinary memory).
    descriptor: as from another process's `export` of an arena of the same
    layout: maps that memory. It stays the caller's.

    All of its memory is taken, and touched, at once: more than there is raises
    NativeError here. Nobody can read what it held once its last copy has
    completed after `close`; what was mapped is its owner's to zero. `snapshot`
    and `write` are not ordered with copies.
    """

    def __init__(  # noqa: PLR0913  # the layout, then where it lies: each is asked for by itself
        self,
        space: int,
        slots: int,
        page_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        pool_sharding: jax.sharding.Sharding,
        library: native_library.Library,
        kind: Kind = "host",
        device: int = 0,
        descriptor: int | None = None,
    ) -> None:
        if kind not in _KINDS:
            raise errors.ConfigError(
                f"arena {space} got kind {kind!r}{errors.close_match(kind, _KINDS)}"
            )
        self.label = f"{kind} arena {space}"
        if slots < 1:
            raise errors.ConfigError(f"{self.label} would hold {slots} pages: at least 1 is needed")
        self.space = space
        self.indices = range(slots)
        self.page_shape = tuple(page_shape)
        self.dtype = jnp.dtype(dtype)
        self.sharding = pool_sharding
        self._partition = partition.of(pool_sharding, self.page_shape)
        self._part_bytes = math.prod(self._partition.part_shape) * self.dtype.itemsize
        self._stride = _round_up(slots * self._part_bytes, _PART_ALIGNMENT_BYTES)
        self._library = library
        on_device = kind == "device" and library.build.platform == "cuda"
        ordinal = device if on_device else -1
        self.nbytes = self._partition.parts * self._stride
        if descriptor is None:
            self._memory = library.memory_allocate(_KINDS[kind], self.nbytes, device=ordinal)
        else:
            self._memory = library.memory_import(
                _KINDS[kind], descriptor, self.nbytes, device=ordinal
            )
        try:
            self._handle: int | None = self._register(ordinal)
        except errors.NativeError:
            library.memory_free(self._memory)
            raise

    @property
    def slots(self) -> int:
        """Slots that can hold a page."""
        return self.indices.stop

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all parts; replicated parts count each."""
        return self._partition.parts * self._part_bytes

    @property
    def handle(self) -> int:
        """Its handle in native plans. Raises InternalError once closed."""
        if self._handle is None:
            raise errors.InternalError(
                f"{self.label} was closed and its memory given back: nothing may use it any more"
            )
        return self._handle

    @property
    def addresses(self) -> tuple[int, ...]:
        """Where slot 0 of each part begins. Raises InternalError once closed."""
        self.check_integrity()
        return self._bases()

    def export(self) -> int:
        """A descriptor of its memory, which the caller owns: to send over a Unix socket, to close.

        Raises NativeError for memory that cannot leave the process.
        """
        self.check_integrity()
        return self._library.memory_export(self._memory)

    def snapshot(self, indices: Sequence[int]) -> np.ndarray:
        """A copy `[len(indices), *page_shape]` of what the slots hold now."""
        self.check_indices(indices)
        pages = np.empty((len(indices), *self.page_shape), self.dtype)
        for page, index in zip(pages, indices, strict=True):
            self._partition.join(
                [self._read(part, index) for part in range(self._partition.parts)], page
            )
        return pages

    def write(self, indices: Sequence[int], values: np.ndarray) -> None:
        """Writes host values `[len(indices), *page_shape]`."""
        self.check_indices(indices)
        page_store.check_values(self, len(indices), values)
        for page, index in zip(values, indices, strict=True):
            for part, data in enumerate(self._partition.split(page)):
                self._library.store_write(self.handle, data.tobytes(), part=part, page=index)

    def check_indices(self, indices: Sequence[int]) -> None:
        """Raises MoveError for an index that is no slot."""
        for index in indices:
            if index not in self.indices:
                raise errors.MoveError(
                    f"index {index} of {self.label} is out of range: expected 0 to {self.slots - 1}"
                )

    def checksums(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Checksums of slots as of now: one batch, `uint32[len(indices)]`."""
        return [programs.checksum_on_host(self.snapshot(indices))]

    def warm_up_checksums(self) -> None:
        """Nothing is compiled: the host sums."""

    def rebuild(self) -> None:
        """Zeros in every slot. Raises InternalError while copies are under way."""
        if busy := self._library.store_busy(self.handle):
            raise errors.InternalError(
                f"{self.label} is to be made anew while {busy} copies are under way on it"
            )
        self._library.store_clear(self.handle)

    def close(self) -> None:
        """Gives the memory back once the copies under way on it have completed. Idempotent."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.store_retire(handle, f"{self.label} was closed")
            self._library.memory_free(self._memory)

    def check_integrity(self) -> None:
        """Raises unless it is open and registered."""
        self._library.store_slot(self.handle)

    def _register(self, ordinal: int) -> int:
        bases = self._bases()
        return self._library.store_register(
            self.label,
            bases,
            devices=[ordinal] * len(bases),
            pages=self.slots,
            page_bytes=self._part_bytes,
            memory=self._memory,
        )

    def _bases(self) -> tuple[int, ...]:
        first = self._library.memory_address(self._memory)
        return tuple(first + part * self._stride for part in range(self._partition.parts))

    def _read(self, part: int, index: int) -> np.ndarray:
        data = self._library.store_read(self.handle, part=part, page=index)
        return np.frombuffer(data, self.dtype).reshape(self._partition.part_shape)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
