"""Gemma 2 and 3: norms around both halves of a layer, windows in most of them, soft caps.

Gemma 2: arXiv 2408.00118; Gemma 3: arXiv 2503.19786. Knows: weights and the arithmetic of single
rows (tokens). Does not know: files, pages, lanes, schedules, other rows. Attention itself, its
windows, scale and cap included, is the loop's, between `project` and `combine`.

Letters of shapes: `[rows]` tokens of any sessions in any order; under tensor parallelism
`kv_heads`, `ffn` and `vocab` are this shard's share.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from aqua_jax.control import errors
from aqua_jax.loops import forward, linear
from models import decoder, parts, shapes


class Rope(NamedTuple):
    """How positions are rotated in: `parts.rope_frequencies`."""

    theta: float
    scaling: shapes.AnyRopeScaling | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GemmaShape:
    """One decoder: `heads` queries share `kv_heads` keys and values; GeGLU of width `ffn`.

    windows: of each layer, as in `forward.ModelFacts`; empty: none has one. wide_rope: of layers
    without a window, window_rope: of those with one. score_scale, score_softcap: of attention, as
    in `forward.ModelFacts`; logit_softcap: the same for the logits, 0 for none. qk_norm: RMSNorm
    of every query and key over head_dim, before they are rotated (Gemma 3).
    """

    name: str
    source: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    windows: tuple[int, ...]
    wide_rope: Rope
    window_rope: Rope
    score_scale: float
    score_softcap: float = 0.0
    logit_softcap: float = 0.0
    qk_norm: bool = False
    norm_epsilon: float = 1e-6
    tied_embeddings: bool = True
    context_tokens: int = 8192

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise errors.ConfigError(
                f"shape {self.name!r} has {self.heads} heads over {self.kv_heads} kv_heads: "
                "heads must be a multiple of kv_heads"
            )
        if self.head_dim % 2:
            raise errors.ConfigError(
                f"shape {self.name!r}: head_dim is {self.head_dim}: expected an even number, for "
                "RoPE turns pairs of dimensions"
            )

    @property
    def group(self) -> int:
        """Query heads per KV head."""
        return self.heads // self.kv_heads


def causal(
    shape: GemmaShape,
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
        score_scale=shape.score_scale,
        score_softcap=shape.score_softcap,
    )
    return decoder.CausalDecoder(
        facts,
        lambda rngs: Gemma(shape, rngs=rngs, dtype=dtype),
        divides={"kv_heads": shape.kv_heads, "ffn": shape.ffn, "vocab": shape.vocab},
        constants={"frequencies": _frequencies(shape)},
        seed=seed,
        params=params,
    )


class Gemma(nnx.Module):
    """The weights: `ends` (embedding, last norm, head) and `blocks`, stacked over layers."""

    def __init__(self, shape: GemmaShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.ends = Ends(shape, rngs=rngs, dtype=dtype)
        self.blocks = decoder.stack(
            lambda rngs: Block(shape, rngs=rngs, dtype=dtype), shape.layers, rngs
        )


class Ends(nnx.Module):
    """What comes before the first layer and after the last. Sharded over the vocabulary."""

    def __init__(self, shape: GemmaShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.epsilon = shape.norm_epsilon
        self.softcap = shape.logit_softcap
        sizes, tied = (shape.vocab, shape.hidden), shape.tied_embeddings
        self.embedding = parts.table(rngs, sizes, dtype=dtype, is_head=tied)
        self.norm = nnx.Param(jnp.zeros(shape.hidden, dtype))
        self.head = nnx.data(None)
        if not shape.tied_embeddings:
            sizes = (shape.hidden, shape.vocab)
            self.head = parts.column_parallel(rngs, sizes, dtype=dtype)

    def embed(self, ids: jax.Array, span: forward.Span) -> jax.Array:
        """Times the root of hidden, itself rounded to the weights' dtype as in training."""
        del span  # positions are rotated in, layer by layer
        found = parts.look_up(self.embedding[...], ids)
        return found * jnp.asarray(found.shape[1] ** 0.5, found.dtype)

    def logits(self, x: jax.Array, span: forward.Span) -> jax.Array:
        """`[rows, hidden]` -> float32 `[rows, vocab]`, the whole vocabulary on every shard."""
        head = linear.transposed(self.embedding[...]) if self.head is None else self.head[...]
        x = parts.rms_norm(x, self.norm[...], self.epsilon, from_one=True)
        local = linear.apply(x, head, span.live, dtype=jnp.float32)
        if self.softcap:
            local = self.softcap * jnp.tanh(local / self.softcap)
        return lax.all_gather(local, forward.TENSOR_AXIS, axis=1, tiled=True)


class Block(nnx.Module):
    """One layer. Column-parallel in, row-parallel out: one sum over shards after each half.

    qkv's columns stand as in `hf_leaves.qkv`. Each half's result is normed before it is added.
    """

    def __init__(self, shape: GemmaShape, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        hidden, ffn = shape.hidden, shape.ffn
        self.epsilon = shape.norm_epsilon
        self.heads = (shape.group + 2, shape.head_dim)
        self.frequencies = parts.LayerConstant(jnp.zeros(shape.head_dim // 2))
        self.attention_norm = nnx.Param(jnp.zeros(hidden, dtype))
        self.attended_norm = nnx.Param(jnp.zeros(hidden, dtype))
        self.ffn_norm = nnx.Param(jnp.zeros(hidden, dtype))
        self.made_norm = nnx.Param(jnp.zeros(hidden, dtype))
        self.query_norm = self.key_norm = nnx.data(None)
        if shape.qk_norm:
            self.query_norm = nnx.Param(jnp.zeros(shape.head_dim, dtype))
            self.key_norm = nnx.Param(jnp.zeros(shape.head_dim, dtype))
        width = shape.kv_heads * (shape.group + 2) * shape.head_dim
        self.qkv = parts.column_parallel(rngs, (hidden, width), dtype=dtype)
        self.out = parts.row_parallel(rngs, (shape.heads * shape.head_dim, hidden), dtype=dtype)
        self.gate = parts.column_parallel(rngs, (hidden, ffn), dtype=dtype)
        self.up = parts.column_parallel(rngs, (hidden, ffn), dtype=dtype)
        self.down = parts.row_parallel(rngs, (ffn, hidden), dtype=dtype)

    def project(self, x: jax.Array, span: forward.Span) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries `[rows, kv_heads, group, head_dim]`, keys and values without the group axis.

        Queries and keys are rotated to `span.positions`.
        """
        qkv = linear.apply(self._norm(x, self.attention_norm), self.qkv[...], span.live)
        qkv = qkv.reshape(x.shape[0], -1, *self.heads)
        turned = qkv[:, :, :-1]
        if self.query_norm is not None and self.key_norm is not None:
            queries = self._norm(turned[:, :, :-1], self.query_norm)
            keys = self._norm(turned[:, :, -1:], self.key_norm)
            turned = jnp.concatenate([queries, keys], axis=2)
        turned = parts.rope(turned, span.positions, self.frequencies[...])
        return turned[:, :, :-1], turned[:, :, -1], qkv[:, :, -1]

    def combine(self, x: jax.Array, attended: jax.Array, span: forward.Span) -> jax.Array:
        """The rest of the layer, given `attended` `[rows, kv_heads, group, head_dim]`."""
        attended = attended.reshape(x.shape[0], -1)
        made = parts.sum_shards(linear.apply(attended, self.out[...], span.live))
        x = x + self._norm(made, self.attended_norm)
        h = self._norm(x, self.ffn_norm)
        gate = jax.nn.gelu(linear.apply(h, self.gate[...], span.live), approximate=True)
        h = gate * linear.apply(h, self.up[...], span.live)
        made = parts.sum_shards(linear.apply(h, self.down[...], span.live))
        return x + self._norm(made, self.made_norm)

    def _norm(self, x: jax.Array, scale: nnx.Param) -> jax.Array:
        return parts.rms_norm(x, scale[...], self.epsilon, from_one=True)


def _frequencies(shape: GemmaShape) -> np.ndarray:
    """Float32 `[layers, head_dim / 2]`, radians per position."""
    windows = shape.windows or (0,) * shape.layers
    ropes = [shape.window_rope if window else shape.wide_rope for window in windows]
    rows = [parts.rope_frequencies(shape.head_dim, *rope) for rope in ropes]
    return np.asarray(rows, np.float32)
