"""What pools and arenas of every make are to movers, decorators and tests.

Knows: pages by index, their bytes on the host, checksums, an end. Does not
know: arrays, programs, native memory: a mover that needs those says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import jax
import numpy as np

from aqua_jax.control import errors


class PageStore(Protocol):
    """Pages addressed by (space, index). One thread calls it, the engine's."""

    @property
    def label(self) -> str:
        """How errors name it ("pool 0", "host arena 2")."""
        ...

    @property
    def space(self) -> int:
        """Its id in places."""
        ...

    @property
    def indices(self) -> range:
        """The page indices that hold state."""
        ...

    @property
    def page_shape(self) -> tuple[int, ...]:
        """One page over all shards."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Of one element."""
        ...

    @property
    def sharding(self) -> jax.sharding.Sharding:
        """How a page is cut into parts: that of the array, or of the pool whose pages it takes."""
        ...

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all shards; replicated shards count each."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of the memory that it takes, over all shards."""
        ...

    def snapshot(self, indices: Sequence[int]) -> np.ndarray:
        """A copy `[len(indices), *page_shape]`, never a view. Waits for programs enqueued on it."""
        ...

    def write(self, indices: Sequence[int], values: np.ndarray) -> None:
        """Writes host values `[len(indices), *page_shape]`. Waits until written.

        Raises MoveError for values of another shape or dtype.
        """
        ...

    def check_indices(self, indices: Sequence[int]) -> None:
        """Raises MoveError for an index that holds no state (out of range, scratch)."""
        ...

    def checksums(self, indices: Sequence[int]) -> Sequence[jax.Array | np.ndarray]:
        """Checksums (`programs.checksum`) of pages as of now: `uint32` vectors, batch after batch.

        Strung together they hold one for each index, in order; rows beyond are
        padding. Returns at once; equal bytes have equal sums in every store.
        """
        ...

    def warm_up_checksums(self) -> None:
        """Compiles what `checksums` needs, if anything; waits."""
        ...

    def rebuild(self) -> None:
        """Fresh memory of zeros, perhaps at another address. Everything in it is lost."""
        ...

    def close(self) -> None:
        """Gives the memory back; afterwards every use raises. Idempotent."""
        ...

    def check_integrity(self) -> None:
        """Raises unless its memory is there and where it was registered."""
        ...


def check_values(store: PageStore, count: int, values: np.ndarray) -> None:
    """Raises MoveError unless `values` are `count` pages of `store`, in shape and dtype."""
    expected = (count, *store.page_shape)
    if values.shape != expected or values.dtype != store.dtype:
        raise errors.MoveError(
            f"{store.label}: got values {values.dtype}{list(values.shape)} for {count} pages, "
            f"expected {store.dtype}{list(expected)}"
        )
