"""OPT by real files: what published `config.json`s say, and what is refused of them."""

from __future__ import annotations

import jax
import pytest

from aqua_jax.control import errors
from models import config_json, families, opt, opt_files

OPT_125M = {
    "activation_dropout": 0.0,
    "activation_function": "relu",
    "architectures": ["OPTForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "do_layer_norm_before": True,
    "dropout": 0.1,
    "eos_token_id": 2,
    "ffn_dim": 3072,
    "hidden_size": 768,
    "init_std": 0.02,
    "layerdrop": 0.0,
    "max_position_embeddings": 2048,
    "model_type": "opt",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "prefix": "</s>",
    "torch_dtype": "float16",
    "transformers_version": "4.21.0.dev0",
    "use_cache": True,
    "vocab_size": 50272,
    "word_embed_proj_dim": 768,
}
OPT_30B = {
    **OPT_125M,
    "_remove_final_layer_norm": False,
    "ffn_dim": 28672,
    "hidden_size": 7168,
    "num_attention_heads": 56,
    "num_hidden_layers": 48,
    "word_embed_proj_dim": 7168,
}


def read(config):
    fields = config_json.Fields(config, "some-model/config.json")
    assert families.of(fields).shape is opt_files.from_config
    return opt_files.from_config(fields)


@pytest.mark.parametrize(
    ("config", "weights"),
    [(OPT_125M, 125_239_296), (OPT_30B, 29_974_540_288)],
    ids=["125M", "30B"],
)
def test_published_files_give_models_of_the_published_size(config, weights):
    model = opt.causal(read(config), params={})
    assert sum(leaf.size for leaf in jax.tree.leaves(model.abstract_params)) == weights


def test_norms():
    shape = read(OPT_125M)
    assert (shape.norm_first, shape.last_norm, shape.tied_embeddings) == (True, True, True)
    old = read({**OPT_125M, "_remove_final_layer_norm": True})
    assert (old.norm_first, old.last_norm) == (True, False)
    late = read({**OPT_125M, "do_layer_norm_before": False})
    assert (late.norm_first, late.last_norm) == (False, False)
    assert "ends.norm.scale" not in opt_files.leaves(late)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("word_embed_proj_dim", 512, "word_embed_proj_dim is 512: expected 768"),
        ("activation_function", "gelu", "activation_function is \"gelu\": expected 'relu'"),
        ("enable_bias", False, "enable_bias is false: expected True"),
        ("layer_norm_elementwise_affine", False, "layer_norm_elementwise_affine is false"),
        ("rope_theta", 10000.0, "rope_theta is 10000.0: expected no such field"),
    ],
)
def test_fields_that_are_not_honoured_are_refused_by_name(field, value, message):
    with pytest.raises(errors.ConfigError, match=message):
        read({**OPT_125M, field: value})
