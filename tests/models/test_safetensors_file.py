"""Files of tensors: as the format's own library writes and reads them; none that is not whole."""

from __future__ import annotations

import json
import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from aqua_jax.control import errors
from models import safetensors_file
from tests.models import hf_scene

VALUES = {
    "wide": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -2.0, 6e-8], np.float16),
    "brain": np.array([[0.1], [3e38]], jnp.bfloat16),
}


def file_of(path, header: Any, data: bytes = b"", length: int | None = None):
    """A file of a header, which may be nonsense, and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text + data)
    return path


def entry(code: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": code, "shape": shape, "data_offsets": offsets}


def test_what_the_library_wrote_is_read_bit_for_bit(tmp_path):
    hf_scene.write_file(tmp_path / "x", VALUES)
    file = safetensors_file.TensorFile(tmp_path / "x")
    assert file.tensors.keys() == VALUES.keys()
    for name, value in VALUES.items():
        found = file.view(name)
        file.forget()  # it is read anew
        assert (found.dtype, found.shape, found.tobytes()) == (
            value.dtype,
            value.shape,
            value.tobytes(),
        )
        assert file.tensors[name].size_bytes == value.nbytes


def test_the_library_reads_what_is_written(tmp_path):
    announced = [(name, value.dtype, value.shape) for name, value in VALUES.items()]
    with (tmp_path / "x").open("wb") as file:
        safetensors_file.write(file, announced, VALUES.values())
    found = safetensors.numpy.load_file(tmp_path / "x")
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in VALUES.items()
    }
    with safetensors.safe_open(tmp_path / "x", framework="numpy") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_a_tensor_that_is_not_as_announced_is_our_bug(tmp_path):
    announced = [("wide", np.dtype(np.float32), (3, 2))]
    with (
        (tmp_path / "x").open("wb") as file,
        pytest.raises(errors.InternalError, match="not as announced"),
    ):
        safetensors_file.write(file, announced, [VALUES["wide"]])


def test_a_dtype_that_nobody_computes_with_is_known_by_its_name(tmp_path):
    header = {"__metadata__": {"a": "b"}, "x": entry("F4_NEW", (3,), (0, 2))}
    file = safetensors_file.TensorFile(file_of(tmp_path / "x", header, b"ab"))
    assert (file.tensors["x"].code, file.tensors["x"].dtype) == ("F4_NEW", None)


@pytest.mark.parametrize(
    ("header", "data", "length", "why"),
    [
        (b"{}", b"", 3, "said to have 3 bytes, of which 2 are there"),
        (b"{}", b"", 1 << 62, "at most 100000000 can be"),
        (b"{nonsense", b"", None, "its header is no JSON (Expecting property"),
        (b"\xff\xfe{}", b"", None, "its header is no JSON"),
        (b"[" * 100_000, b"", None, "its header is no JSON"),
        ([], b"", None, "its header is no JSON object"),
        (b'{"a":1,"a":2}', b"", None, "its header has 'a' twice"),
        ({"a": 1}, b"", None, "a is 1: expected dtype, shape and data_offsets"),
        ({"a": entry(code=3)}, b"", None, "the dtype of a is 3: expected a name"),
        ({"a": entry(shape=(-2,))}, b"", None, "the shape of a is [-2]: expected whole numbers"),
        ({"a": entry(shape=(True, 2))}, b"", None, "the shape of a is [True, 2]: expected whole"),
        ({"a": entry(offsets=(8, 0))}, b"", None, "data_offsets of a are [8, 0]: expected"),
        ({"a": entry(offsets=(0,))}, b"", None, "data_offsets of a are [0]: expected"),
        ({"a": entry(offsets=(0, 4))}, b"1234", None, "F32 of shape [2], has 4 bytes by its"),
        ({"a": entry(offsets=(1, 9))}, b"", None, "a begins at byte 1 and leaves a hole"),
        (
            {"a": entry(), "b": entry(offsets=(4, 12))},
            b"123456789012",
            None,
            "b begins at byte 4 and overlaps the one before it, up to 8",
        ),
        ({"a": entry()}, b"1234", None, "its tensors have 8 bytes, of which 4 are there"),
        ({"a": entry()}, b"123456789", None, "1 bytes follow its last tensor"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_whole_is_refused(tmp_path, header, data, length, why):
    path = file_of(tmp_path / "x.safetensors", header, data, length)
    with pytest.raises(errors.ConfigError, match=re.escape(why)) as caught:
        safetensors_file.TensorFile(path)
    assert str(caught.value).startswith(f"{path} is no whole safetensors file: ")


def test_every_truncation_is_refused(tmp_path):
    hf_scene.write_file(tmp_path / "x", VALUES)
    whole = (tmp_path / "x").read_bytes()
    for count in range(len(whole)):
        (tmp_path / "x").write_bytes(whole[:count])
        with pytest.raises(errors.ConfigError, match="is no whole safetensors file"):
            safetensors_file.TensorFile(tmp_path / "x")


def test_any_damage_to_a_header_is_refused_or_harmless(tmp_path):
    hf_scene.write_file(tmp_path / "x", VALUES)
    whole = (tmp_path / "x").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        spoilt = bytearray(whole)
        for place in random.integers(0, 8 + whole[0] + 256 * whole[1], random.integers(1, 4)):
            spoilt[place] = random.integers(256)
        (tmp_path / "x").write_bytes(spoilt)
        try:
            file = safetensors_file.TensorFile(tmp_path / "x")
        except errors.ConfigError:
            refused += 1
            continue
        for name, one in file.tensors.items():
            if one.dtype is not None:
                assert file.view(name).nbytes == one.size_bytes
    assert 1000 < refused < 2000


def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = file_of(tmp_path / "x", {})
    path.chmod(0)
    match = "x cannot be read: Permission denied"
    with hf_scene.unprivileged(), pytest.raises(errors.ConfigError, match=match):
        safetensors_file.TensorFile(path)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(errors.ConfigError, match="cannot be read: Is a directory"):
        safetensors_file.TensorFile(tmp_path)
