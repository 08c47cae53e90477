"""Llama's kin by real files: what published `config.json`s say, and what is refused of them."""

from __future__ import annotations

import dataclasses
import math

import pytest

from aqua_jax.control import errors
from models import config_json, families, llama_files, shapes

_HARMLESS = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "use_cache": True,
}
LLAMA_3_2_1B = {
    **_HARMLESS,
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "head_dim": 64,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "vocab_size": 128256,
}
LLAMA_2_7B = {
    **_HARMLESS,
    "_name_or_path": "meta-llama/Llama-2-7b-hf",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0.dev0",
    "vocab_size": 32000,
}
CODE_LLAMA_34B = {
    **_HARMLESS,
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8192,
    "intermediate_size": 22016,
    "max_position_embeddings": 16384,
    "model_type": "llama",
    "num_attention_heads": 64,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.33.0.dev0",
    "vocab_size": 32000,
}
SMOLLM2_135M = {
    **_HARMLESS,
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}},
    "transformers_version": "4.40.1",
    "vocab_size": 49152,
}
MISTRAL_7B_V01 = {
    **_HARMLESS,
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.34.0.dev0",
    "vocab_size": 32000,
}
MISTRAL_7B_V03 = {
    **MISTRAL_7B_V01,
    "attention_dropout": 0.0,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "transformers_version": "4.42.0.dev0",
    "vocab_size": 32768,
}
QWEN_2_5_05B = {
    **_HARMLESS,
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 24,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1",
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN_3_06B = {
    **_HARMLESS,
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "head_dim": 128,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def read(config):
    fields = config_json.Fields(config, "some-model/config.json")
    assert families.of(fields).shape is llama_files.from_config
    return llama_files.from_config(fields)


@pytest.mark.parametrize(
    ("config", "known"),
    [
        (LLAMA_3_2_1B, shapes.LLAMA_3_2_1B),
        (CODE_LLAMA_34B, shapes.CODELLAMA_34B),
    ],
    ids=["Llama 3.2", "CodeLlama"],
)
def test_the_shapes_in_the_table_are_what_their_files_say(config, known):
    said = {"name": "some-model", "source": "some-model/config.json"}
    assert read(config) == dataclasses.replace(known, **said)


# Weights as the published safetensors files count them.
@pytest.mark.parametrize(
    ("config", "weights"),
    [
        (LLAMA_2_7B, 6_738_415_616),
        (SMOLLM2_135M, 134_515_008),
        (MISTRAL_7B_V01, 7_241_732_096),
        (MISTRAL_7B_V03, 7_248_023_552),
        (QWEN_2_5_05B, 494_032_768),
        (QWEN_3_06B, 596_049_920),
    ],
    ids=["Llama 2", "SmolLM2", "Mistral 0.1", "Mistral 0.3", "Qwen2.5", "Qwen3"],
)
def test_published_files_give_models_of_the_published_size(config, weights):
    assert read(config).weights == weights


@pytest.mark.parametrize("config", [LLAMA_3_2_1B, LLAMA_2_7B, QWEN_2_5_05B, QWEN_3_06B])
def test_the_tensors_of_a_checkpoint_add_up(config):
    biases = ("attention_bias", "mlp_bias") if config["model_type"] == "llama" else ()
    for switched in ({}, dict.fromkeys(biases, True)):
        shape = read({**config, **switched})
        sizes = {
            path: sum(map(math.prod, leaf.shapes)) * (shape.layers if leaf.is_stacked else 1)
            for path, leaf in llama_files.leaves(shape).items()
        }
        assert sum(sizes.values()) == shape.weights


def test_what_sets_the_kin_apart():
    mistral, qwen2, qwen3 = read(MISTRAL_7B_V01), read(QWEN_2_5_05B), read(QWEN_3_06B)
    assert mistral.windows == (4096,) * 32
    assert read(MISTRAL_7B_V03).windows == qwen2.windows == qwen3.windows == ()
    assert (qwen2.qkv_bias, qwen2.out_bias, qwen2.qk_norm) == (True, False, False)
    assert (qwen3.qkv_bias, qwen3.qk_norm, qwen3.head_dim) == (False, True, 128)
    assert (qwen2.norm_epsilon, qwen2.rope_theta, qwen2.head_dim) == (1e-6, 1e6, 64)


def test_biases_that_a_file_asks_for():
    shape = read({**LLAMA_2_7B, "attention_bias": True, "mlp_bias": True})
    assert shape.qkv_bias
    assert shape.out_bias
    assert shape.mlp_bias


def test_absent_is_not_always_null():
    """Absent fields stand for what the first model of the name has, null ones for none."""
    absent = {"num_key_value_heads", "sliding_window", "head_dim"}
    mistral = read({k: v for k, v in MISTRAL_7B_V01.items() if k not in absent})
    assert (mistral.kv_heads, mistral.windows[0]) == (8, 4096)
    assert read({**MISTRAL_7B_V01, "num_key_value_heads": None}).kv_heads == 32
    qwen3 = {k: v for k, v in QWEN_3_06B.items() if k not in absent}
    assert read({**qwen3, "num_attention_heads": 32}).kv_heads == 32
    assert read(qwen3 | {"num_key_value_heads": None}).head_dim == 128
    assert read({**LLAMA_2_7B, "num_key_value_heads": None}).kv_heads == 32


@pytest.mark.parametrize(
    ("config", "field", "value", "message"),
    [
        (LLAMA_2_7B, "hidden_act", "gelu", "hidden_act is \"gelu\": expected 'silu'"),
        (LLAMA_2_7B, "num_key_value_heads", 5, "32 heads over 5 kv_heads"),
        (LLAMA_2_7B, "head_dim", 31, "head_dim is 31"),
        (LLAMA_2_7B, "quantization_config", {"bits": 4}, "quantization_config .*only float32"),
        (LLAMA_2_7B, "sliding_window", 16, "sliding_window is 16: expected no such field"),
        (LLAMA_2_7B, "logit_scale", 0.5, "logit_scale is 0.5: expected no such field"),
        (MISTRAL_7B_V03, "attention_bias", True, "attention_bias is true: expected no such"),
        (QWEN_2_5_05B, "dual_chunk_attention_config", {"a": 1}, "dual_chunk_attention_config"),
        (QWEN_3_06B, "partial_rotary_factor", 0.5, "partial_rotary_factor is 0.5: expected 1.0"),
    ],
)
def test_fields_that_are_not_honoured_are_refused_by_name(config, field, value, message):
    with pytest.raises(errors.ConfigError, match=message):
        read({**config, field: value})
