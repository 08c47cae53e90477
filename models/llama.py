"""Llama and those that differ from it by a switch: Mistral, Qwen2, Qwen3 and their like.

RMSNorm, RoPE, grouped-query attention, SwiGLU or a mixture of such. Knows: weights and the
arithmetic of single rows (tokens). Does not know: files, pages, lanes, schedules, other rows.
Attention itself is the loop's, between `project` and `combine`.

Letters of shapes: `[rows]` tokens of any sessions in any order; under
tensor parallelism `kv_heads`, `ffn` and `vocab` are this shard's share.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from aqua_jax.loops import forward, linear
from models import decoder, experts, parts, shapes

# The queries' and keys' initial scale over the usual one. At 1 the scores of random weights are
# nearly equal, attention averages its values away and the next token follows from the last alone,
# so greedy output soon runs in a circle.
_QUERY_KEY_GAIN = 2.0


def causal(
    shape: shapes.LlamaShape,
    *,
    seed: int = 0,
    dtype: DTypeLike = jnp.float32,
    params: Any = None,
) -> decoder.CausalDecoder:
    """A model of `shape`, its weights `params` or drawn from `seed`: same seed, same weights."""
    facts = forward.ModelFacts(
        name=shape.name,
        layers=shape.layers,
        hidden=shape.hidden,
        kv_heads=shape.kv_heads,
        group=shape.group,
        head_dim=shape.head_dim,
        vocab=shape.vocab,
        dtype=jnp.dtype(dtype),
        context_tokens=shape.context_tokens,
        windows=shape.windows,
    )
    return decoder.CausalDecoder(
        facts,
        lambda rngs: Llama(shape, rngs=rngs, dtype=dtype),
        divides={"kv_heads": shape.kv_heads, "ffn": shape.ffn, "vocab": shape.vocab},
        seed=seed,
        params=params,
    )


class Llama(nnx.Module):
    """The weights: `ends` (embedding, last norm, head) and `blocks`, stacked over layers."""

    def __init__(self, shape: shapes.LlamaShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.ends = Ends(shape, rngs=rngs, dtype=dtype)
        self.blocks = decoder.stack(
            lambda rngs: Block(shape, rngs=rngs, dtype=dtype), shape.layers, rngs
        )


class Ends(nnx.Module):
    """What comes before the first layer and after the last. Sharded over the vocabulary."""

    def __init__(self, shape: shapes.LlamaShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.epsilon = shape.norm_epsilon
        self.norm = nnx.Param(jnp.ones(shape.hidden, dtype))
        self.embedding = parts.table(
            rngs, (shape.vocab, shape.hidden), dtype=dtype, is_head=shape.tied_embeddings
        )
        self.head = nnx.data(None)
        if not shape.tied_embeddings:
            sizes = (shape.hidden, shape.vocab)
            self.head = parts.column_parallel(rngs, sizes, dtype=dtype)

    def embed(self, ids: jax.Array, span: forward.Span) -> jax.Array:
        del span  # positions are rotated in, layer by layer
        return parts.look_up(self.embedding[...], ids)

    def logits(self, x: jax.Array, span: forward.Span) -> jax.Array:
        """`[rows, hidden]` -> float32 `[rows, vocab]`, the whole vocabulary on every shard."""
        head = linear.transposed(self.embedding[...]) if self.head is None else self.head[...]
        norm = linear.Norm(self.norm[...], self.epsilon)
        local = linear.apply(x, head, span.live, dtype=jnp.float32, norm=norm)
        return parts.gather_columns(local)


class Block(nnx.Module):
    """One layer. Column-parallel in, row-parallel out: one sum over shards after each half.

    qkv's columns are, for each KV head, its queries, its key and its value, so that
    sharding by KV heads keeps together what attends together.
    """

    def __init__(self, shape: shapes.LlamaShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        hidden, ffn = shape.hidden, shape.ffn
        self.epsilon = shape.norm_epsilon
        self.heads = (shape.group + 2, shape.head_dim)
        self.frequencies = parts.rope_frequencies(
            shape.head_dim, shape.rope_theta, shape.rope_scaling
        )
        self.attention_norm = nnx.Param(jnp.ones(hidden, dtype))
        self.ffn_norm = nnx.Param(jnp.ones(hidden, dtype))
        width = shape.kv_heads * (shape.group + 2) * shape.head_dim
        self.qkv = parts.column_parallel(rngs, (hidden, width), dtype=dtype)
        self.qkv[...] = _with_gain(self.qkv[...], shape)
        self.query_norm = self.key_norm = nnx.data(None)
        if shape.qk_norm:
            self.query_norm = nnx.Param(jnp.ones(shape.head_dim, dtype))
            self.key_norm = nnx.Param(jnp.ones(shape.head_dim, dtype))
        self.out = parts.row_parallel(rngs, (shape.heads * shape.head_dim, hidden), dtype=dtype)
        self.experts = nnx.data(None)
        if shape.experts is not None:
            self.experts = experts.Mixture(shape.experts, hidden, ffn, rngs=rngs, dtype=dtype)
        else:
            self.gate = parts.column_parallel(rngs, (hidden, ffn), dtype=dtype)
            self.up = parts.column_parallel(rngs, (hidden, ffn), dtype=dtype)
            self.down = parts.row_parallel(rngs, (ffn, hidden), dtype=dtype)
        self._add_biases(shape, rngs, dtype)

    def _add_biases(self, shape: shapes.LlamaShape, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        """Those that the shape has. What row-parallel weights make gets its own after the sum."""
        hidden, ffn, width = shape.hidden, shape.ffn, self.qkv.shape[-1]
        self.qkv_bias = self.out_bias = nnx.data(None)
        self.gate_bias = self.up_bias = self.down_bias = nnx.data(None)
        if shape.qkv_bias:
            self.qkv_bias = parts.bias(rngs, width, of=hidden, sharded=True, dtype=dtype)
        if shape.out_bias:
            self.out_bias = parts.bias(rngs, hidden, of=hidden, sharded=False, dtype=dtype)
        if shape.mlp_bias:
            self.gate_bias = parts.bias(rngs, ffn, of=hidden, sharded=True, dtype=dtype)
            self.up_bias = parts.bias(rngs, ffn, of=hidden, sharded=True, dtype=dtype)
            self.down_bias = parts.bias(rngs, hidden, of=ffn, sharded=False, dtype=dtype)

    def project(self, x: jax.Array, span: forward.Span) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries `[rows, kv_heads, group, head_dim]`, keys and values without the group axis.

        Queries and keys are rotated to `span.positions`.
        """
        norm = linear.Norm(self.attention_norm[...], self.epsilon)
        qkv = linear.apply(x, self.qkv[...], span.live, norm=norm, bias=_bias(self.qkv_bias))
        qkv = qkv.reshape(x.shape[0], -1, *self.heads)
        turned = qkv[:, :, :-1]
        if self.query_norm is not None and self.key_norm is not None:
            queries = linear.rms_norm(turned[:, :, :-1], self.query_norm[...], self.epsilon)
            keys = linear.rms_norm(turned[:, :, -1:], self.key_norm[...], self.epsilon)
            turned = jnp.concatenate([queries, keys], axis=2)
        turned = parts.rope(turned, span.positions, parts.as_float32(self.frequencies))
        return turned[:, :, :-1], turned[:, :, -1], qkv[:, :, -1]

    def combine(self, x: jax.Array, attended: jax.Array, span: forward.Span) -> jax.Array:
        """The rest of the layer, given `attended` `[rows, kv_heads, group, head_dim]`."""
        attended = attended.reshape(x.shape[0], -1)
        x = parts.add_row_product(x, attended, self.out[...], span.live, bias=_bias(self.out_bias))
        if self.experts is None:
            return self._dense(x, span)
        h = parts.rms_norm(x, self.ffn_norm[...], self.epsilon)
        return x + self.experts(h, span.live)

    def _dense(self, x: jax.Array, span: forward.Span) -> jax.Array:
        h = linear.gated(
            x,
            (self.gate[...], self.up[...]),
            span.live,
            activation="silu",
            norm=linear.Norm(self.ffn_norm[...], self.epsilon),
            biases=(_bias(self.gate_bias), _bias(self.up_bias)),
        )
        return parts.add_row_product(x, h, self.down[...], span.live, bias=_bias(self.down_bias))


def _bias(bias: nnx.Param | None) -> jax.Array | None:
    return None if bias is None else bias[...]


def _with_gain(qkv: jax.Array, shape: shapes.LlamaShape) -> jax.Array:
    """Random weights whose queries and keys are larger than the values."""
    heads = qkv.reshape(-1, shape.kv_heads, shape.group + 2, shape.head_dim)
    return heads.at[:, :, :-1].multiply(_QUERY_KEY_GAIN).reshape(qkv.shape)
