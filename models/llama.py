"""Llama and those that differ from it by a switch: Mistral, Qwen2, Qwen3 and their like.

RMSNorm, RoPE, grouped-query attention, SwiGLU. Knows: weights and the arithmetic of single rows
(tokens). Does not know: pages, lanes, schedules, other rows. Attention itself is the loop's,
between `project` and `combine`.

Letters of shapes: `[rows]` tokens of any sessions in any order; under
tensor parallelism `kv_heads`, `ffn` and `vocab` are this shard's share.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from aqua_jax.loops import forward, linear
from models import config_json, decoder, hf_leaves, parts, shapes

ARCHITECTURES = ("LlamaForCausalLM",)

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


def from_config(fields: config_json.Fields) -> shapes.LlamaShape:
    """The shape that a `config.json` of one of `ARCHITECTURES` describes. Raises ConfigError."""
    heads = fields.integer("num_attention_heads")
    hidden = fields.integer("hidden_size")
    fields.expect("hidden_act", "silu")
    fields.expect("attention_bias", False)
    fields.expect("mlp_bias", False)
    fields.expect("rope_scaling", None)
    fields.ignore(("attention_dropout",))
    shape = shapes.LlamaShape(
        name=pathlib.Path(fields.path).parent.name,
        source=str(fields.path),
        layers=fields.integer("num_hidden_layers"),
        hidden=hidden,
        ffn=fields.integer("intermediate_size"),
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", heads),
        head_dim=fields.integer("head_dim", hidden // heads),
        vocab=fields.integer("vocab_size"),
        rope_theta=fields.number("rope_theta", 10_000.0),
        norm_epsilon=fields.number("rms_norm_eps", 1e-6),
        tied_embeddings=fields.flag("tie_word_embeddings", False),
        context_tokens=fields.integer("max_position_embeddings", 2048),
    )
    fields.refuse_rest()
    return shape


def leaves(shape: shapes.LlamaShape) -> hf_leaves.Leaves:
    """Where each leaf of `causal(shape)` comes from in a checkpoint."""
    hidden, ffn, layer = shape.hidden, shape.ffn, "model.layers.{layer}."
    found = {
        "ends.embedding": hf_leaves.same("model.embed_tokens.weight", (shape.vocab, hidden)),
        "ends.norm": hf_leaves.same("model.norm.weight", (hidden,)),
        "blocks.attention_norm": hf_leaves.same(f"{layer}input_layernorm.weight", (hidden,)),
        "blocks.ffn_norm": hf_leaves.same(f"{layer}post_attention_layernorm.weight", (hidden,)),
        "blocks.qkv": hf_leaves.Leaf(
            names=tuple(f"{layer}self_attn.{one}_proj.weight" for one in "qkv"),
            shapes=tuple(
                (heads * shape.head_dim, hidden)
                for heads in (shape.heads, shape.kv_heads, shape.kv_heads)
            ),
            join=lambda got: _join_qkv(got, shape).T,
            split=lambda ours: _split_qkv(ours.T, shape),
        ),
        "blocks.out": hf_leaves.transposed(
            f"{layer}self_attn.o_proj.weight", (hidden, shape.heads * shape.head_dim)
        ),
    }
    for ours, theirs, sizes in (
        ("gate", "gate_proj", (ffn, hidden)),
        ("up", "up_proj", (ffn, hidden)),
        ("down", "down_proj", (hidden, ffn)),
    ):
        found[f"blocks.{ours}"] = hf_leaves.transposed(f"{layer}mlp.{theirs}.weight", sizes)
    if not shape.tied_embeddings:
        found["ends.head"] = hf_leaves.transposed("lm_head.weight", (shape.vocab, hidden))
    return found


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
        self.embedding = parts.table(rngs, (shape.vocab, shape.hidden), dtype=dtype)
        self.head = nnx.data(None)
        if not shape.tied_embeddings:
            sizes = (shape.hidden, shape.vocab)
            self.head = parts.column_parallel(rngs, sizes, dtype=dtype)

    def embed(self, ids: jax.Array, span: forward.Span) -> jax.Array:
        del span  # positions are rotated in, layer by layer
        return parts.look_up(self.embedding[...], ids)

    def logits(self, x: jax.Array, span: forward.Span) -> jax.Array:
        """`[rows, hidden]` -> float32 `[rows, vocab]`, the whole vocabulary on every shard."""
        head = self.embedding[...].T if self.head is None else self.head[...]
        x = parts.rms_norm(x, self.norm[...], self.epsilon)
        local = linear.apply(x, head, span.live, dtype=jnp.float32)
        return lax.all_gather(local, forward.TENSOR_AXIS, axis=1, tiled=True)


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
        self.qkv_bias = self.query_norm = self.key_norm = nnx.data(None)
        if shape.qkv_bias:
            bias = jax.random.normal(rngs.params(), (width,), jnp.float32) * hidden**-0.5
            self.qkv_bias = nnx.Param(
                bias.astype(dtype), out_sharding=(forward.TENSOR_AXIS,), eager_sharding=False
            )
        if shape.qk_norm:
            self.query_norm = nnx.Param(jnp.ones(shape.head_dim, dtype))
            self.key_norm = nnx.Param(jnp.ones(shape.head_dim, dtype))
        self.out = parts.row_parallel(rngs, (shape.heads * shape.head_dim, hidden), dtype=dtype)
        self.gate = parts.column_parallel(rngs, (hidden, ffn), dtype=dtype)
        self.up = parts.column_parallel(rngs, (hidden, ffn), dtype=dtype)
        self.down = parts.row_parallel(rngs, (ffn, hidden), dtype=dtype)

    def project(self, x: jax.Array, span: forward.Span) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries `[rows, kv_heads, group, head_dim]`, keys and values without the group axis.

        Queries and keys are rotated to `span.positions`.
        """
        h = parts.rms_norm(x, self.attention_norm[...], self.epsilon)
        qkv = linear.apply(h, self.qkv[...], span.live)
        if self.qkv_bias is not None:
            qkv = qkv + self.qkv_bias[...][None]
        qkv = qkv.reshape(x.shape[0], -1, *self.heads)
        turned = qkv[:, :, :-1]
        if self.query_norm is not None and self.key_norm is not None:
            queries = parts.rms_norm(turned[:, :, :-1], self.query_norm[...], self.epsilon)
            keys = parts.rms_norm(turned[:, :, -1:], self.key_norm[...], self.epsilon)
            turned = jnp.concatenate([queries, keys], axis=2)
        turned = parts.rope(turned, span.positions, parts.as_float32(self.frequencies))
        return turned[:, :, :-1], turned[:, :, -1], qkv[:, :, -1]

    def combine(self, x: jax.Array, attended: jax.Array, span: forward.Span) -> jax.Array:
        """The rest of the layer, given `attended` `[rows, kv_heads, group, head_dim]`."""
        attended = attended.reshape(x.shape[0], -1)
        x = x + parts.sum_shards(linear.apply(attended, self.out[...], span.live))
        h = parts.rms_norm(x, self.ffn_norm[...], self.epsilon)
        gate = linear.apply(h, self.gate[...], span.live)
        h = jax.nn.silu(gate) * linear.apply(h, self.up[...], span.live)
        return x + parts.sum_shards(linear.apply(h, self.down[...], span.live))


def _with_gain(qkv: jax.Array, shape: shapes.LlamaShape) -> jax.Array:
    """Random weights whose queries and keys are larger than the values."""
    heads = qkv.reshape(-1, shape.kv_heads, shape.group + 2, shape.head_dim)
    return heads.at[:, :, :-1].multiply(_QUERY_KEY_GAIN).reshape(qkv.shape)


def _join_qkv(got: Sequence[np.ndarray], shape: shapes.LlamaShape) -> np.ndarray:
    """`[kv_heads * (group + 2) * head_dim, ...]` of `[heads * head_dim, ...]` and two others."""
    heads = [part.reshape(shape.kv_heads, -1, shape.head_dim, *part.shape[1:]) for part in got]
    joined = np.concatenate(heads, axis=1)
    return joined.reshape(-1, *joined.shape[3:])


def _split_qkv(joined: np.ndarray, shape: shapes.LlamaShape) -> list[np.ndarray]:
    """The inverse of `_join_qkv`."""
    heads = joined.reshape(shape.kv_heads, shape.group + 2, shape.head_dim, *joined.shape[1:])
    ends = (slice(0, -2), slice(-2, -1), slice(-1, None))
    return [heads[:, end].reshape(-1, *joined.shape[1:]) for end in ends]
