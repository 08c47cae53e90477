"""Writes the leaves of a model as a folder in Hugging Face layout: shards of a limited size.

Knows: order and sizes of tensors, the index. Does not know: arithmetic of a family, what else lies
in the folder. One layer's part of a leaf is in host memory at a time.
"""

from __future__ import annotations

import itertools
import json
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from aqua_jax.control import errors
from models import hf_folder, hf_leaves, hf_match, safetensors_file

# Is told how many bytes have been written, the tensor at hand included, and of how many.
Progress = Callable[[int, int], None]

_Header = tuple[str, np.dtype[Any], tuple[int, ...]]  # of a tensor: name, dtype, shape


def write(
    params: Any,
    leaves: hf_leaves.Leaves,
    path: pathlib.Path,
    *,
    shard_bytes: int,
    progress: Progress | None = None,
) -> None:
    """Writes the tensors of `params` into the folder `path`, as their leaves' dtypes are.

    shard_bytes: at most so many of tensors in a file, or one tensor that is larger.
    """
    by_path = hf_match.by_path(params)
    # Wide dtypes first: see `safetensors_file.write`. Then as a model is run through.
    units = sorted(
        (-leaf.dtype.itemsize, leaves[key].is_stacked, layer, key)
        for key, leaf in by_path.items()
        for layer in hf_match.layers(leaf, leaves[key])
    )
    headers = [
        header for *_, layer, key in units for header in _headers(by_path, leaves, key, layer)
    ]
    values = (value for *_, layer, key in units for value in _values(by_path, leaves, key, layer))
    shards = _shards(headers, shard_bytes)
    total = sum(map(_bytes, headers))
    counted = _counted(values, total, progress)
    names = [_name(number, len(shards)) for number in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        with (path / name).open("xb") as file:
            safetensors_file.write(file, shard, itertools.islice(counted, len(shard)))
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": total},
            "weight_map": {
                tensor: name
                for name, shard in zip(names, shards, strict=True)
                for tensor, *_ in shard
            },
        }
        (path / hf_folder.INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _headers(
    by_path: dict[str, Any], leaves: hf_leaves.Leaves, key: str, layer: int
) -> Iterator[_Header]:
    spec, dtype = leaves[key], np.dtype(by_path[key].dtype)
    if dtype not in safetensors_file.DTYPES.values():
        raise errors.ConfigError(
            f"{key} is {dtype}: expected one of {', '.join(safetensors_file.DTYPES)}"
        )
    for name, shape in zip(spec.names, spec.shapes, strict=True):
        yield name.format(layer=layer), dtype, shape


def _values(
    by_path: dict[str, Any], leaves: hf_leaves.Leaves, key: str, layer: int
) -> list[np.ndarray]:
    spec, leaf = leaves[key], by_path[key]
    return spec.split(jax.device_get(leaf[layer] if spec.is_stacked else leaf))


def _counted(
    values: Iterator[np.ndarray], total: int, progress: Progress | None
) -> Iterator[np.ndarray]:
    written = 0
    for value in values:
        written += value.nbytes
        if progress is not None:
            progress(written, total)
        yield value


def _shards(headers: list[_Header], shard_bytes: int) -> list[list[_Header]]:
    """The tensors in order, as many in each file as fit."""
    shards: list[list[_Header]] = [[]]
    filled = 0
    for header in headers:
        if shards[-1] and filled + _bytes(header) > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(header)
        filled += _bytes(header)
    return shards


def _bytes(header: _Header) -> int:
    _, dtype, shape = header
    return dtype.itemsize * math.prod(shape)


def _name(number: int, count: int) -> str:
    if count == 1:
        return hf_folder.SINGLE
    return f"model-{number + 1:05}-of-{count:05}.safetensors"
