"""Folders in Hugging Face layout: one file or shards; what is not whole is named."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from aqua_jax.control import errors
from models import hf_folder
from tests.models import hf_scene

VALUES = {name: np.full((2,), number, np.float32) for number, name in enumerate("abcd")}


def refusal(path) -> str:
    with pytest.raises(errors.ConfigError) as caught:
        hf_folder.Folder(path)
    return str(caught.value)


@pytest.mark.parametrize("shards", [1, 3])
def test_every_tensor_is_found(tmp_path, shards):
    folder = hf_folder.Folder(hf_scene.write(tmp_path / "m", VALUES, shards=shards))
    assert folder.tensors.keys() == VALUES.keys()
    assert folder.fields.architecture == "LlamaForCausalLM"
    for name, value in VALUES.items():
        np.testing.assert_array_equal(folder.view(name), value)
        folder.forget()


@pytest.mark.parametrize("shards", [1, 2])
def test_a_model_that_was_saved_without_its_head_has_the_names_of_one_with_it(tmp_path, shards):
    names = (
        "decoder.embed_tokens.weight",
        "decoder.layers.0.fc1.bias",
        "decoder.layers.1.fc1.bias",
    )
    values = {name: np.full((2,), number, np.float32) for number, name in enumerate(names)}
    head = {"lm_head.weight": np.zeros(2, np.float32)}
    path = hf_scene.write(tmp_path / "m", values | head, shards=shards)
    folder = hf_folder.Folder(path)
    assert folder.tensors.keys() == {*(f"model.{name}" for name in names), *head}
    for name, value in values.items():
        np.testing.assert_array_equal(folder.view(f"model.{name}"), value)


def test_names_with_and_without_the_base_stay_apart(tmp_path):
    names = ("layers.0.fc1.bias", "model.layers.0.fc1.bias")
    values = {name: np.full((2,), number, np.float32) for number, name in enumerate(names)}
    folder = hf_folder.Folder(hf_scene.write(tmp_path / "m", values))
    assert folder.tensors.keys() == {*names}


def test_folders_without_weights_are_refused(tmp_path):
    expectation = "expected a folder with config.json and model.safetensors, or "
    assert f"{tmp_path / 'none'} is not there: {expectation}" in refusal(tmp_path / "none")
    assert f"{tmp_path} is empty: {expectation}" in refusal(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(hf_scene.LLAMA))
    assert f"{tmp_path} has no weights: {expectation}" in refusal(tmp_path)
    assert f"config.json is a file: {expectation}" in refusal(tmp_path / "config.json")
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert re.search(
        "weights in pytorch_model.bin alone.*never is: convert it to safetensors", refusal(tmp_path)
    )
    hf_scene.write_file(tmp_path / "model-00001-of-00002.safetensors", VALUES)
    assert re.search("has model-00001.*but neither model.safetensors nor", refusal(tmp_path))


def test_a_folder_without_a_config_is_refused(tmp_path):
    path = hf_scene.write(tmp_path / "m", VALUES)
    (path / "config.json").unlink()
    assert f"{path / 'config.json'} is not there" in refusal(path)


def test_a_folder_that_may_not_be_read_is_refused(tmp_path):
    path = hf_scene.write(tmp_path / "m", VALUES)
    path.chmod(0)
    with hf_scene.unprivileged():
        assert f"{path} cannot be read: Permission denied" in refusal(path)
    path.chmod(0o700)


def test_an_index_is_held_against_its_shards(tmp_path):
    path = hf_scene.write(tmp_path / "m", VALUES, shards=2)
    index = path / hf_folder.INDEX
    good = json.loads(index.read_text())
    first, second = sorted(set(good["weight_map"].values()))

    def put(value: object) -> str:
        index.write_text(value if isinstance(value, str) else json.dumps(value))
        return refusal(path)

    def with_map(**changes: object) -> str:
        return put({"weight_map": {**good["weight_map"], **changes}})

    assert put("{").startswith(f"{index} is no JSON: ")
    assert put([]) == f"{index} has no weight_map: expected shards by tensor"
    assert put({"weight_map": {}}) == f"{index} has no weight_map: expected shards by tensor"
    assert "names shards that are not there: other; fetch" in with_map(e="other")
    assert "puts e in '../other': expected a file beside" in with_map(e="../other")
    assert "puts e in 3: expected a file beside" in with_map(e=3)
    assert f"puts e in {first}, which does not have it" in with_map(e=first)
    assert f"puts a in {second}, which does not have it; it is in {first}" in with_map(a=second)
    index.write_text(json.dumps(good))
    hf_scene.write_file(path / second, VALUES)
    assert f"has a, which {first} has too: expected every tensor once" in refusal(path)
    hf_scene.write_file(path / hf_folder.SINGLE, VALUES)
    assert "which does not name it: expected one of them" in refusal(path)
    (path / hf_folder.SINGLE).unlink()
    (path / second).unlink()
    assert f"names shards that are not there: {second}; fetch" in refusal(path)
