"""Many small arrays in one int32 vector: one transfer a program instead of ten.

Knows: names, shapes, offsets, how a vector gets to a program. Does not know: what the fields mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Sharding

_T = TypeVar("_T")


def int32(*shape: int) -> jax.ShapeDtypeStruct:
    """A field of `shape`; `int32()` is a scalar."""
    return jax.ShapeDtypeStruct(shape, np.int32)


class _Field(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int  # in words


class Packing:
    """Fields of int32 and float32, one after the other.

    fields: name -> shape and dtype. A float32 travels as its bits.
    """

    def __init__(self, fields: Mapping[str, jax.ShapeDtypeStruct]) -> None:
        self._fields: dict[str, _Field] = {}
        self.size = 0
        for name, field in fields.items():
            self._fields[name] = _Field(tuple(field.shape), np.dtype(field.dtype), self.size)
            self.size += math.prod(field.shape)

    def host(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """A fresh vector of zeros and, by name, writable views into it."""
        vector = np.zeros(self.size, np.int32)
        return vector, self.views(vector)

    def views(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """The fields of a vector on the host, by name."""
        return {
            name: np.ndarray(field.shape, field.dtype, vector, vector.itemsize * field.start)
            for name, field in self._fields.items()
        }

    def unpack(self, vector: jax.Array) -> dict[str, jax.Array]:
        """The fields of a vector on the device, by name. For use inside jit."""
        arrays = {}
        for name, field in self._fields.items():
            end = field.start + math.prod(field.shape)
            part = vector[field.start : end].reshape(field.shape)
            arrays[name] = lax.bitcast_convert_type(part, field.dtype)
        return arrays

    def pack(self, arrays: Mapping[str, jax.Array]) -> jax.Array:
        """The vector of all fields on the device. For use inside jit."""
        parts = [lax.bitcast_convert_type(arrays[name], np.int32) for name in self._fields]
        return jnp.concatenate([part.reshape(-1) for part in parts])


def hand(call: Callable[[np.ndarray | jax.Array], _T], vector: np.ndarray, whole: Sharding) -> _T:
    """`call(vector)`, which enqueues a program on the devices of `whole`: its one transfer.

    jax may read the vector until the program has run, so nobody may write to it any more.
    """
    if whole.num_devices > 1:
        return call(jax.device_put(vector, whole))
    # One device takes it from the host in the call itself, at a tenth of what device_put costs.
    with jax.transfer_guard_host_to_device("allow"):
        return call(vector)
