"""Folders in both layouts: what is saved comes back bit for bit, whole or not at all."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from aqua_jax.control import errors
from models import checkpoint
from tests.models import hf_scene


@pytest.fixture
def source(tmp_path):
    path = hf_scene.write(tmp_path / "source", hf_scene.tensors(), shards=2)
    (path / "tokenizer.json").write_text("{}")
    (path / "pytorch_model.bin").write_bytes(b"not to be touched")
    return path


@pytest.mark.parametrize("layout", checkpoint.LAYOUTS)
def test_what_is_saved_comes_back(tmp_path, source, layout):
    model = checkpoint.load(source, dtype=None)
    target = tmp_path / "some" / "where"
    config = (source / "config.json").read_bytes()
    checkpoint.save(model.params, config, target, layout=layout, companions=source)
    assert checkpoint.layout(target) == layout
    back = checkpoint.load(target, dtype=np.float32)
    hf_scene.check_equal(back.params, hf_scene.tensors(), hf_scene.LLAMA)
    assert back.facts.name == "where"
    assert (target / "config.json").read_bytes() == config
    assert (target / "tokenizer.json").read_text() == "{}"
    assert not (target / "pytorch_model.bin").exists()
    assert [path.name for path in target.parent.iterdir()] == ["where"]
    assert target.stat().st_mode == source.stat().st_mode


def test_a_config_may_be_given_as_fields(tmp_path, source):
    model = checkpoint.load(source, dtype=None)
    checkpoint.save(model.params, hf_scene.LLAMA, tmp_path / "target")
    assert json.loads((tmp_path / "target" / "config.json").read_text()) == hf_scene.LLAMA
    back = checkpoint.load(tmp_path / "target", dtype=None)
    assert back.facts == dataclasses.replace(model.facts, name="target")


def test_nothing_is_overwritten(tmp_path, source):
    model = checkpoint.load(source, dtype=None)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("source", "empty", "link"):
        with pytest.raises(errors.ConfigError, match=f"{name} exists: give a folder that does not"):
            checkpoint.save(model.params, hf_scene.LLAMA, tmp_path / name)


def test_a_failure_leaves_nothing_behind(tmp_path, source):
    model = checkpoint.load(source, dtype=None)

    def fail(written: int, total: int) -> None:
        if written > total / 2:
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        checkpoint.save(model.params, hf_scene.LLAMA, tmp_path / "target", progress=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, source):
    model = checkpoint.load(source, dtype=None)
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.ConfigError, match=r"target cannot be written: .*file\)"):
        checkpoint.save(model.params, hf_scene.LLAMA, tmp_path / "file" / "target")


def test_parameters_that_are_not_those_of_the_config_are_refused(tmp_path, source):
    model = checkpoint.load(source, dtype=None)
    config = {**hf_scene.LLAMA, "num_hidden_layers": 4}
    for layout in checkpoint.LAYOUTS:
        with pytest.raises(errors.ConfigError, match=r"blocks.down has shape \(3, 96, 64\), exp"):
            checkpoint.save(model.params, config, tmp_path / "target", layout=layout)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_folder_that_may_not_be_looked_into_is_refused(source):
    source.chmod(0)
    with hf_scene.unprivileged(), pytest.raises(errors.ConfigError, match="Permission denied"):
        checkpoint.load(source, dtype=None)
    source.chmod(0o700)
