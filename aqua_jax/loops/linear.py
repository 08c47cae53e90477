"""Linear layers: rows by weights, in whatever layout the weights are kept.

Knows: one layer's weights and rows. Does not know: models, sessions. Every model applies its
weights through `apply`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def apply(
    x: jax.Array, weights: jax.Array, live: jax.Array, *, dtype: DTypeLike | None = None
) -> jax.Array:
    """`[rows, in]` by `[in, out]`, summed in float32, as `dtype`; default that of `x`.

    live: int32; rows from there on are nobody's and need not be computed.
    """
    del live  # XLA computes all rows
    made = jnp.matmul(x, weights, preferred_element_type=jnp.float32)
    return made.astype(dtype or x.dtype)
