"""The models whose logits and tokens are compared with those of `transformers`.

Knows: names and fields of configurations. Does not know: either implementation.

A case needs a name, the configuration's class and its fields; `FAMILIES` has what the cases of a
family share. After a change: `python -m tests.parity.make_goldens NAME ...`, with the extra
`parity`; `make parity ARGS="NAME ..."` runs both sides.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

GOLDENS = pathlib.Path(__file__).parent.parent / "golden" / "parity"

PROMPT_TOKENS = 83  # more than a chunk, no multiple of pages and tiles
NEW_TOKENS = 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One tiny model. quick: the attention with which `make test` runs it; all else is long."""

    name: str
    config: str  # the class in `transformers`
    fields: Mapping[str, Any]
    quick: str = ""

    @property
    def family(self) -> str:
        return self.config.removesuffix("Config").removesuffix("Text")

    @property
    def golden(self) -> pathlib.Path:
        return GOLDENS / f"{self.name}.npz"

    @property
    def text(self) -> str:
        """All that determines the golden file, to tell whether it is of this case."""
        return json.dumps([self.config, dict(self.fields)], sort_keys=True)


_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "vocab_size": 101,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_MANY_EXPERTS = {
    "head_dim": 16,
    "moe_intermediate_size": 24,
    "num_experts": 12,
    "num_experts_per_tok": 3,
    "norm_topk_prob": True,
}
# Scores are divided by the root of a number that need not be head_dim.
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 12, "sliding_window": 24}
_OPT = {
    "hidden_size": 64,
    "word_embed_proj_dim": 64,
    "ffn_dim": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "max_position_embeddings": 256,
    "vocab_size": 101,
}
FULL, SLIDING = "full_attention", "sliding_attention"

# By class: the fields that its cases have unless they say otherwise.
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "LlamaConfig": _SHAPE,
    "MistralConfig": {**_SHAPE, "sliding_window": 40},
    "Qwen2Config": _SHAPE,
    "Qwen3Config": {**_SHAPE, "head_dim": 16},
    "MixtralConfig": {**_SHAPE, "num_local_experts": 4},
    "Qwen3MoeConfig": {**_SHAPE, **_MANY_EXPERTS},
    "Gemma2Config": {**_SHAPE, **_GEMMA, "num_hidden_layers": 4},
    "Gemma3TextConfig": {**_SHAPE, **_GEMMA, "num_hidden_layers": 7},
    "OPTConfig": _OPT,
}


def case(name: str, config: str, *, quick: str = "", **fields: Any) -> Case:
    """The case `name`: the family's fields and its own."""
    whole = {**FAMILIES[config], **fields}
    return Case(name=name, config=config, fields=whole, quick=quick)


CASES = (
    case("llama_3", "LlamaConfig", quick="xla", rope_parameters=_LLAMA3),
    case("llama_2_mha", "LlamaConfig", num_key_value_heads=8, vocab_size=128),
    case("llama_mqa", "LlamaConfig", num_key_value_heads=1, vocab_size=97),
    case("llama_tied", "LlamaConfig", tie_word_embeddings=True, rms_norm_eps=1e-5),
    case("llama_head_dim", "LlamaConfig", head_dim=24, num_attention_heads=4, vocab_size=103),
    case(
        "llama_linear",
        "LlamaConfig",
        rope_parameters={"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    ),
    case(
        "code_llama",
        "LlamaConfig",
        num_attention_heads=16,
        head_dim=8,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        vocab_size=113,
    ),
    case("llama_biases", "LlamaConfig", attention_bias=True, mlp_bias=True, vocab_size=89),
    case("mistral_window", "MistralConfig", quick="native"),
    case("mistral_short_window", "MistralConfig", sliding_window=7, num_key_value_heads=1),
    case("mistral_whole", "MistralConfig", sliding_window=None, vocab_size=131),
    case("mistral_head_dim", "MistralConfig", head_dim=16, num_key_value_heads=4),
    case("qwen2", "Qwen2Config", quick="native", tie_word_embeddings=True, vocab_size=103),
    case("qwen2_mha", "Qwen2Config", num_key_value_heads=8, rms_norm_eps=1e-5),
    case("qwen2_mqa", "Qwen2Config", num_attention_heads=7, num_key_value_heads=1, head_dim=8),
    case(
        "qwen2_late_windows",
        "Qwen2Config",
        use_sliding_window=True,
        sliding_window=24,
        max_window_layers=1,
    ),
    case(
        "qwen2_layer_types",
        "Qwen2Config",
        use_sliding_window=True,
        sliding_window=33,
        layer_types=[SLIDING, FULL, SLIDING],
    ),
    case("qwen3", "Qwen3Config", quick="xla", tie_word_embeddings=True),
    case("qwen3_mha", "Qwen3Config", num_key_value_heads=8, vocab_size=107),
    case("qwen3_mqa", "Qwen3Config", num_key_value_heads=1, head_dim=32, rms_norm_eps=1e-5),
    case("qwen3_biases", "Qwen3Config", attention_bias=True, num_key_value_heads=4),
    case(
        "qwen3_windows",
        "Qwen3Config",
        use_sliding_window=True,
        sliding_window=17,
        max_window_layers=2,
        vocab_size=127,
    ),
    case("mixtral", "MixtralConfig", quick="native"),
    case("mixtral_top_1", "MixtralConfig", num_experts_per_tok=1, num_key_value_heads=1),
    case(
        "mixtral_window",
        "MixtralConfig",
        sliding_window=24,
        num_local_experts=3,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        vocab_size=127,
    ),
    case("mixtral_all", "MixtralConfig", num_local_experts=2, vocab_size=109),
    case("qwen3_moe", "Qwen3MoeConfig", quick="xla"),
    case("qwen3_moe_top_1", "Qwen3MoeConfig", num_experts_per_tok=1, norm_topk_prob=False),
    case(
        "qwen3_moe_shares",
        "Qwen3MoeConfig",
        norm_topk_prob=False,
        num_experts_per_tok=5,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    ),
    case(
        "qwen3_moe_window",
        "Qwen3MoeConfig",
        use_sliding_window=True,
        sliding_window=17,
        max_window_layers=2,
        num_key_value_heads=1,
        vocab_size=131,
    ),
    case("gemma2", "Gemma2Config", quick="xla"),
    case("gemma2_mha", "Gemma2Config", num_key_value_heads=8, vocab_size=107, head_dim=24),
    case(
        "gemma2_no_caps",
        "Gemma2Config",
        num_key_value_heads=1,
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
        sliding_window=7,
    ),
    case(
        "gemma2_untied",
        "Gemma2Config",
        tie_word_embeddings=False,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=15.0,
        layer_types=[FULL, SLIDING, SLIDING, FULL],
    ),
    case("gemma3", "Gemma3TextConfig", quick="native"),
    case(
        "gemma3_stretched",
        "Gemma3TextConfig",
        num_key_value_heads=1,
        num_attention_heads=4,
        rope_parameters={
            FULL: {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
            SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
        },
        vocab_size=127,
    ),
    case(
        "gemma3_layer_types",
        "Gemma3TextConfig",
        num_hidden_layers=3,
        num_key_value_heads=8,
        layer_types=[FULL, SLIDING, FULL],
        sliding_window=7,
        final_logit_softcapping=10.0,
        tie_word_embeddings=False,
    ),
    case("opt", "OPTConfig", quick="native"),
    case("opt_untied", "OPTConfig", tie_word_embeddings=False, num_attention_heads=4),
    case(
        "opt_norm_last",
        "OPTConfig",
        do_layer_norm_before=False,
        tie_word_embeddings=False,
        vocab_size=131,
    ),
    case(
        "opt_no_last_norm",
        "OPTConfig",
        _remove_final_layer_norm=True,
        tie_word_embeddings=False,
        vocab_size=97,
    ),
)
