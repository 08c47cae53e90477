"""What is written in Hugging Face layout: tensors bit for bit, in shards of a limited size."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from aqua_jax.control import errors
from models import hf_folder, hf_load, hf_save
from tests.models import hf_scene


def params_of(path, values) -> object:
    folder = hf_folder.Folder(hf_scene.write(path / "source", values))
    return hf_load.load(folder, dtype=None).params


def written(path, params, shard_bytes):
    _, leaves = hf_scene.leaves_of(hf_scene.LLAMA)
    told: list[tuple[int, int]] = []
    hf_save.write(
        params, leaves, path, shard_bytes=shard_bytes, progress=lambda *counts: told.append(counts)
    )
    assert told[-1][0] == told[-1][1]
    files = sorted(path.glob("*.safetensors"))
    return {
        name: value for file in files for name, value in safetensors.numpy.load_file(file).items()
    }


@pytest.mark.parametrize("shard_bytes", [10**9, 50_000, 1])
def test_the_library_reads_every_tensor_bit_for_bit(tmp_path, shard_bytes):
    values = hf_scene.tensors(dtype=jnp.bfloat16)
    values["model.norm.weight"] = np.ones(64, np.float32)
    (tmp_path / "target").mkdir()
    found = written(tmp_path / "target", params_of(tmp_path, values), shard_bytes)
    assert found.keys() == values.keys()
    for name, value in values.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].tobytes() == value.tobytes()
    sizes = [sum(v.nbytes for v in safetensors.numpy.load_file(file).values())
             for file in (tmp_path / "target").glob("*.safetensors")]  # fmt: skip
    largest = max(value.nbytes for value in values.values())
    assert max(sizes) <= max(shard_bytes, largest)
    index = tmp_path / "target" / hf_folder.INDEX
    assert index.exists() == (len(sizes) > 1)
    if index.exists():
        value = json.loads(index.read_text())
        assert value["weight_map"].keys() == values.keys()
        assert value["metadata"]["total_size"] == sum(v.nbytes for v in values.values())


def test_a_dtype_that_the_layout_is_not_read_in_is_refused(tmp_path):
    params = params_of(tmp_path, hf_scene.tensors())
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.int8), params)
    with pytest.raises(errors.ConfigError, match=r"is int8: expected one of F32, BF16, F16"):
        written(tmp_path, params, 10**9)
