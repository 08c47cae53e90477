"""One file of tensors in safetensors format: a header of JSON, then bytes. Nothing to execute.

Format: huggingface.co/docs/safetensors. 8 bytes, little-endian, are the header's length; the header
maps names to dtype, shape and data_offsets; the tensors follow without holes. Nothing that a header
says is believed before it has been checked. Knows: the format, memory maps. Does not know: models,
folders.
"""

from __future__ import annotations

import dataclasses
import json
import math
import mmap
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from aqua_jax.control import errors

# What can be computed with. The others are known by their size alone.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(jnp.bfloat16),
    "F16": np.dtype(np.float16),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
_LENGTH_BYTES = 8
_HEADER_BYTES_MAX = 100_000_000  # as in the format's own reader
_METADATA = "__metadata__"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """What the header says of a tensor. code: its dtype. start, stop: bytes behind the header."""

    name: str
    code: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Of its values; None for one that is not supported."""
        return DTYPES.get(self.code)

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start


class TensorFile:
    """A file that is mapped and read where it is looked at.

    Raises ConfigError, naming the file and what was expected, for one that is cut off or corrupt.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                header = _header(file, size, path)
                self._data = _LENGTH_BYTES + len(header)
                self.tensors = _tensors(header, size - self._data, path)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise errors.ConfigError(f"{path} cannot be read: {error.strerror}") from None

    def view(self, name: str) -> np.ndarray:
        """The tensor's values, read-only and where they are. Its dtype must be one of `DTYPES`."""
        one = self.tensors[name]
        values = np.frombuffer(
            self._map, DTYPES[one.code], math.prod(one.shape), self._data + one.start
        )
        return values.reshape(one.shape)

    def forget(self) -> None:
        """Gives back the memory of what has been read; views stay valid and read it again."""
        self._map.madvise(mmap.MADV_DONTNEED)


def write(
    file: BinaryIO,
    tensors: Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]],
    values: Iterable[np.ndarray],
) -> None:
    """Writes a file of `tensors` (name, dtype, shape), their values one by one in this order.

    Wide dtypes first, so that every tensor begins at a multiple of its items' size.
    """
    header: dict[str, Any] = {_METADATA: {"format": "pt"}}  # transformers asks for it
    stop = 0
    for name, dtype, shape in tensors:
        start, stop = stop, stop + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _CODES[dtype], "shape": shape, "data_offsets": (start, stop)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
    for (name, dtype, shape), value in zip(tensors, values, strict=True):
        if (value.dtype, value.shape) != (dtype, shape):
            raise errors.InternalError(f"{name} is {value.dtype} {value.shape}, not as announced")
        file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def _header(file: BinaryIO, size: int, path: pathlib.Path) -> bytes:
    if size < _LENGTH_BYTES:
        raise _corrupt(path, f"it has {size} bytes: expected at least {_LENGTH_BYTES}")
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > _HEADER_BYTES_MAX:
        raise _corrupt(
            path, f"its header is said to have {length} bytes: at most {_HEADER_BYTES_MAX} can be"
        )
    if _LENGTH_BYTES + length > size:
        raise _corrupt(
            path, f"its header is said to have {length} bytes, of which {size - 8} are there"
        )
    return file.read(length)


def _tensors(header: bytes, data_bytes: int, path: pathlib.Path) -> dict[str, Tensor]:
    """The tensors by name, checked against each other and the file's size."""
    try:
        values = json.loads(header, object_pairs_hook=lambda pairs: _once(pairs, path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, errors.ConfigError):
            raise
        raise _corrupt(path, f"its header is no JSON ({error})") from None
    if not isinstance(values, dict):
        raise _corrupt(path, "its header is no JSON object")
    values.pop(_METADATA, None)
    tensors = {name: _tensor(name, value, path) for name, value in values.items()}
    end = 0
    for one in sorted(tensors.values(), key=lambda one: (one.start, one.stop)):
        if one.start != end:
            what = "overlaps the one before it" if one.start < end else "leaves a hole before it"
            raise _corrupt(path, f"{one.name} begins at byte {one.start} and {what}, up to {end}")
        end = one.stop
    if end > data_bytes:
        raise _corrupt(
            path, f"its tensors have {end} bytes, of which {data_bytes} are there: it is cut off"
        )
    if end < data_bytes:
        raise _corrupt(path, f"{data_bytes - end} bytes follow its last tensor: expected none")
    return tensors


def _once(pairs: list[tuple[str, Any]], path: pathlib.Path) -> dict[str, Any]:
    """An object none of whose keys is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _corrupt(path, f"its header has {twice!r} twice")
    return found


def _tensor(name: str, value: Any, path: pathlib.Path) -> Tensor:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _corrupt(path, f"{name} is {value!r:.80}: expected dtype, shape and data_offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str):
        raise _corrupt(path, f"the dtype of {name} is {code!r:.80}: expected a name")
    if not _are_counts(shape):
        raise _corrupt(path, f"the shape of {name} is {shape!r:.80}: expected whole numbers")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _corrupt(
            path, f"data_offsets of {name} are {offsets!r:.80}: expected the first and last byte"
        )
    wanted = _BYTES.get(code, 0) * math.prod(shape)
    if code in _BYTES and offsets[1] - offsets[0] != wanted:
        raise _corrupt(
            path,
            f"{name}, {code} of shape {shape}, has {offsets[1] - offsets[0]} bytes by its"
            f" data_offsets {offsets}: expected {wanted}",
        )
    return Tensor(name=name, code=code, shape=tuple(shape), start=offsets[0], stop=offsets[1])


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _corrupt(path: pathlib.Path, why: str) -> errors.ConfigError:
    return errors.ConfigError(f"{path} is no whole safetensors file: {why}; fetch it again")
