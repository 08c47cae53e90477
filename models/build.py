"""Models by name or from a folder, for configs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

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
