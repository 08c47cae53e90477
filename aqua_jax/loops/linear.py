"""Linear layers: rows by weights, in whatever layout the weights are kept.

Knows: one layer's weights and rows, what is computed around a product. Does not know: models,
sessions. Every model applies its weights through `apply` and `gated`. Plain weights are XLA's,
packed ones (`packed.py`) the native library's, in one call each.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from aqua_jax.loops import packed

# What a leaf of a model's parameters is for this file, "" being nothing.
WEIGHTS = "weights"  # `[..., in, out]`, applied
TABLE = "table"  # `[entries, size]`, looked up, and applied transposed

Weights = jax.Array | packed.Packed

_ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
}


class Norm(NamedTuple):
    """An RMSNorm of the rows before they are applied, as of `rms_norm`."""

    scale: jax.Array
    epsilon: float
    from_one: bool = False


def apply(
    x: jax.Array,
    weights: Weights,
    live: jax.Array,
    *,
    dtype: DTypeLike | None = None,
    norm: Norm | None = None,
    bias: jax.Array | None = None,
    added: jax.Array | None = None,
) -> jax.Array:
    """`[rows, in]` by `[in, out]`, summed in float32, as `dtype`; default that of `x`.

    live: int32; rows from there on are nobody's and need not be computed. bias: `[out]`, and
    added: `[rows, out]`, are added to the product.
    """
    if isinstance(weights, packed.Packed):
        around = packed.Around(**_norm(norm), bias=bias, added=added)
        return packed.multiply(x, weights, live, dtype=dtype or x.dtype, around=around)
    h = x if norm is None else rms_norm(x, norm.scale, norm.epsilon, from_one=norm.from_one)
    made = jnp.matmul(h, weights, preferred_element_type=jnp.float32).astype(dtype or x.dtype)
    made = made if bias is None else made + bias[None]
    return made if added is None else added + made


def gated(
    x: jax.Array,
    weights: tuple[Weights, Weights],
    live: jax.Array,
    *,
    activation: str,
    norm: Norm | None = None,
    biases: tuple[jax.Array | None, jax.Array | None] = (None, None),
) -> jax.Array:
    """`activation` of x by the first weights, times x by the second: `[rows, out]`.

    activation: silu or gelu_tanh. biases: `[out]` of either product (arXiv 2002.05202).
    """
    gate, up = weights
    if isinstance(gate, packed.Packed) and biases == (None, None):
        assert isinstance(up, packed.Packed), "both weights are kept alike"
        around = packed.Around(**_norm(norm), factors=up, activation=activation)
        return packed.multiply(x, gate, live, dtype=x.dtype, around=around)
    first, second = (
        apply(x, each, live, norm=norm, bias=bias)
        for each, bias in zip(weights, biases, strict=True)
    )
    return _ACTIVATIONS[activation](first) * second


def rms_norm(
    x: jax.Array, scale: jax.Array, epsilon: float, *, from_one: bool = False
) -> jax.Array:
    """Over the last axis, in float32 (arXiv 1910.07467).

    from_one: `scale` is what the factor has above 1, and is applied in float32, as Gemma does.
    """
    wide = x.astype(jnp.float32)
    normed = wide * lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + epsilon)
    factors = jnp.expand_dims(scale, tuple(range(x.ndim - 1)))
    if from_one:
        return (normed * (1.0 + factors.astype(jnp.float32))).astype(x.dtype)
    return normed.astype(x.dtype) * factors


def entries(table: Weights) -> int:
    """Of a table, on this shard."""
    return table.columns if isinstance(table, packed.Packed) else table.shape[0]


def look_up(table: Weights, ids: jax.Array) -> jax.Array:
    """`[ids]` below `entries` -> `[ids, size]`.

    XLA on CPU gathers bfloat16 as float32. Within a loop it would convert the whole table before
    it, as what no turn changes; so the table is made to hang on the ids.
    """
    table, ids = lax.optimization_barrier((table, ids))
    return packed.column(table, ids) if isinstance(table, packed.Packed) else table[ids]


def transposed(table: Weights) -> Weights:
    """A table as `apply` takes weights."""
    return table if isinstance(table, packed.Packed) else table.T


class Experts(NamedTuple):
    """The weights of one layer's experts, still within the stack of all layers.

    To cut a layer out of the stack would copy experts that nobody chose.
    """

    weights: Weights  # [layers, experts, in, out]
    layer: jax.Array  # int32


def expert(experts: Experts, index: jax.Array) -> Weights:
    """Expert `index` of the layer, as `apply` takes weights."""
    return experts.weights[experts.layer, index]


def _norm(norm: Norm | None) -> dict:
    if norm is None:
        return {}
    return {"norm": norm.scale, "epsilon": norm.epsilon, "from_one": norm.from_one}
