"""Gemma 2 and 3 as files have them: fields of `config.json`, names and shapes of tensors.

Knows: what the fields mean and are when they are absent, how our leaves are made of tensors. Does
not know: arithmetic (`gemma.py`), files.
"""

from __future__ import annotations

import pathlib

from models import config_json, gemma, hf_leaves, position_fields

_TWO, _THREE = "Gemma2ForCausalLM", "Gemma3ForCausalLM"
ARCHITECTURES = (_TWO, _THREE)


def from_config(fields: config_json.Fields) -> gemma.GemmaShape:
    """The shape that a `config.json` of one of `ARCHITECTURES` describes. Raises ConfigError."""
    is_three = fields.architecture == _THREE
    layers = fields.integer("num_hidden_layers")
    wide, window = _three_ropes(fields) if is_three else _two_ropes(fields)
    for name in ("hidden_act", "hidden_activation"):
        fields.expect(name, "gelu_pytorch_tanh")
    for name in ("attention_bias", "use_bidirectional_attention"):
        fields.expect(name, False)
    if is_three:
        fields.expect("attn_logit_softcapping", None)
    fields.expect("sliding_window_size", fields.raw("sliding_window"))
    fields.ignore(("attention_dropout",))
    shape = gemma.GemmaShape(
        name=pathlib.Path(fields.path).parent.name,
        source=str(fields.path),
        layers=layers,
        hidden=fields.integer("hidden_size"),
        ffn=fields.integer("intermediate_size"),
        heads=fields.integer("num_attention_heads"),
        kv_heads=fields.integer("num_key_value_heads"),
        head_dim=fields.integer("head_dim", 256),
        vocab=fields.integer("vocab_size"),
        windows=_windows(fields, layers, is_three=is_three),
        wide_rope=wide,
        window_rope=window,
        score_scale=fields.number("query_pre_attn_scalar", 256.0) ** -0.5,
        score_softcap=_softcap(fields, "attn_logit_softcapping", 0.0 if is_three else 50.0),
        logit_softcap=_softcap(fields, "final_logit_softcapping", 0.0 if is_three else 30.0),
        qk_norm=is_three,
        norm_epsilon=fields.number("rms_norm_eps", 1e-6),
        tied_embeddings=fields.flag("tie_word_embeddings", True),
        context_tokens=fields.integer("max_position_embeddings", 131_072 if is_three else 8192),
    )
    fields.refuse_rest()
    return shape


def leaves(shape: gemma.GemmaShape) -> hf_leaves.Leaves:
    """Where each leaf of `gemma.causal(shape)` comes from in a checkpoint."""
    hidden, ffn, layer = shape.hidden, shape.ffn, "model.layers.{layer}."
    found = {
        "ends.embedding": hf_leaves.same("model.embed_tokens.weight", (shape.vocab, hidden)),
        "ends.norm": hf_leaves.same("model.norm.weight", (hidden,)),
        "blocks.qkv": hf_leaves.qkv(
            layer + "self_attn.{one}_proj.weight",
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            hidden=hidden,
        ),
        "blocks.out": hf_leaves.transposed(
            f"{layer}self_attn.o_proj.weight", (hidden, shape.heads * shape.head_dim)
        ),
    }
    for ours, theirs, sizes in (
        ("gate", "gate_proj", (ffn, hidden)),
        ("up", "up_proj", (ffn, hidden)),
        ("down", "down_proj", (hidden, ffn)),
    ):
        found[f"blocks.{ours}"] = hf_leaves.transposed(f"{layer}mlp.{theirs}.weight", sizes)
    for ours, theirs in (
        ("attention", "input"),
        ("attended", "post_attention"),
        ("ffn", "pre_feedforward"),
        ("made", "post_feedforward"),
    ):
        name = f"{layer}{theirs}_layernorm.weight"
        found[f"blocks.{ours}_norm"] = hf_leaves.same(name, (hidden,))
    if shape.qk_norm:
        for ours, theirs in (("query", "q"), ("key", "k")):
            name = f"{layer}self_attn.{theirs}_norm.weight"
            found[f"blocks.{ours}_norm"] = hf_leaves.same(name, (shape.head_dim,))
    if not shape.tied_embeddings:
        found["ends.head"] = hf_leaves.transposed("lm_head.weight", (shape.vocab, hidden))
    return found


def _softcap(fields: config_json.Fields, name: str, absent: float) -> float:
    """A cap, or 0 for none: null has always meant none, absence what the first model had."""
    if fields.raw(name) is None:
        return 0.0 if fields.has(name) else absent
    return fields.number(name)


def _windows(fields: config_json.Fields, layers: int, *, is_three: bool) -> tuple[int, ...]:
    """Of each layer. Where `layer_types` is absent, all but each second or sixth have one."""
    window = fields.integer("sliding_window", None if fields.has("sliding_window") else 4096)
    every = fields.integer("sliding_window_pattern", 6) if is_three else 2
    fields.ignore(("_sliding_window_pattern",))
    kinds = position_fields.layer_types(fields, layers)
    if kinds is not None:
        return position_fields.typed_windows(fields, kinds, window)
    return tuple(window if (index + 1) % every else 0 for index in range(layers))


def _two_ropes(fields: config_json.Fields) -> tuple[gemma.Rope, gemma.Rope]:
    """Of layers without a window and with one: Gemma 2's are the same."""
    both = gemma.Rope(*position_fields.rope(fields))
    return both, both


def _three_ropes(fields: config_json.Fields) -> tuple[gemma.Rope, gemma.Rope]:
    """Gemma 3's: `rope_parameters` has both, older files `rope_local_base_freq` beside others.

    `rope_scaling` is of the layers without a window alone.
    """
    new = fields.inner("rope_parameters")
    if new is None:
        local = fields.number("rope_local_base_freq", 10_000.0)
        return gemma.Rope(*position_fields.rope(fields, theta=1_000_000.0)), gemma.Rope(local)
    fields.expect("rope_scaling", None)
    context = fields.integer("max_position_embeddings", 131_072)
    wide = _rope_of(new.inner("full_attention"), 1_000_000.0, context)
    window = _rope_of(new.inner("sliding_attention"), 10_000.0, context)
    new.refuse_rest()
    fields.expect("rope_theta", wide.theta)
    fields.expect("rope_local_base_freq", window.theta)
    return wide, window


def _rope_of(inner: config_json.Fields | None, theta: float, context: int) -> gemma.Rope:
    if inner is None:
        return gemma.Rope(theta)
    return gemma.Rope(*position_fields.rope_of(inner, theta=theta, context_tokens=context))
