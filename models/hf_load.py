"""Tensors of a folder in Hugging Face layout, streamed into the leaves of a model.

Knows: devices, shardings, leaves stacked over layers. Does not know: names or arithmetic of a
family. Each leaf is allocated on its devices once and filled in place, layer by layer, in pieces:
beside the arrays, host memory holds the tensors of one layer's leaf and a few pieces.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from aqua_jax.control import errors
from models import decoder, families, hf_folder, hf_leaves, hf_match

PIECE_BYTES = 16 << 20

# Is told how many bytes of the checkpoint have been read, and of how many.
Progress = Callable[[int, int], None]


def load(
    folder: hf_folder.Folder,
    *,
    dtype: jax.typing.DTypeLike | None,
    mesh: jax.sharding.Mesh | None = None,
    progress: Progress | None = None,
    piece_bytes: int = PIECE_BYTES,
) -> decoder.CausalDecoder:
    """The model of a folder, its weights placed on the mesh as the model says.

    dtype: of computation and, but for leaves that the model has in another, of weights; None: each
    leaf stays as it is in the checkpoint. mesh: default the first device alone. piece_bytes: what
    is converted at a time.

    Raises ConfigError, before anything is allocated, for tensors that are not those of config.json.
    """
    family = families.of(folder.fields)
    shape = family.shape(folder.fields)
    leaves = family.leaves(shape)

    def fill(model: decoder.CausalDecoder) -> Any:
        hf_match.check(folder, model, leaves)
        kept = kept_dtypes(folder, model, leaves) if dtype is None else None
        wanted = targets(model, mesh, kept)
        return _fill(folder, wanted, leaves, piece_bytes=piece_bytes, progress=progress)

    return family.causal(shape, dtype=jnp.float32 if dtype is None else dtype, params=fill)


def shardings(model: decoder.CausalDecoder, mesh: jax.sharding.Mesh | None) -> Any:
    """A tree like the model's parameters: where each is to be. No mesh: on the first device."""
    if mesh is None:
        alone = SingleDeviceSharding(jax.devices()[0])
        return jax.tree.map(lambda _: alone, model.abstract_params)
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        model.specs(mesh.size),
        is_leaf=lambda leaf: isinstance(leaf, PartitionSpec),
    )


def kept_dtypes(
    folder: hf_folder.Folder, model: decoder.CausalDecoder, leaves: hf_leaves.Leaves
) -> dict[str, Any]:
    """The dtype of each leaf in the checkpoint. Raises ConfigError where its tensors differ."""
    kept = {}
    for path, leaf in hf_match.by_path(model.abstract_params).items():
        spec = leaves[path]
        names = [n.format(layer=i) for i in hf_match.layers(leaf, spec) for n in spec.names]
        found = {folder.tensors[name].code: name for name in names}
        if len(found) > 1:
            raise errors.ConfigError(
                f"{folder.path}: {' and '.join(f'{n} is {code}' for code, n in found.items())}, of"
                " which one array is made: give the dtype that both are to have"
            )
        kept[path] = folder.tensors[names[0]].dtype
    return kept


def targets(
    model: decoder.CausalDecoder, mesh: jax.sharding.Mesh | None, kept: Mapping[str, Any] | None
) -> Any:
    """A tree like the model's parameters: shape, dtype and place of each. kept: dtypes by path."""
    abstract = model.abstract_params
    dtypes = [
        kept[path] if kept else leaf.dtype for path, leaf in hf_match.by_path(abstract).items()
    ]
    return jax.tree.map(
        lambda leaf, dtype, place: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=place),
        abstract,
        jax.tree.unflatten(jax.tree.structure(abstract), dtypes),
        shardings(model, mesh),
    )


def _fill(
    folder: hf_folder.Folder,
    wanted: Any,
    leaves: hf_leaves.Leaves,
    *,
    piece_bytes: int,
    progress: Progress | None,
) -> Any:
    """The arrays that `wanted` describes."""
    total = sum(folder.tensors[name].size_bytes for name in hf_match.expected(wanted, leaves))
    read = 0
    arrays = []
    for path, leaf in hf_match.by_path(wanted).items():
        spec = leaves[path]
        parts = [
            (index, _part(leaf, device, piece_bytes))
            for device, index in leaf.sharding.addressable_devices_indices_map(leaf.shape).items()
        ]
        for layer in hf_match.layers(leaf, spec):
            names = [name.format(layer=layer) for name in spec.names]
            joined = spec.join([folder.view(name) for name in names])
            joined = joined[None] if spec.is_stacked else joined
            for index, part in parts:
                part.write(joined[(slice(None), *index[1:])] if spec.is_stacked else joined[index])
            folder.forget()
            read += sum(folder.tensors[name].size_bytes for name in names)
            if progress is not None:
                progress(read, total)
        buffers = [part.finish() for _, part in parts]
        arrays.append(jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, buffers))
    return jax.tree.unflatten(jax.tree.structure(wanted), arrays)


class _Part:
    """What a device has of a leaf, filled in place from its first row on, in pieces."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, device: Any, piece_bytes: int) -> None:
        self._buffer = jnp.zeros(shape, dtype, device=device)
        self._piece_bytes = piece_bytes
        self._row = 0

    def write(self, values: np.ndarray) -> None:
        """The next rows."""
        for start, piece in _pieces(values, self._buffer.dtype, self._piece_bytes):
            start[0] += self._row
            self._buffer = _put(self._buffer, piece, tuple(np.int32(one) for one in start))
            self._buffer.block_until_ready()  # so that there is one piece at a time
        self._row += values.shape[0]

    def finish(self) -> jax.Array:
        """The part, full."""
        return self._buffer


class _SmallPart:
    """The same for one that is a piece as a whole: nothing has to be compiled."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, device: Any) -> None:
        self._buffer = np.empty(shape, dtype)
        self._device = device
        self._row = 0

    def write(self, values: np.ndarray) -> None:
        stop = self._row + values.shape[0]
        self._buffer[self._row : stop] = values.astype(self._buffer.dtype)
        self._row = stop

    def finish(self) -> jax.Array:
        return jax.device_put(self._buffer, self._device)


def _part(leaf: jax.ShapeDtypeStruct, device: Any, piece_bytes: int) -> _Part | _SmallPart:
    """An empty one. All parts of a leaf that is small as a whole are small."""
    assert leaf.sharding is not None
    shape = leaf.sharding.shard_shape(leaf.shape)
    if math.prod(leaf.shape) * leaf.dtype.itemsize <= piece_bytes:
        return _SmallPart(shape, leaf.dtype, device)
    return _Part(shape, leaf.dtype, device, piece_bytes)


def _pieces(
    values: np.ndarray, dtype: Any, piece_bytes: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Parts of about `piece_bytes` at most, and where they start: neighbours in memory."""
    axis = int(np.argmax(values.strides))
    size = values.shape[axis]
    count = min(size, math.ceil(values.size * dtype.itemsize / piece_bytes))
    step = math.ceil(size / max(count, 1))
    for first in range(0, size, step):
        index = [slice(None)] * values.ndim
        index[axis] = slice(first, first + step)
        start = [0] * values.ndim
        start[axis] = first
        yield start, values[tuple(index)].astype(dtype, order="C")


@functools.partial(jax.jit, donate_argnums=0)
def _put(buffer: jax.Array, piece: jax.Array, start: tuple[jax.Array, ...]) -> jax.Array:
    return lax.dynamic_update_slice(buffer, piece, start)
