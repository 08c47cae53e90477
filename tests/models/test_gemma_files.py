"""Gemma by real files: what published `config.json`s say, and what is refused of them."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aqua_jax.control import errors
from models import config_json, families, gemma, gemma_files, shapes

GEMMA_2_2B = {
    "architectures": ["Gemma2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": 50.0,
    "bos_token_id": 2,
    "cache_implementation": "hybrid",
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "initializer_range": 0.02,
    "intermediate_size": 9216,
    "max_position_embeddings": 8192,
    "model_type": "gemma2",
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "torch_dtype": "float32",
    "transformers_version": "4.42.4",
    "use_cache": True,
    "vocab_size": 256000,
}
GEMMA_3_1B = {
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "bos_token_id": 2,
    "cache_implementation": "hybrid",
    "eos_token_id": [1, 106],
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "initializer_range": 0.02,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "use_cache": True,
    "vocab_size": 262144,
}


def read(config):
    fields = config_json.Fields(config, "some-model/config.json")
    assert families.of(fields).shape is gemma_files.from_config
    return gemma_files.from_config(fields)


# Weights as the published safetensors files count them.
@pytest.mark.parametrize(
    ("config", "weights"),
    [(GEMMA_2_2B, 2_614_341_888), (GEMMA_3_1B, 999_885_952)],
    ids=["Gemma 2", "Gemma 3"],
)
def test_published_files_give_models_of_the_published_size(config, weights):
    model = gemma.causal(read(config), params={})
    assert sum(leaf.size for leaf in jax.tree.leaves(model.abstract_params)) == weights


def test_gemma_2():
    shape = read(GEMMA_2_2B)
    assert shape.windows == (4096, 0) * 13
    assert (shape.score_scale, shape.score_softcap, shape.logit_softcap) == (1 / 16, 50.0, 30.0)
    assert shape.wide_rope == shape.window_rope == gemma.Rope(10_000.0)
    assert (shape.qk_norm, shape.tied_embeddings) == (False, True)


def test_gemma_3():
    shape = read(GEMMA_3_1B)
    assert shape.windows == ((512,) * 5 + (0,)) * 4 + (512, 512)
    assert (shape.score_softcap, shape.logit_softcap, shape.qk_norm) == (0.0, 0.0, True)
    assert (shape.wide_rope, shape.window_rope) == (gemma.Rope(1e6), gemma.Rope(1e4))
    stretched = read({**GEMMA_3_1B, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}})
    assert stretched.wide_rope == gemma.Rope(1e6, shapes.LinearRopeScaling(factor=8.0))
    assert stretched.window_rope == gemma.Rope(1e4)


def test_the_same_as_newer_libraries_write_it():
    old = {"rope_theta", "rope_local_base_freq", "rope_scaling", "sliding_window_pattern"}
    new = {name: value for name, value in GEMMA_3_1B.items() if name not in old}
    kinds = (["sliding_attention"] * 5 + ["full_attention"]) * 4 + ["sliding_attention"] * 2
    new |= {
        "_sliding_window_pattern": 6,
        "layer_types": kinds,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1000000},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000},
        },
        "use_bidirectional_attention": False,
    }
    assert read(new) == read(GEMMA_3_1B)
    assert read({**new, "rope_parameters": None}) == read(GEMMA_3_1B)
    assert read({**new, "layer_types": ["full_attention"] * 26}).windows == ()


def test_absent_is_not_always_null():
    named = ("attn_logit_softcapping", "final_logit_softcapping", "sliding_window", "head_dim")
    absent = read({name: value for name, value in GEMMA_2_2B.items() if name not in named})
    assert absent == read(GEMMA_2_2B)
    uncapped = read({**GEMMA_2_2B, **dict.fromkeys(named[:2])})
    assert (uncapped.score_softcap, uncapped.logit_softcap) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("config", "field", "value", "message"),
    [
        (GEMMA_2_2B, "hidden_activation", "gelu", 'hidden_activation is "gelu": expected \'gelu_p'),
        (GEMMA_2_2B, "attention_bias", True, "attention_bias is true: expected False"),
        (GEMMA_2_2B, "sliding_window", None, "sliding_window is null: expected a whole number"),
        (GEMMA_2_2B, "sliding_window_size", 12, "sliding_window_size is 12: expected 4096"),
        (GEMMA_2_2B, "head_dim", 31, "head_dim is 31: expected an even number"),
        (GEMMA_3_1B, "attn_logit_softcapping", 50.0, "attn_logit_softcapping is 50.0: expected N"),
        (GEMMA_3_1B, "use_bidirectional_attention", True, "use_bidirectional_attention is true"),
        (GEMMA_3_1B, "layer_types", ["full_attention"], "layer_types is .*26"),
        (GEMMA_3_1B, "rope_parameters", {"ring": {"a": 1}}, "rope_parameters.ring is"),
        (GEMMA_3_1B, "num_experts", 4, "num_experts is 4: expected no such field"),
    ],
)
def test_fields_that_are_not_honoured_are_refused_by_name(config, field, value, message):
    with pytest.raises(errors.ConfigError, match=message):
        read({**config, field: value})


def test_old_and_new_fields_that_contradict_each_other():
    new = {"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}
    with pytest.raises(errors.ConfigError, match=r"rope_theta is 1000000: expected 5\.0"):
        read({**GEMMA_3_1B, **new})
    assert read({**GEMMA_3_1B, **new, "rope_theta": 5.0}).wide_rope == gemma.Rope(5.0)


def test_norms_of_a_checkpoint_stand_where_they_are_applied():
    leaves = gemma_files.leaves(read(GEMMA_2_2B))
    names = {ours: leaf.names[0].split(".")[-2] for ours, leaf in leaves.items()}
    assert names["blocks.attended_norm"] == "post_attention_layernorm"
    assert names["blocks.ffn_norm"] == "pre_feedforward_layernorm"
    np.testing.assert_array_equal(leaves["ends.norm"].join([np.arange(3)]), np.arange(3))
