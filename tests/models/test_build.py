"""Models by name and by folder: weights by seed, weights where they are wanted, wrong names."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.loops import programs, text
from models import build, checkpoint, decoder
from tests.models import hf_scene


def _weights(model: decoder.CausalDecoder) -> np.ndarray:
    """All weights in one row."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(model.params)])


def test_the_seed_decides_the_weights() -> None:
    one, same, other = (build.causal("tiny", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(_weights(one), _weights(same))
    assert not np.array_equal(_weights(one), _weights(other))


@pytest.mark.parametrize("layout", checkpoint.LAYOUTS)
def test_a_path_says_all_of_a_model(tmp_path: pathlib.Path, layout: str) -> None:
    values = hf_scene.tensors()
    source = hf_scene.write(tmp_path / "source", values)
    params = checkpoint.load(source, dtype=None).params
    checkpoint.save(params, hf_scene.LLAMA, tmp_path / "there", layout=layout)
    built = build.causal("demo", seed=1, path=str(tmp_path / "there"))
    hf_scene.check_equal(built.params, values, hf_scene.LLAMA)
    assert (built.facts.name, built.facts.layers) == ("there", 3)


@pytest.mark.parametrize("path", ["", "there"])
def test_weights_are_where_the_loop_wants_them(tmp_path: pathlib.Path, path: str) -> None:
    mesh = text.tensor_mesh(jax.devices()[:2])
    if path:
        path = str(hf_scene.write(tmp_path / path, hf_scene.tensors()))
    built = build.causal("tiny", seed=1, path=path, mesh=mesh)
    placed = programs.place_params(built, mesh).params
    assert hf_scene.pointers(placed) == hf_scene.pointers(built.params)
    assert len(built.params["blocks"]["qkv"].sharding.device_set) == 2


def test_weights_on_one_device_are_not_copied_either() -> None:
    mesh = text.tensor_mesh(jax.devices()[:1])
    built = build.causal("tiny", seed=1)
    placed = programs.place_params(built, mesh).params
    assert hf_scene.pointers(placed) == hf_scene.pointers(built.params)


def test_the_dtype_is_the_models() -> None:
    assert build.causal("tiny", seed=0, dtype="bfloat16").facts.dtype == jnp.bfloat16


def test_a_wrong_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(errors.ConfigError, match=r"tinny.*did you mean 'tiny'"):
        build.causal("tinny", seed=0)


def test_random_weights_are_written_once_and_come_back(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "tiny"
    build.write_random("tiny", folder, seed=3)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    build.write_random("tiny", folder, seed=3)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    there = build.causal("", seed=0, path=str(folder))
    drawn = build.causal("tiny", seed=3)
    np.testing.assert_array_equal(_weights(there), _weights(drawn))
    with pytest.raises(errors.ConfigError, match=r"'llama-3.2-1b' has stretched positions"):
        build.write_random("llama-3.2-1b", tmp_path / "other")
