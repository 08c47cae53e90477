"""Models by name, for configs."""

from __future__ import annotations

import jax.numpy as jnp

from aqua_jax.experiments import settings
from models import checkpoint, llama, shapes


def causal_llama(model: settings.ModelSettings) -> llama.CausalLlama:
    """The Llama of shape `model.name`, its weights from `model.path` or drawn from `model.seed`.

    Raises ConfigError for a wrong name, and for a checkpoint that is not there or does not fit.
    """
    shape, dtype = shapes.by_name(model.name), jnp.dtype(model.dtype)
    if model.path:
        return checkpoint.restore(shape, model.path, dtype=dtype)
    return llama.CausalLlama(shape, seed=model.seed, dtype=dtype)
