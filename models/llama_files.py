"""Llama and its kin as files have them: fields of `config.json`, names and shapes of tensors.

Knows: what each architecture's fields mean and are when they are absent, how our leaves are made
of tensors. Does not know: arithmetic (`llama.py`), files.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping

from models import config_json, experts_files, hf_leaves, position_fields, shapes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """What an architecture has whatever its file says, and what an absent field stands for.

    kv_heads: 0 for as many as heads. head_dim: 0 for hidden / heads. windows: of (fields, layers),
    one a layer. biases: flags of the file that are honoured; any other is refused. ffn: the
    field of the FFN's width, or of each expert's. experts: of (fields, layers).
    """

    context_tokens: int
    kv_heads: int = 0
    head_dim: int = 0
    qkv_bias: bool = False
    qk_norm: bool = False
    windows: Callable[[config_json.Fields, int], tuple[int, ...]] = lambda fields, layers: ()
    biases: tuple[str, ...] = ()
    rope_theta: float = 10_000.0
    ffn: str = "intermediate_size"
    experts: Callable[[config_json.Fields, int], shapes.Experts | None] = lambda fields, layers: (
        None
    )


_VARIANTS: Mapping[str, _Variant] = {
    # Llama 2 and 3, CodeLlama and many others (arXiv 2307.09288, 2407.21783).
    "LlamaForCausalLM": _Variant(context_tokens=2048, biases=("attention_bias", "mlp_bias")),
    # arXiv 2310.06825
    "MistralForCausalLM": _Variant(
        context_tokens=131_072, kv_heads=8, windows=position_fields.same_windows
    ),
    # Qwen2 and 2.5 (arXiv 2407.10671).
    "Qwen2ForCausalLM": _Variant(
        context_tokens=32_768, kv_heads=32, qkv_bias=True, windows=position_fields.late_windows
    ),
    # arXiv 2505.09388
    "Qwen3ForCausalLM": _Variant(
        context_tokens=32_768,
        kv_heads=32,
        head_dim=128,
        qk_norm=True,
        windows=position_fields.late_windows,
        biases=("attention_bias",),
    ),
    # arXiv 2401.04088
    "MixtralForCausalLM": _Variant(
        context_tokens=131_072,
        kv_heads=8,
        rope_theta=1_000_000.0,
        windows=experts_files.mixtral_windows,
        experts=experts_files.mixtral,
    ),
    "Qwen3MoeForCausalLM": _Variant(
        context_tokens=32_768,
        kv_heads=4,
        qk_norm=True,
        windows=experts_files.qwen3_windows,
        biases=("attention_bias",),
        ffn="moe_intermediate_size",
        experts=experts_files.qwen3,
    ),
}
MIXTRAL, QWEN3_MOE = "MixtralForCausalLM", "Qwen3MoeForCausalLM"
ARCHITECTURES = tuple(name for name in _VARIANTS if name not in (MIXTRAL, QWEN3_MOE))


def from_config(fields: config_json.Fields) -> shapes.LlamaShape:
    """The shape that a `config.json` of these architectures describes. Raises ConfigError."""
    variant = _VARIANTS[fields.architecture]
    heads = fields.integer("num_attention_heads")
    hidden = fields.integer("hidden_size")
    layers = fields.integer("num_hidden_layers")
    # Null has always meant as many as heads, absence what the first model of its name has.
    kv_heads = heads if fields.has("num_key_value_heads") else variant.kv_heads or heads
    theta, scaling = position_fields.rope(fields, theta=variant.rope_theta)
    honoured = {name: fields.flag(name, False) for name in variant.biases}
    fields.expect("hidden_act", "silu", "swish")
    fields.ignore(("attention_dropout",))
    shape = shapes.LlamaShape(
        name=pathlib.Path(fields.path).parent.name,
        source=str(fields.path),
        layers=layers,
        hidden=hidden,
        ffn=fields.integer(variant.ffn),
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", kv_heads),
        head_dim=fields.integer("head_dim", variant.head_dim or hidden // heads),
        vocab=fields.integer("vocab_size"),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_epsilon=fields.number("rms_norm_eps", 1e-6),
        tied_embeddings=fields.flag("tie_word_embeddings", False),
        context_tokens=fields.integer("max_position_embeddings", variant.context_tokens),
        qkv_bias=variant.qkv_bias or honoured.get("attention_bias", False),
        out_bias=honoured.get("attention_bias", False),
        mlp_bias=honoured.get("mlp_bias", False),
        qk_norm=variant.qk_norm,
        windows=variant.windows(fields, layers),
        experts=variant.experts(fields, layers),
    )
    fields.refuse_rest()
    return shape


def leaves(shape: shapes.LlamaShape) -> hf_leaves.Leaves:
    """Where each leaf of `llama.causal(shape)` comes from in a checkpoint of `ARCHITECTURES`."""
    return {**_common_leaves(shape), **_dense_leaves(shape)}


def mixtral_leaves(shape: shapes.LlamaShape) -> hf_leaves.Leaves:
    """The same in a checkpoint of `MIXTRAL`."""
    return {**_common_leaves(shape), **experts_files.mixtral_leaves(shape)}


def qwen3_moe_leaves(shape: shapes.LlamaShape) -> hf_leaves.Leaves:
    """The same in a checkpoint of `QWEN3_MOE`."""
    return {**_common_leaves(shape), **experts_files.qwen3_leaves(shape)}


def _common_leaves(shape: shapes.LlamaShape) -> hf_leaves.Leaves:
    """All but the FFN's, of which the norm is here."""
    hidden, layer = shape.hidden, "model.layers.{layer}."
    found = {
        "ends.embedding": hf_leaves.same("model.embed_tokens.weight", (shape.vocab, hidden)),
        "ends.norm": hf_leaves.same("model.norm.weight", (hidden,)),
        "blocks.attention_norm": hf_leaves.same(f"{layer}input_layernorm.weight", (hidden,)),
        "blocks.ffn_norm": hf_leaves.same(f"{layer}post_attention_layernorm.weight", (hidden,)),
        **_attention_leaves(shape),
    }
    if not shape.tied_embeddings:
        found["ends.head"] = hf_leaves.transposed("lm_head.weight", (shape.vocab, hidden))
    return found


def _dense_leaves(shape: shapes.LlamaShape) -> hf_leaves.Leaves:
    hidden, ffn, layer = shape.hidden, shape.ffn, "model.layers.{layer}."
    found: dict[str, hf_leaves.Leaf] = {}
    for ours, theirs, sizes in (
        ("gate", "gate_proj", (ffn, hidden)),
        ("up", "up_proj", (ffn, hidden)),
        ("down", "down_proj", (hidden, ffn)),
    ):
        found[f"blocks.{ours}"] = hf_leaves.transposed(f"{layer}mlp.{theirs}.weight", sizes)
        if shape.mlp_bias:
            found[f"blocks.{ours}_bias"] = hf_leaves.same(f"{layer}mlp.{theirs}.bias", sizes[:1])
    return found


def _attention_leaves(shape: shapes.LlamaShape) -> hf_leaves.Leaves:
    """Those of `leaves` that are attention's, its norm excepted."""
    hidden, attend = shape.hidden, "model.layers.{layer}.self_attn."
    qkv = functools.partial(
        hf_leaves.qkv,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        hidden=hidden,
    )
    found = {
        "blocks.qkv": qkv(f"{attend}{{one}}_proj.weight"),
        "blocks.out": hf_leaves.transposed(
            f"{attend}o_proj.weight", (hidden, shape.heads * shape.head_dim)
        ),
    }
    if shape.qkv_bias:
        found["blocks.qkv_bias"] = qkv(f"{attend}{{one}}_proj.bias", bias=True)
    if shape.out_bias:
        found["blocks.out_bias"] = hf_leaves.same(f"{attend}o_proj.bias", (hidden,))
    if shape.qk_norm:
        for ours, theirs in (("query", "q"), ("key", "k")):
            name = f"{attend}{theirs}_norm.weight"
            found[f"blocks.{ours}_norm"] = hf_leaves.same(name, (shape.head_dim,))
    return found
