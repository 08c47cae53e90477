"""Tensors become parameters: bit for bit, in pieces, over devices, in another dtype."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding

from aqua_jax.control import errors
from models import hf_folder, hf_load
from tests.models import hf_scene


def folder_of(path, values, **more) -> hf_folder.Folder:
    return hf_folder.Folder(hf_scene.write(path / "m", values, **more))


@pytest.mark.parametrize("piece_bytes", [hf_load.PIECE_BYTES, 1000])
@pytest.mark.parametrize("devices", [0, 4])
def test_parameters_are_made_of_the_tensors_wherever_they_lie(tmp_path, piece_bytes, devices):
    values = hf_scene.tensors()
    mesh = Mesh(np.array(jax.devices()[:devices]), ("tensor",)) if devices else None
    folder = folder_of(tmp_path, values, shards=3)
    model = hf_load.load(folder, dtype=jnp.float32, mesh=mesh, piece_bytes=piece_bytes)
    hf_scene.check_equal(model.params, values, hf_scene.LLAMA)
    for leaf, abstract in zip(
        jax.tree.leaves(model.params), jax.tree.leaves(model.abstract_params), strict=True
    ):
        assert (leaf.shape, leaf.dtype) == (abstract.shape, abstract.dtype)
    if mesh:
        specs = model.specs(devices)
        assert model.params["blocks"]["qkv"].sharding == NamedSharding(mesh, specs["blocks"]["qkv"])
        shards = model.params["blocks"]["qkv"].addressable_shards
        assert {shard.data.shape[-1] for shard in shards} == {128 // devices}


@pytest.mark.parametrize("there", [np.float32, np.float16, jnp.bfloat16])
@pytest.mark.parametrize("wanted", [np.float32, jnp.bfloat16, None])
def test_dtypes_are_converted_with_one_rounding_or_kept(tmp_path, there, wanted):
    values = hf_scene.tensors(dtype=there)
    values["model.norm.weight"][:4] = np.array([6e-8, -0.0, np.inf, 65504], there)
    model = hf_load.load(folder_of(tmp_path, values), dtype=wanted)
    hf_scene.check_equal(model.params, values, hf_scene.LLAMA)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {np.dtype(wanted or there)}


def test_a_leaf_of_two_dtypes_cannot_be_kept(tmp_path):
    values = hf_scene.tensors()
    name = "model.layers.1.self_attn.k_proj.weight"
    values[name] = values[name].astype(np.float16)
    folder = folder_of(tmp_path, values)
    with pytest.raises(errors.ConfigError, match=f"{name} is F16.*give the dtype"):
        hf_load.load(folder, dtype=None)
    hf_scene.check_equal(hf_load.load(folder, dtype=np.float32).params, values, hf_scene.LLAMA)


def test_nothing_is_allocated_for_tensors_that_do_not_fit(tmp_path):
    values = hf_scene.tensors()
    del values["model.norm.weight"]
    folder = folder_of(tmp_path, values)
    before = len(jax.live_arrays())
    with pytest.raises(errors.ConfigError, match=r"missing: model.norm.weight"):
        hf_load.load(folder, dtype=np.float32, progress=lambda read, total: pytest.fail("read"))
    assert len(jax.live_arrays()) == before


def test_progress_counts_every_byte(tmp_path):
    values = hf_scene.tensors()
    told: list[tuple[int, int]] = []
    folder = folder_of(tmp_path, values)
    hf_load.load(folder, dtype=None, progress=lambda *counts: told.append(counts))
    whole = sum(value.nbytes for value in values.values())
    assert told[-1] == (whole, whole)
    assert told == sorted(told)


def sized(hidden: int, layers: int) -> dict[str, object]:
    """A config whose tensors are about hidden * hidden each."""
    return {
        **hf_scene.LLAMA,
        "hidden_size": hidden,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "vocab_size": hidden,
    }


def test_the_host_holds_a_layer_of_a_leaf_and_pieces(tmp_path):
    config = sized(256, 6)
    values = hf_scene.tensors(config, dtype=jnp.bfloat16)
    folder = folder_of(tmp_path, values, config=config)
    shard_bytes = sum(value.nbytes for value in values.values())
    load = functools.partial(hf_load.load, folder, dtype=jnp.float32, piece_bytes=16_384)
    load()  # compiles
    tracemalloc.start()
    try:
        model = load()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    hf_scene.check_equal(model.params, values, config)
    assert peak < shard_bytes / 4


@pytest.mark.long
@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("there", [np.float32, jnp.bfloat16])
def test_beside_the_arrays_memory_is_one_shard_at_most(tmp_path, there, devices):
    config = sized(1024, 12)
    values = hf_scene.tensors(config, dtype=there)
    arrays = sum(value.size * 4 for value in values.values())
    shards = 4 * np.dtype(there).itemsize  # stacked leaves, 48 MiB, are larger than any
    path = hf_scene.write(tmp_path / "m", values, config=config, shards=shards)
    largest = max(file.stat().st_size for file in path.glob("*.safetensors"))
    command = [sys.executable, "-m", "tests.models.peak_memory", str(path), str(devices)]
    # What is freed goes back at once, so that it cannot be taken again unseen.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    peak = int(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
    assert arrays < peak < arrays + 1.1 * largest
