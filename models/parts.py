"""What the blocks of all families are made of: weights, norms, rotary positions.

Knows: arrays of rows (tokens), flax variables. Does not know: any family, pages, other rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from aqua_jax.loops import forward, linear
from models import shapes


class LinearWeights(nnx.Param):
    """Weights `[..., in, out]` of a linear layer, applied by `loops.linear.apply` alone."""


class ExpertWeights(LinearWeights):
    """Weights `[..., experts, in, out]`, each expert's fetched by `loops.linear.expert`."""


class AppliedTable(nnx.Param):
    """A table of vectors that `look_up` reads and that is the head too: `linear.transposed`."""


class LayerConstant(nnx.Variable):
    """What differs from layer to layer and is no weight: `decoder.CausalDecoder` has its values."""


def column_parallel(
    rngs: nnx.Rngs, sizes: tuple[int, int], *, dtype: DTypeLike, experts: int = 0
) -> LinearWeights:
    """Random `[in, out]`, of which every shard has its columns; of each expert, if there are."""
    return _linear(rngs, sizes, dtype, (None, forward.TENSOR_AXIS), experts)


def row_parallel(
    rngs: nnx.Rngs, sizes: tuple[int, int], *, dtype: DTypeLike, experts: int = 0
) -> LinearWeights:
    """Random `[in, out]`, of which every shard has its rows: results are to be summed.

    experts: as of `column_parallel`.
    """
    return _linear(rngs, sizes, dtype, (forward.TENSOR_AXIS, None), experts)


def whole(rngs: nnx.Rngs, sizes: tuple[int, int], *, dtype: DTypeLike) -> LinearWeights:
    """Random `[in, out]`, all of which every shard has."""
    return _linear(rngs, sizes, dtype, (None, None))


def table(
    rngs: nnx.Rngs, sizes: tuple[int, int], *, dtype: DTypeLike, is_head: bool = False
) -> nnx.Param:
    """A random table of vectors `[entries, size]`, of which every shard has its entries.

    is_head: it is applied too.
    """
    weights = jax.random.normal(rngs.params(), sizes, jnp.float32) * sizes[1] ** -0.5
    return (AppliedTable if is_head else nnx.Param)(
        weights.astype(dtype), out_sharding=(forward.TENSOR_AXIS, None), eager_sharding=False
    )


def bias(rngs: nnx.Rngs, size: int, *, of: int, sharded: bool, dtype: DTypeLike) -> nnx.Param:
    """A random `[size]` to add to what weights from `of` inputs make; every shard has its share."""
    values = jax.random.normal(rngs.params(), (size,), jnp.float32) * of**-0.5
    sharding = (forward.TENSOR_AXIS if sharded else None,)
    return nnx.Param(values.astype(dtype), out_sharding=sharding, eager_sharding=False)


def look_up(table: linear.Weights, ids: jax.Array) -> jax.Array:
    """`[rows]` ids -> `[rows, hidden]`. Every shard looks up its ids; the others add zeros."""
    if lax.axis_size(forward.TENSOR_AXIS) == 1:
        return linear.look_up(table, ids)
    entries = linear.entries(table)
    local = ids - lax.axis_index(forward.TENSOR_AXIS) * entries
    mine = (local >= 0) & (local < entries)
    found = linear.look_up(table, jnp.where(mine, local, 0))
    return lax.psum(jnp.where(mine[:, None], found, jnp.zeros_like(found)), forward.TENSOR_AXIS)


def sum_shards(x: jax.Array) -> jax.Array:
    """What row-parallel weights make, over all shards."""
    return x if lax.axis_size(forward.TENSOR_AXIS) == 1 else lax.psum(x, forward.TENSOR_AXIS)


def gather_columns(x: jax.Array) -> jax.Array:
    """`[rows, columns]` of all shards side by side."""
    if lax.axis_size(forward.TENSOR_AXIS) == 1:  # a gather of one still copies
        return x
    return lax.all_gather(x, forward.TENSOR_AXIS, axis=1, tiled=True)


rms_norm = linear.rms_norm  # where a family's norm stands for itself


def add_row_product(
    x: jax.Array,
    rows: jax.Array,
    weights: linear.Weights,
    live: jax.Array,
    *,
    bias: jax.Array | None = None,
) -> jax.Array:
    """X and what row-parallel weights make of `rows`, over all shards: the end of half a layer.

    bias: added once, every shard having all of it.
    """
    if lax.axis_size(forward.TENSOR_AXIS) == 1:
        return linear.apply(rows, weights, live, bias=bias, added=x)
    made = sum_shards(linear.apply(rows, weights, live))
    return x + (made if bias is None else made + bias[None])


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """`[rows, hidden]` over the last axis, in float32 (arXiv 1607.06450)."""
    wide = x.astype(jnp.float32)
    wide = wide - jnp.mean(wide, -1, keepdims=True)
    normed = wide * lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + epsilon)
    wide = normed * scale.astype(jnp.float32)[None] + bias.astype(jnp.float32)[None]
    return wide.astype(x.dtype)


def rope(x: jax.Array, positions: jax.Array, frequencies: jax.Array) -> jax.Array:
    """Rotates `[rows, kv_heads, vectors, head_dim]`: dimension i pairs with i + head_dim / 2.

    frequencies: float32 `[head_dim / 2]`, radians per position of each pair.
    """
    angles = positions.astype(jnp.float32)[:, None] * frequencies[None]
    cos, sin = jnp.cos(angles)[:, None, None], jnp.sin(angles)[:, None, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
    return rotated.astype(x.dtype)


def rope_frequencies(
    head_dim: int, theta: float, scaling: shapes.AnyRopeScaling | None = None
) -> tuple[float, ...]:
    """Radians per position of each pair of dimensions, `head_dim / 2` of them.

    RoFormer (arXiv 2104.09864), section 3.2.2; all slowed by a factor (linear), or as in
    Llama 3.1: wavelengths much shorter than the original context stay, frequencies of much
    longer ones are divided by `factor`.
    """
    half = head_dim // 2
    frequencies = theta ** (-np.arange(half, dtype=np.float64) / half)
    if isinstance(scaling, shapes.LinearRopeScaling):
        frequencies = frequencies / scaling.factor
    elif scaling is not None:
        turns = scaling.original_context_tokens * frequencies / (2 * np.pi)
        span = scaling.high_frequency_factor - scaling.low_frequency_factor
        keep = np.clip((turns - scaling.low_frequency_factor) / span, 0.0, 1.0)
        frequencies = frequencies * (keep + (1 - keep) / scaling.factor)
    return tuple(float(f) for f in frequencies)


def as_float32(values: Sequence[float]) -> jax.Array:
    """A constant of a program."""
    return jnp.asarray(values, jnp.float32)


def _linear(
    rngs: nnx.Rngs,
    sizes: tuple[int, int],
    dtype: DTypeLike,
    sharding: tuple[str | None, ...],
    experts: int = 0,
) -> LinearWeights:
    kind, lead = (ExpertWeights, (experts,)) if experts else (LinearWeights, ())
    weights = jax.random.normal(rngs.params(), (*lead, *sizes), jnp.float32) * sizes[0] ** -0.5
    sharding = (*(None for _ in lead), *sharding)
    return kind(weights.astype(dtype), out_sharding=sharding, eager_sharding=False)
