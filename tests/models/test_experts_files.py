"""Mixtures by real files: what published `config.json`s say, and what is refused of them."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from models import config_json, families, shapes

MIXTRAL_8X7B = {
    "architectures": ["MixtralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mixtral",
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.36.0.dev0",
    "use_cache": True,
    "vocab_size": 32000,
}
QWEN3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "decoder_sparse_step": 1,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def read(config):
    fields = config_json.Fields(config, "some-model/config.json")
    return families.of(fields).shape(fields)


@pytest.mark.parametrize(
    ("config", "weights", "experts"),
    [
        (MIXTRAL_8X7B, 46_702_792_704, shapes.Experts(count=8, active=2)),
        (QWEN3_30B_A3B, 30_532_122_624, shapes.Experts(count=128, active=8)),
    ],
    ids=["Mixtral 8x7B", "Qwen3 30B A3B"],
)
def test_published_files_give_models_of_the_published_size(config, weights, experts):
    shape = read(config)
    assert shape.weights == weights
    assert shape.experts == experts
    assert shape.windows == ()
    fields = config_json.Fields(config, "some-model/config.json")
    leaves = families.of(fields).leaves(shape)
    down = leaves["blocks.experts.down"]
    assert len(down.names) == experts.count
    assert down.shapes[-1] == (shape.hidden, shape.ffn)


def test_names_of_tensors():
    found = []
    for config in (MIXTRAL_8X7B, QWEN3_30B_A3B):
        fields = config_json.Fields(config, "some-model/config.json")
        family = families.of(fields)
        leaves = family.leaves(family.shape(fields))
        found += [leaves[f"blocks.experts.{one}"].names[3] for one in ("gate", "up", "down")]
        found += leaves["blocks.experts.router"].names
    layer = "model.layers.{layer}."
    assert found == [
        *(f"{layer}block_sparse_moe.experts.3.{one}.weight" for one in ("w1", "w3", "w2")),
        f"{layer}block_sparse_moe.gate.weight",
        *(f"{layer}mlp.experts.3.{one}_proj.weight" for one in ("gate", "up", "down")),
        f"{layer}mlp.gate.weight",
    ]


def test_windows_and_fields_by_other_names():
    assert read({**MIXTRAL_8X7B, "sliding_window": 4096}).windows == (4096,) * 32
    window = {"sliding_window": 4096, "max_window_layers": 2}
    assert read({**QWEN3_30B_A3B, **window}).windows == ()
    assert read({**QWEN3_30B_A3B, **window, "use_sliding_window": True}).windows == (4096,) * 48
    renamed = {**QWEN3_30B_A3B, "num_local_experts": 128, "num_experts": None}
    assert read(renamed) == read(QWEN3_30B_A3B)
    assert not read({**QWEN3_30B_A3B, "norm_topk_prob": False}).experts.is_sum_one


@pytest.mark.parametrize(
    ("config", "field", "value", "message"),
    [
        (QWEN3_30B_A3B, "decoder_sparse_step", 2, "decoder_sparse_step is 2: expected 1"),
        (QWEN3_30B_A3B, "mlp_only_layers", [0], r"mlp_only_layers is \[0\]: expected \[\]"),
        (QWEN3_30B_A3B, "num_local_experts", 64, "num_local_experts is 64: expected 128"),
        (QWEN3_30B_A3B, "num_experts_per_tok", 129, "129 active experts of 128"),
        (MIXTRAL_8X7B, "attention_bias", True, "attention_bias is true: expected no such field"),
        (MIXTRAL_8X7B, "n_shared_experts", 1, "n_shared_experts is 1: expected no such field"),
    ],
)
def test_fields_that_are_not_honoured_are_refused_by_name(config, field, value, message):
    with pytest.raises(errors.ConfigError, match=message):
        read({**config, field: value})
