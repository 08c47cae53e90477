"""Models by name or from a folder, for configs."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from aqua_jax.control import errors
from models import checkpoint, decoder, hf_load, llama, shapes


def causal(
    name: str,
    *,
    seed: int,
    path: str = "",
    dtype: str = "float32",
    mesh: jax.sharding.Mesh | None = None,
) -> decoder.CausalDecoder:
    """The model in the folder `path`, or one of shape `name` with weights drawn from `seed`.

    path: in Hugging Face layout or as `checkpoint.save` wrote it; its config.json says all, `name`
    and `seed` nothing. dtype: of computation and weights, whatever the folder's are. mesh: where
    the weights are placed, as the model says; default the first device alone.

    Raises ConfigError for a wrong name, and for a folder that is not whole or contradicts itself.
    """
    if path:
        return checkpoint.load(path, dtype=jnp.dtype(dtype), mesh=mesh)
    model = llama.causal(shapes.by_name(name), seed=seed, dtype=jnp.dtype(dtype))
    model.params = jax.device_put(model.params, hf_load.shardings(model, mesh))
    return model


def write_random(name: str, path: str | pathlib.Path, *, seed: int = 0) -> None:
    """Writes the float32 weights that `causal(name, seed=seed)` draws, in Hugging Face layout.

    Leaves a folder that is there as it is: the same weights are in it. Raises ConfigError for a
    wrong name, and for a shape that no `config.json` says (stretched positions, windows).
    """
    shape = shapes.by_name(name)
    if pathlib.Path(path).exists():
        return
    checkpoint.save(llama.causal(shape, seed=seed).params, _config(shape), path)


def _config(shape: shapes.LlamaShape) -> dict[str, Any]:
    """The fields of a `config.json` that say `shape`."""
    if shape.rope_scaling or shape.windows or shape.qkv_bias:
        raise errors.ConfigError(
            f"model shape {shape.name!r} has stretched positions, windows or biases: random weights"
            " are written for Llama's plain shapes and Qwen3's; load a folder of its own"
        )
    return {
        "architectures": ["Qwen3ForCausalLM" if shape.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if shape.qk_norm else "llama",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context_tokens,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_epsilon,
        "tie_word_embeddings": shape.tied_embeddings,
        "torch_dtype": "float32",
    }
