"""Every family: its leaves are those of its model, and are made of a checkpoint's and back."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aqua_jax.control import errors
from models import config_json, families

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 8,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "vocab_size": 131,
}
OPT = {
    "architectures": ["OPTForCausalLM"],
    "ffn_dim": 96,
    "hidden_size": 64,
    "max_position_embeddings": 40,
    "num_attention_heads": 8,
    "num_hidden_layers": 2,
    "vocab_size": 131,
}
CONFIGS = {
    "Llama": LLAMA,
    "Llama with biases, untied": {**LLAMA, "attention_bias": True, "mlp_bias": True},
    "Mistral, tied": {
        **LLAMA,
        "architectures": ["MistralForCausalLM"],
        "tie_word_embeddings": True,
    },
    "Qwen2": {**LLAMA, "architectures": ["Qwen2ForCausalLM"]},
    "Qwen3": {**LLAMA, "architectures": ["Qwen3ForCausalLM"], "head_dim": 16},
    "Mixtral": {**LLAMA, "architectures": ["MixtralForCausalLM"]},
    "Qwen3-MoE": {
        **LLAMA,
        "architectures": ["Qwen3MoeForCausalLM"],
        "moe_intermediate_size": 24,
        "num_experts": 10,
    },
    "Gemma 2": {**LLAMA, "architectures": ["Gemma2ForCausalLM"], "head_dim": 16},
    "Gemma 3, untied": {
        **LLAMA,
        "architectures": ["Gemma3ForCausalLM"],
        "tie_word_embeddings": False,
    },
    "OPT": OPT,
    "OPT 350M's norms, untied": {
        **OPT,
        "do_layer_norm_before": False,
        "tie_word_embeddings": False,
    },
}


def test_every_architecture_is_here():
    here = {config["architectures"][0] for config in CONFIGS.values()}
    assert here == {name for family in families.FAMILIES for name in family.architectures}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_leaves_are_those_of_the_model(config):
    fields = config_json.Fields(config, "some/config.json")
    family = families.of(fields)
    shape = family.shape(fields)
    wanted = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(family.causal(shape, params={}).abstract_params)
    }
    random = np.random.default_rng(0)
    leaves = family.leaves(shape)
    assert leaves.keys() == wanted.keys()
    for path, leaf in leaves.items():
        given = [random.normal(size=sizes) for sizes in leaf.shapes]
        ours = leaf.join(given)
        assert ours.shape == wanted[path][leaf.is_stacked :]
        for there, back in zip(given, leaf.split(ours), strict=True):
            np.testing.assert_array_equal(there, back)


def test_an_architecture_that_nobody_runs_is_refused_with_the_nearest():
    fields = config_json.Fields({**LLAMA, "architectures": ["LlamaForCausalLMs"]}, "x/config.json")
    with pytest.raises(errors.ConfigError, match=r"x/config.json: .*mean.*LlamaForCausalLM"):
        families.of(fields)


def test_the_text_half_of_a_model_that_sees_is_hinted_at():
    config = {**LLAMA, "architectures": ["Gemma3ForConditionalGeneration"]}
    with pytest.raises(errors.ConfigError, match=r"ConditionalGeneration.*of Gemma3ForCausalLM"):
        families.of(config_json.Fields(config, "x/config.json"))
