"""Mixtures of experts as files have them: fields of `config.json`, names of tensors.

Knows: what Mixtral and Qwen3-MoE have beyond Llama. Does not know: arithmetic (`experts.py`), what
they share with it (`llama_files.py`), files.
"""

from __future__ import annotations

from collections.abc import Mapping

from models import config_json, hf_leaves, shapes

_TRAINING = ("output_router_logits", "router_aux_loss_coef", "router_jitter_noise")


def mixtral(fields: config_json.Fields, layers: int) -> shapes.Experts:
    """Mixtral's: every layer has a mixture."""
    del layers
    fields.ignore(_TRAINING)
    active = fields.integer("num_experts_per_tok", 2)
    return shapes.Experts(count=_count(fields, 8), active=active)


def qwen3(fields: config_json.Fields, layers: int) -> shapes.Experts:
    """Qwen3-MoE's. Raises ConfigError where a layer has none."""
    del layers
    fields.ignore((*_TRAINING, "intermediate_size"))
    fields.expect("decoder_sparse_step", 1)
    fields.expect("mlp_only_layers", [])
    return shapes.Experts(
        count=_count(fields, 128),
        active=fields.integer("num_experts_per_tok", 8),
        is_sum_one=fields.flag("norm_topk_prob", False),
    )


def mixtral_windows(fields: config_json.Fields, layers: int) -> tuple[int, ...]:
    """`sliding_window` for every layer; null and absent for none."""
    window = fields.integer("sliding_window", 0, least=0)
    return (window,) * layers if window else ()


def qwen3_windows(fields: config_json.Fields, layers: int) -> tuple[int, ...]:
    """With `use_sliding_window` every layer has it, whatever `max_window_layers` says."""
    fields.ignore(("max_window_layers",))
    absent = 0 if fields.has("sliding_window") else 4096
    window = fields.integer("sliding_window", absent, least=0)
    is_used = fields.flag("use_sliding_window", False)
    return (window,) * layers if window and is_used else ()


def mixtral_leaves(shape: shapes.LlamaShape) -> hf_leaves.Leaves:
    """Where each leaf of the mixture comes from in a checkpoint of Mixtral."""
    return _leaves(shape, "block_sparse_moe", {"gate": "w1", "up": "w3", "down": "w2"})


def qwen3_leaves(shape: shapes.LlamaShape) -> hf_leaves.Leaves:
    """Where each leaf of the mixture comes from in a checkpoint of Qwen3-MoE."""
    return _leaves(shape, "mlp", {one: f"{one}_proj" for one in ("gate", "up", "down")})


def _count(fields: config_json.Fields, absent: int) -> int:
    """Of experts: `num_experts` or `num_local_experts`, by the library that wrote the file."""
    known = fields.raw("num_experts") or fields.raw("num_local_experts") or absent
    for name in ("num_experts", "num_local_experts"):
        count = fields.integer(name, known)
        if count != known:
            raise fields.wrong(name, count, f"{known}, as num_experts says")
    return known


def _leaves(
    shape: shapes.LlamaShape, mixture: str, names: Mapping[str, str]
) -> dict[str, hf_leaves.Leaf]:
    assert shape.experts is not None, "an architecture with experts"
    hidden, ffn, count = shape.hidden, shape.ffn, shape.experts.count
    top = f"model.layers.{{layer}}.{mixture}."
    found = {"blocks.experts.router": hf_leaves.transposed(f"{top}gate.weight", (count, hidden))}
    for ours, theirs in names.items():
        sizes = (hidden, ffn) if ours == "down" else (ffn, hidden)
        name = f"{top}experts.{{expert}}.{theirs}.weight"
        found[f"blocks.experts.{ours}"] = hf_leaves.experts(name, sizes, count)
    return found
