"""Models by name, for configs."""

from __future__ import annotations

import jax.numpy as jnp

from models import checkpoint, decoder, llama, shapes


def causal_llama(
    name: str, *, seed: int, path: str = "", dtype: str = "float32"
) -> decoder.CausalDecoder:
    """The Llama of shape `name`, its weights from the checkpoint `path` or drawn from `seed`.

    Raises ConfigError for a wrong name, and for a checkpoint that is not there or does not fit.
    """
    shape = shapes.by_name(name)
    if path:
        return checkpoint.restore(shape, path, dtype=jnp.dtype(dtype))
    return llama.causal(shape, seed=seed, dtype=jnp.dtype(dtype))
