"""Linear layers: rows by weights, in whatever layout the weights are kept.

Knows: one layer's weights and rows. Does not know: models, sessions. Every model applies its
weights through `apply`.
"""

from __future__ import annotations

from typing import NamedTuple

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


class Experts(NamedTuple):
    """The weights of one layer's experts, still within the stack of all layers.

    To cut a layer out of the stack would copy experts that nobody chose.
    """

    weights: jax.Array  # [layers, experts, in, out], or as many in another layout
    layer: jax.Array  # int32


def expert(experts: Experts, index: jax.Array) -> jax.Array:
    """Expert `index` of the layer, as `apply` takes weights.

    Weights in another layout keep both leading axes, so that this finds one expert's in them too.
    """
    return experts.weights[experts.layer, index]
