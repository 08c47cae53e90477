"""Llama-family decoders in flax: RMSNorm, RoPE, grouped-query attention, SwiGLU.

Knows: weights and the arithmetic of single rows (tokens). Does not know: pages,
lanes, schedules, other rows. Attention itself is the loop's, between `project`
and `combine`.

Letters of shapes: `[rows]` tokens of any sessions in any order; under
tensor parallelism `kv_heads`, `ffn` and `vocab` are this shard's share.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from aqua_jax.control import errors
from aqua_jax.loops import forward
from models import shapes

# The queries' and keys' initial scale over the usual one. At 1 the scores of random weights are
# nearly equal, attention averages its values away and the next token follows from the last alone,
# so greedy output soon runs in a circle.
_QUERY_KEY_GAIN = 2.0


class CausalLlama:
    """A Llama as `forward.CausalModel`: pure functions over `params`, for use inside jit.

    Weights are random, drawn from `seed`: same shape, seed and dtype, same weights.
    """

    def __init__(
        self, shape: shapes.LlamaShape, *, seed: int = 0, dtype: DTypeLike = jnp.float32
    ) -> None:
        self.shape = shape
        self.facts = forward.ModelFacts(
            name=shape.name,
            layers=shape.layers,
            hidden=shape.hidden,
            kv_heads=shape.kv_heads,
            group=shape.group,
            head_dim=shape.head_dim,
            vocab=shape.vocab,
            dtype=jnp.dtype(dtype),
        )
        module = Llama(shape, rngs=nnx.Rngs(seed), dtype=dtype)
        self._ends, ends = nnx.split(module.ends)
        self._block, blocks = nnx.split(module.blocks)
        self.params = {"ends": nnx.as_pure(ends), "blocks": nnx.as_pure(blocks)}
        self._specs = jax.tree.map(
            lambda variable: variable.get_value(),
            nnx.get_partition_spec({"ends": ends, "blocks": blocks}),
            is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
        )

    def specs(self, shards: int) -> Any:
        """PartitionSpecs of `params`. Raises ConfigError when `shards` do not divide the shape."""
        for what, count in (
            ("kv_heads", self.shape.kv_heads),
            ("ffn", self.shape.ffn),
            ("vocab", self.shape.vocab),
        ):
            if count % shards:
                raise errors.ConfigError(
                    f"model {self.shape.name!r} has {what}={count}, which {shards} tensor-parallel "
                    f"shards do not divide: choose a number of shards that divides {count}"
                )
        return self._specs

    def layers(self, params: Any) -> Any:
        return params["blocks"]

    def embed(self, params: Any, ids: jax.Array) -> jax.Array:
        return nnx.merge(self._ends, params["ends"]).embed(ids)

    def project(
        self, layer: Any, x: jax.Array, positions: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        return nnx.merge(self._block, layer).project(x, positions)

    def combine(self, layer: Any, x: jax.Array, attended: jax.Array) -> jax.Array:
        return nnx.merge(self._block, layer).combine(x, attended)

    def logits(self, params: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(self._ends, params["ends"]).logits(x)


class Llama(nnx.Module):
    """The weights: `ends` (embedding, last norm, head) and `blocks`, stacked over layers."""

    def __init__(self, shape: shapes.LlamaShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        @nnx.split_rngs(splits=shape.layers)
        @nnx.vmap(in_axes=(0,), out_axes=0, transform_metadata={nnx.PARTITION_NAME: None})
        def stack(rngs: nnx.Rngs) -> Block:
            return Block(shape, rngs=rngs, dtype=dtype)

        self.ends = Ends(shape, rngs=rngs, dtype=dtype)
        self.blocks = stack(rngs)


class Ends(nnx.Module):
    """What comes before the first layer and after the last. Sharded over the vocabulary."""

    def __init__(self, shape: shapes.LlamaShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        table, deviation = (shape.vocab, shape.hidden), shape.hidden**-0.5
        self.epsilon = shape.norm_epsilon
        self.norm = nnx.Param(jnp.ones(shape.hidden, dtype))
        sharding = (forward.TENSOR_AXIS, None)
        self.embedding = _normal(rngs, table, deviation, dtype, sharding)
        head = None if shape.tied_embeddings else _normal(rngs, table, deviation, dtype, sharding)
        self.head = nnx.data(head)

    def embed(self, ids: jax.Array) -> jax.Array:
        """`[rows]` ids -> `[rows, hidden]`. Every shard looks up its ids; the others add zeros."""
        table = self.embedding[...]
        local = ids - lax.axis_index(forward.TENSOR_AXIS) * table.shape[0]
        mine = (local >= 0) & (local < table.shape[0])
        found = table[jnp.where(mine, local, 0)]
        return lax.psum(jnp.where(mine[:, None], found, jnp.zeros_like(found)), forward.TENSOR_AXIS)

    def logits(self, x: jax.Array) -> jax.Array:
        """`[rows, hidden]` -> float32 `[rows, vocab]`, the whole vocabulary on every shard."""
        head = self.embedding if self.head is None else self.head
        x = _rms_norm(x, self.norm[...], self.epsilon)
        local = jnp.einsum("rh,vh->rv", x, head[...], preferred_element_type=jnp.float32)
        return lax.all_gather(local, forward.TENSOR_AXIS, axis=1, tiled=True)


class Block(nnx.Module):
    """One layer. Column-parallel in, row-parallel out: one sum over shards after each half.

    qkv holds for each KV head its queries, its key and its value, so that sharding
    by KV heads keeps together what attends together.
    """

    def __init__(self, shape: shapes.LlamaShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        hidden, ffn, axis = shape.hidden, shape.ffn, forward.TENSOR_AXIS
        heads = (shape.kv_heads, shape.group, shape.head_dim)
        self.epsilon = shape.norm_epsilon
        self.frequencies = rope_frequencies(shape)
        self.attention_norm = nnx.Param(jnp.ones(hidden, dtype))
        self.ffn_norm = nnx.Param(jnp.ones(hidden, dtype))
        qkv = jax.random.normal(
            rngs.params(), (hidden, shape.kv_heads, shape.group + 2, shape.head_dim)
        )
        gains = np.full((shape.group + 2, 1), _QUERY_KEY_GAIN * hidden**-0.5, np.float32)
        gains[-1] = hidden**-0.5
        self.qkv = nnx.Param(
            (qkv * gains[None, None]).astype(dtype),
            out_sharding=(None, axis, None, None),
            eager_sharding=False,
        )
        self.out = _normal(
            rngs, (*heads, hidden), (shape.heads * shape.head_dim) ** -0.5, dtype, (axis,)
        )
        self.gate_up = _normal(rngs, (hidden, 2, ffn), hidden**-0.5, dtype, (None, None, axis))
        self.down = _normal(rngs, (ffn, hidden), ffn**-0.5, dtype, (axis, None))

    def project(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries `[rows, kv_heads, group, head_dim]`, keys and values without the group axis.

        Queries and keys are rotated to `positions` `[rows]`.
        """
        weights = self.qkv[...]
        h = _rms_norm(x, self.attention_norm[...], self.epsilon)
        qkv = _matmul(h, weights.reshape(weights.shape[0], -1))
        qkv = qkv.reshape(x.shape[0], *weights.shape[1:])
        rotated = _rope(qkv[:, :, :-1], positions, self.frequencies)
        return rotated[:, :, :-1], rotated[:, :, -1], qkv[:, :, -1]

    def combine(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """The rest of the layer, given `attended` `[rows, kv_heads, group, head_dim]`."""
        rows, hidden = x.shape
        out = self.out[...].reshape(-1, hidden)
        x = x + lax.psum(_matmul(attended.reshape(rows, -1), out), forward.TENSOR_AXIS)
        h = _rms_norm(x, self.ffn_norm[...], self.epsilon)
        gate_up = _matmul(h, self.gate_up[...].reshape(hidden, -1)).reshape(rows, 2, -1)
        h = jax.nn.silu(gate_up[:, 0]) * gate_up[:, 1]
        return x + lax.psum(_matmul(h, self.down[...]), forward.TENSOR_AXIS)


def rope_frequencies(shape: shapes.LlamaShape) -> tuple[float, ...]:
    """Radians per position of each pair of dimensions, `head_dim / 2` of them.

    RoFormer (arXiv 2104.09864), section 3.2.2; stretched as in Llama 3.1: wavelengths
    much shorter than the original context stay, much longer ones are divided by `factor`.
    """
    half = shape.head_dim // 2
    frequencies = shape.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
    scaling = shape.rope_scaling
    if scaling is not None:
        turns = scaling.original_context_tokens * frequencies / (2 * np.pi)
        span = scaling.high_frequency_factor - scaling.low_frequency_factor
        keep = np.clip((turns - scaling.low_frequency_factor) / span, 0.0, 1.0)
        frequencies = frequencies * (keep + (1 - keep) / scaling.factor)
    return tuple(float(f) for f in frequencies)


def _normal(
    rngs: nnx.Rngs,
    shape: tuple[int, ...],
    deviation: float,
    dtype: DTypeLike,
    sharding: tuple[str | None, ...],
) -> nnx.Param:
    weights = jax.random.normal(rngs.params(), shape, jnp.float32) * deviation
    return nnx.Param(weights.astype(dtype), out_sharding=sharding, eager_sharding=False)


def _rms_norm(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    wide = x.astype(jnp.float32)
    inverse = lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + epsilon)
    return (wide * inverse).astype(x.dtype) * scale[None]


def _matmul(x: jax.Array, weights: jax.Array) -> jax.Array:
    """`[rows, in]` by `[in, out]`, summed in float32."""
    return jnp.matmul(x, weights, preferred_element_type=jnp.float32).astype(x.dtype)


def _rope(x: jax.Array, positions: jax.Array, frequencies: tuple[float, ...]) -> jax.Array:
    """Rotates `[rows, kv_heads, vectors, head_dim]`: dimension i pairs with i + head_dim / 2."""
    angles = positions.astype(jnp.float32)[:, None] * jnp.asarray(frequencies, jnp.float32)[None]
    cos, sin = jnp.cos(angles)[:, None, None], jnp.sin(angles)[:, None, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
    return rotated.astype(x.dtype)
