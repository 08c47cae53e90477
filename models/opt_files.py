"""OPT as files have it: fields of `config.json`, names and shapes of tensors.

Knows: what the fields mean and are when they are absent, how our leaves are made of tensors. Does
not know: arithmetic (`opt.py`), files.
"""

from __future__ import annotations

import pathlib

from models import config_json, hf_leaves, opt

ARCHITECTURES = ("OPTForCausalLM",)


def from_config(fields: config_json.Fields) -> opt.OptShape:
    """The shape that a `config.json` of one of `ARCHITECTURES` describes. Raises ConfigError."""
    hidden = fields.integer("hidden_size")
    norm_first = fields.flag("do_layer_norm_before", True)
    no_last_norm = fields.flag("_remove_final_layer_norm", False)
    fields.expect("word_embed_proj_dim", hidden)  # else OPT 350M's two projections
    fields.expect("activation_function", "relu")
    fields.expect("enable_bias", True)
    fields.expect("layer_norm_elementwise_affine", True)
    fields.ignore(("activation_dropout", "attention_dropout", "dropout", "init_std", "layerdrop"))
    shape = opt.OptShape(
        name=pathlib.Path(fields.path).parent.name,
        source=str(fields.path),
        layers=fields.integer("num_hidden_layers"),
        hidden=hidden,
        ffn=fields.integer("ffn_dim"),
        heads=fields.integer("num_attention_heads"),
        vocab=fields.integer("vocab_size"),
        context_tokens=fields.integer("max_position_embeddings", 2048),
        norm_first=norm_first,
        last_norm=norm_first and not no_last_norm,
        tied_embeddings=fields.flag("tie_word_embeddings", True),
    )
    fields.refuse_rest()
    return shape


def leaves(shape: opt.OptShape) -> hf_leaves.Leaves:
    """Where each leaf of `opt.causal(shape)` comes from in a checkpoint."""
    hidden, ffn, top = shape.hidden, shape.ffn, "model.decoder."
    layer = f"{top}layers.{{layer}}."
    positions = (shape.context_tokens + opt.POSITION_OFFSET, hidden)
    found = {
        "ends.embedding": hf_leaves.same(f"{top}embed_tokens.weight", (shape.vocab, hidden)),
        "ends.positions": hf_leaves.same(f"{top}embed_positions.weight", positions),
    }
    for what, bias in (("weight", False), ("bias", True)):
        found["blocks.qkv_bias" if bias else "blocks.qkv"] = hf_leaves.qkv(
            layer + "self_attn.{one}_proj." + what,
            heads=shape.heads,
            kv_heads=shape.heads,
            head_dim=shape.head_dim,
            hidden=hidden,
            bias=bias,
        )
    for ours, theirs, sizes in (
        ("out", "self_attn.out_proj", (hidden, hidden)),
        ("up", "fc1", (ffn, hidden)),
        ("down", "fc2", (hidden, ffn)),
    ):
        found[f"blocks.{ours}"] = hf_leaves.transposed(f"{layer}{theirs}.weight", sizes)
        found[f"blocks.{ours}_bias"] = hf_leaves.same(f"{layer}{theirs}.bias", sizes[:1])
    norms = [
        ("blocks.attention_norm", f"{layer}self_attn_layer_norm"),
        ("blocks.ffn_norm", f"{layer}final_layer_norm"),
    ]
    if shape.last_norm:
        norms.append(("ends.norm", f"{top}final_layer_norm"))
    for ours, theirs in norms:
        found[f"{ours}.scale"] = hf_leaves.same(f"{theirs}.weight", (hidden,))
        found[f"{ours}.bias"] = hf_leaves.same(f"{theirs}.bias", (hidden,))
    if not shape.tied_embeddings:
        found["ends.head"] = hf_leaves.transposed("lm_head.weight", (shape.vocab, hidden))
    return found
