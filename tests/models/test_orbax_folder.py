"""Weights as orbax keeps them: bit for bit, over devices; a folder that lost something is named."""

from __future__ import annotations

import gc
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from aqua_jax.control import errors
from models import hf_folder, hf_load, orbax_folder
from tests.models import hf_scene


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder, and the tensors that its weights are made of."""
    path = tmp_path_factory.mktemp("orbax")
    values = hf_scene.tensors(dtype=jnp.bfloat16)
    folder = hf_folder.Folder(hf_scene.write(path / "hf", values))
    (path / "m").mkdir()
    (path / "m" / "config.json").write_text(json.dumps(hf_scene.LLAMA))
    orbax_folder.write(hf_load.load(folder, dtype=None).params, path / "m")
    return path / "m", values


@pytest.fixture
def copied(saved, tmp_path):
    """The same folder, to be spoilt."""
    return shutil.copytree(saved[0], tmp_path / "m")


@pytest.mark.parametrize("dtype", [None, np.float32])
@pytest.mark.parametrize("devices", [0, 2])
def test_what_was_saved_comes_back(saved, dtype, devices):
    path, values = saved
    assert orbax_folder.is_one(path)
    mesh = Mesh(np.array(jax.devices()[:devices]), ("tensor",)) if devices else None
    model = orbax_folder.load(path, dtype=dtype, mesh=mesh)
    hf_scene.check_equal(model.params, values, hf_scene.LLAMA)
    wanted = np.dtype(dtype or jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {wanted}
    assert len(model.params["blocks"]["qkv"].sharding.device_set) == max(devices, 1)


def test_a_config_of_another_shape_is_refused_by_all_parameters_that_differ(copied):
    config = {**hf_scene.TIED, "intermediate_size": 128}
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(errors.ConfigError) as caught:
        orbax_folder.load(copied, dtype=None)
    for key, found, expected in (
        ("blocks.down", (3, 96, 64), (3, 128, 64)),
        ("blocks.gate", (3, 64, 96), (3, 64, 128)),
        ("ends.head", (64, 128), None),
    ):
        assert f"{key} has shape {found}, expected {expected}" in str(caught.value)


def test_a_folder_without_its_config_is_refused(copied):
    (copied / "config.json").unlink()
    with pytest.raises(errors.ConfigError, match=r"config\.json is not there"):
        orbax_folder.load(copied, dtype=None)


@pytest.mark.parametrize("lost", ["_METADATA", "manifest.ocdbt"])
def test_a_checkpoint_that_lost_a_part_is_refused(copied, lost):
    (copied / "orbax" / lost).unlink()
    with pytest.raises(errors.ConfigError, match=r"orbax cannot be read as a checkpoint of orbax"):
        orbax_folder.load(copied, dtype=None)


def test_a_folder_without_parameters_is_refused(copied):
    shutil.rmtree(copied / "orbax")
    (copied / "orbax").mkdir()
    with pytest.raises(errors.ConfigError, match="it holds no parameters; save it again"):
        orbax_folder.load(copied, dtype=None)


# Orbax leaves the reading of other arrays unfinished when that of one fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_checkpoint_with_damaged_values_is_refused(copied):
    for file in copied.glob("orbax/**/d/*"):
        file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(errors.ConfigError, match=r"orbax cannot be read as a checkpoint of orbax"):
        orbax_folder.load(copied, dtype=None)
    gc.collect()
