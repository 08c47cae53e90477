"""Gemma's own: what `tests/models/test_parity.py` does not compare with the reference."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from aqua_jax.control import errors
from aqua_jax.loops import forward, text
from models import decoder, gemma
from tests.models import paged

SHAPE = gemma.GemmaShape(
    name="tiny-gemma",
    source="made for tests",
    layers=3,
    hidden=96,
    ffn=80,
    heads=4,
    kv_heads=2,
    head_dim=16,
    vocab=128,
    windows=(7, 0, 7),
    wide_rope=gemma.Rope(1_000_000.0),
    window_rope=gemma.Rope(10_000.0),
    score_scale=12**-0.5,
    score_softcap=5.0,
    logit_softcap=3.0,
    qk_norm=True,
)
IDS = np.random.default_rng(0).integers(0, SHAPE.vocab, 32).astype(np.int32)


def test_two_shards_give_the_same_logits():
    model, made = gemma.causal(SHAPE, seed=1), base_logits()
    np.testing.assert_allclose(paged.logits(model, IDS, shards=2), made, atol=1e-5)
    assert 0.1 < np.abs(made).max() < SHAPE.logit_softcap


@pytest.mark.parametrize(
    "other",
    [
        {"windows": (7, 7, 0)},
        {"windows": ()},
        {"wide_rope": gemma.Rope(100.0)},
        {"window_rope": gemma.Rope(100.0)},
        {"score_scale": 1.0},
        {"score_softcap": 0.0},
        {"logit_softcap": 0.0},
    ],
)
def test_every_fact_of_the_shape_is_heeded(other):
    model = gemma.causal(SHAPE, seed=1)
    changed = gemma.causal(dataclasses.replace(SHAPE, **other), params=model.params)
    assert np.abs(paged.logits(changed, IDS) - base_logits()).max() > 1e-4


def test_layers_turn_by_their_own_frequencies():
    model = gemma.causal(SHAPE, seed=1)
    turns = [model.layer(model.params, jnp.int32(i))[1]["frequencies"] for i in range(3)]
    expected = [theta ** (-np.arange(8) / 8) for theta in (1e4, 1e6, 1e4)]
    np.testing.assert_allclose(turns, expected, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "factor"), [(jnp.float32, 96**0.5), (jnp.bfloat16, 9.8125)])
def test_embeddings_are_scaled_by_what_their_dtype_can_say(dtype, factor):
    model = gemma.causal(SHAPE, dtype=dtype)
    embedding = model.params["ends"]["embedding"]
    expected = jnp.asarray(embedding[IDS] * jnp.asarray(factor, dtype), jnp.float32)
    np.testing.assert_allclose(jnp.asarray(embed(model), jnp.float32), expected, rtol=1e-6)


def test_shards_that_do_not_divide_the_shape():
    with pytest.raises(errors.ConfigError, match="'tiny-gemma' has kv_heads=2, which 4"):
        gemma.causal(SHAPE).specs(4)
    with pytest.raises(errors.ConfigError, match="4 heads over 3 kv_heads"):
        dataclasses.replace(SHAPE, kv_heads=3)


@functools.cache
def base_logits() -> np.ndarray:
    return paged.logits(gemma.causal(SHAPE, seed=1), IDS)


def embed(model: decoder.CausalDecoder) -> jax.Array:
    whole = PartitionSpec()
    span = forward.Span(jnp.zeros(len(IDS), jnp.int32), jnp.int32(len(IDS)))
    program = jax.shard_map(
        lambda params, ids: model.embed(params, ids, span),
        mesh=text.tensor_mesh(jax.devices()[:1]),
        in_specs=(model.specs(1), whole),
        out_specs=whole,
        check_vma=False,
    )
    return jax.jit(program)(model.params, jnp.asarray(IDS))
