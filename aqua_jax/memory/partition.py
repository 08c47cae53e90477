"""How pages are cut into parts, one for each device of a sharding.

Knows: index ranges of shards. Does not know: memory, arrays, who copies. Two
stores whose partitions are equal hold the same bytes of a page in the same
part, so native code can copy part by part.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Partition:
    """The parts of one page `[*page_shape]`.

    bounds: [parts][axes], (start, stop) of what each part holds, in the order
    of the sharding's devices. Parts with equal bounds are replicas.
    """

    page_shape: tuple[int, ...]
    bounds: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def parts(self) -> int:
        """Devices, and so parts."""
        return len(self.bounds)

    @property
    def part_shape(self) -> tuple[int, ...]:
        """Of a part; all are of one shape."""
        return tuple(stop - start for start, stop in self.bounds[0])

    @property
    def replicas(self) -> int:
        """Parts that hold each element; more than one where there are fewer heads than devices."""
        return self.parts * math.prod(self.part_shape) // math.prod(self.page_shape)

    def split(self, page: np.ndarray) -> list[np.ndarray]:
        """The parts of a page, each contiguous."""
        return [np.ascontiguousarray(page[index]) for index in self._slices]

    def join(self, parts: Sequence[np.ndarray], page: np.ndarray) -> None:
        """Writes the parts to their places in `page`; of replicas the last is taken."""
        for index, part in zip(self._slices, parts, strict=True):
            page[index] = part

    @functools.cached_property
    def _slices(self) -> list[tuple[slice, ...]]:
        return [tuple(slice(*axis) for axis in bounds) for bounds in self.bounds]


def of(sharding: jax.sharding.Sharding, page_shape: tuple[int, ...]) -> Partition:
    """The partition of the pages of an array `[pages, *page_shape]` of this sharding."""
    shape = (1, *page_shape)
    bounds = tuple(
        tuple(index.indices(size)[:2] for index, size in zip(indices[1:], page_shape, strict=True))
        for indices in sharding.devices_indices_map(shape).values()
    )
    return Partition(page_shape, bounds)
