"""Llama against a plain one: no pages, no tiles, one sequence at a time, in numpy."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from models import decoder, llama, shapes
from tests.models import paged

TIED = dataclasses.replace(
    shapes.TINY,
    tied_embeddings=True,
    rope_theta=500_000.0,
    rope_scaling=shapes.RopeScaling(
        factor=8.0,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_context_tokens=32,
    ),
)
IDS = np.random.default_rng(0).integers(0, shapes.TINY.vocab, 48).astype(np.int32)


@pytest.mark.parametrize("shape", [shapes.TINY, TIED], ids=["tiny", "tied and stretched"])
def test_logits_are_those_of_a_plain_llama(shape):
    model = llama.causal(shape, seed=2)
    np.testing.assert_allclose(paged.logits(model, IDS), plain_logits(model, shape), atol=1e-4)


@pytest.mark.parametrize("shape", [shapes.TINY, TIED], ids=["tiny", "tied and stretched"])
def test_random_weights_are_not_degenerate(shape):
    """Logits spread, and what comes next depends on more than the last token."""
    model = llama.causal(shape, seed=2)
    logits = plain_logits(model, shape)
    assert 0.5 < logits.std() < 3
    other = plain_logits(model, shape, np.concatenate([IDS[:20][::-1], IDS[20:]]))
    assert (logits.argmax(-1) != other.argmax(-1))[20:].mean() > 0.5


def test_seed_and_shape_determine_the_weights():
    first, again, other = (
        jax.tree.leaves(llama.causal(shapes.TINY, seed=seed).params) for seed in (3, 3, 4)
    )
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)
    assert any((left != right).any() for left, right in zip(first, other, strict=True))
    assert sum(leaf.size for leaf in first) == shapes.TINY.weights


@pytest.mark.parametrize(("shards", "what"), [(3, "kv_heads=4"), (8, "kv_heads=4")])
def test_shards_that_do_not_divide_the_shape(shards, what):
    with pytest.raises(errors.ConfigError, match=f"'tiny' has {what}, which {shards}"):
        llama.causal(shapes.TINY).specs(shards)


def test_two_shards_give_the_same_logits():
    model = llama.causal(shapes.TINY, seed=2)
    np.testing.assert_allclose(
        paged.logits(model, IDS, shards=2), paged.logits(model, IDS), atol=1e-5
    )


def test_bfloat16_weights_stay_bfloat16():
    model = llama.causal(shapes.TINY, seed=2, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype(jnp.bfloat16)}
    wide = llama.causal(shapes.TINY, seed=2)
    assert abs(paged.logits(model, IDS) - plain_logits(wide, shapes.TINY)).mean() < 0.1


def plain_logits(
    model: decoder.CausalDecoder, shape: shapes.LlamaShape, ids: np.ndarray = IDS
) -> np.ndarray:
    """The same by the textbook, in float64: `[tokens, vocab]`."""
    read = functools.partial(np.asarray, dtype=np.float64)
    ends = {name: read(leaf[...]) for name, leaf in model.params["ends"].items()}
    blocks = {name: read(leaf[...]) for name, leaf in model.params["blocks"].items()}

    x = ends["embedding"][ids]
    for index in range(shape.layers):
        w = {name: leaf[index] for name, leaf in blocks.items()}
        h = rms_norm(x, w["attention_norm"], shape)
        qkv = (h @ w["qkv"]).reshape(len(ids), shape.kv_heads, shape.group + 2, shape.head_dim)
        queries = rotate(qkv[:, :, :-2], shape)
        keys = rotate(qkv[:, :, -2:-1], shape)[:, :, 0]
        scores = np.einsum("tkgd,skd->kgts", queries, keys) / np.sqrt(shape.head_dim)
        scores = np.where(np.tri(len(ids), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        attended = np.einsum("kgts,skd->tkgd", weights, qkv[:, :, -1])
        x = x + attended.reshape(len(ids), -1) @ w["out"]
        h = rms_norm(x, w["ffn_norm"], shape)
        gate, up = h @ w["gate"], h @ w["up"]
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w["down"]
    head = ends["embedding"].T if shape.tied_embeddings else ends["head"]
    return rms_norm(x, ends["norm"], shape) @ head


def rms_norm(x: np.ndarray, scale: np.ndarray, shape: shapes.LlamaShape) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + shape.norm_epsilon) * scale


def rotate(x: np.ndarray, shape: shapes.LlamaShape) -> np.ndarray:
    """Turns each pair (i, i + head_dim / 2) of `[tokens, kv_heads, vectors, head_dim]`."""
    out = np.empty_like(x)
    half = shape.head_dim // 2
    for i in range(half):
        frequency = shape.rope_theta ** (-i / half)
        if shape.rope_scaling is not None:
            frequency = slowed(frequency, shape.rope_scaling)
        angles = np.arange(x.shape[0])[:, None, None] * frequency
        a, b = x[..., i], x[..., i + half]
        out[..., i] = a * np.cos(angles) - b * np.sin(angles)
        out[..., i + half] = a * np.sin(angles) + b * np.cos(angles)
    return out


def slowed(frequency: float, scaling: shapes.RopeScaling) -> float:
    """By cases over the wavelength, as the Llama 3.1 release describes it."""
    wavelength = 2 * np.pi / frequency
    if wavelength < scaling.original_context_tokens / scaling.high_frequency_factor:
        return frequency
    if wavelength > scaling.original_context_tokens / scaling.low_frequency_factor:
        return frequency / scaling.factor
    smooth = (scaling.original_context_tokens / wavelength - scaling.low_frequency_factor) / (
        scaling.high_frequency_factor - scaling.low_frequency_factor
    )
    return (1 - smooth) * frequency / scaling.factor + smooth * frequency
