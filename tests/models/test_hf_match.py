"""Tensors against a config: all that differ are named at once; harmless extras are let pass."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from models import config_json, families, hf_folder, hf_match
from tests.models import hf_scene

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def check(path, values, config=hf_scene.LLAMA) -> None:
    folder = hf_folder.Folder(hf_scene.write(path / "m", values, config=config))
    fields = config_json.Fields(config, "x/config.json")
    family = families.of(fields)
    shape = family.shape(fields)
    hf_match.check(folder, family.causal(shape, params={}), family.leaves(shape))


def test_all_that_differs_is_named_at_once(tmp_path):
    values = hf_scene.tensors()
    for layer in range(3):
        del values[f"model.layers.{layer}.mlp.up_proj.weight"]
    del values["model.norm.weight"]
    values["model.extra"] = np.zeros(3, np.float32)
    values["model.layers.3.mlp.up_proj.weight"] = np.zeros((96, 64), np.float32)
    for layer in (0, 2):
        values[f"model.layers.{layer}.self_attn.k_proj.weight"] = np.zeros((16, 64), np.float32)
    values[EMBEDDING] = np.zeros((128, 64), np.int8)
    with pytest.raises(errors.ConfigError) as caught:
        check(tmp_path, values)
    assert str(caught.value) == (
        f"the tensors in {tmp_path / 'm'} are not those of its config.json:\n"
        "  missing: model.layers.{0-2}.mlp.up_proj.weight, model.norm.weight;\n"
        "  unexpected: model.extra, model.layers.3.mlp.up_proj.weight;\n"
        "  of wrong shape: model.layers.{0,2}.self_attn.k_proj.weight is [16, 64] where"
        " config.json makes it [32, 64];\n"
        "  of a dtype that is not supported: model.embed_tokens.weight is I8, expected one of"
        " F32, BF16, F16"
    )


def test_a_config_that_contradicts_the_weights_is_refused_by_shape(tmp_path):
    with pytest.raises(errors.ConfigError, match=r"lm_head.weight.* is \[128, 64\] where.*\[130, "):
        check(tmp_path, hf_scene.tensors(), {**hf_scene.LLAMA, "vocab_size": 130})


def test_what_every_model_computes_for_itself_is_let_pass(tmp_path):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    check(tmp_path, {**hf_scene.tensors(), name: np.zeros(4, np.float32)})


def test_a_tied_head_may_be_there_when_it_is_the_embedding(tmp_path):
    values = hf_scene.tensors(hf_scene.TIED)
    check(tmp_path, {**values, HEAD: values[EMBEDDING]}, hf_scene.TIED)


@pytest.mark.parametrize("differ", ["value", "dtype", "shape"])
def test_a_tied_head_that_differs_is_refused_by_name(tmp_path, differ):
    values = hf_scene.tensors(hf_scene.TIED)
    head = values[EMBEDDING].copy()
    if differ == "value":
        head[3, 5] = -head[3, 5]
    head = head.astype(jnp.bfloat16) if differ == "dtype" else head
    head = head[:-1] if differ == "shape" else head
    with pytest.raises(errors.ConfigError, match=r"tie_word_embeddings makes model.embed_tokens"):
        check(tmp_path, {**values, HEAD: head}, hf_scene.TIED)


def test_a_head_that_is_not_tied_must_be_there(tmp_path):
    with pytest.raises(errors.ConfigError, match=r"missing: lm_head\.weight$"):
        check(tmp_path, hf_scene.tensors(hf_scene.TIED), hf_scene.LLAMA)
