"""Training: the loss is that of the served model, and it falls."""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from models import llama, shapes, training

pytest.importorskip("optax")

MODEL = llama.causal(shapes.TINY, seed=3)
TOKENS = np.arange(2 * 41, dtype=np.int32).reshape(2, 41) % shapes.TINY.vocab


@pytest.fixture(autouse=True)
def promoted():
    """Optax mixes dtypes, as jax lets it by default."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.partial(jax.jit, static_argnums=1)
def _bits(tokens, block):
    del block  # programs of different blocks are different
    return training.bits_per_token(MODEL, MODEL.params, tokens)


def bits(tokens) -> jax.Array:
    return _bits(tokens, training._BLOCK)


def test_a_later_token_changes_no_earlier_loss_and_blocks_do_not_either(monkeypatch):
    changed = TOKENS.copy()
    changed[:, 30:] = 5
    early = [bits(t[:, :30]) for t in (TOKENS, changed)]
    assert early[0] == early[1]
    whole = bits(jnp.asarray(TOKENS))
    monkeypatch.setattr(training, "_BLOCK", 16)
    cut = bits(jnp.asarray(TOKENS))
    np.testing.assert_allclose(whole, cut, rtol=1e-5)


def test_sequences_do_not_see_each_other():
    both = bits(jnp.asarray(TOKENS))
    each = [bits(jnp.asarray(TOKENS[i : i + 1])) for i in range(2)]
    np.testing.assert_allclose(both, sum(each) / 2, rtol=1e-5)


def test_the_loss_falls_and_the_model_stays_as_it_was():
    before = jax.tree.map(np.asarray, MODEL.params)
    told: list[tuple[int, float]] = []
    schedule = training.Schedule(steps=12, warm_up=2)
    training.train(MODEL, itertools.repeat(TOKENS), schedule, on_step=lambda *it: told.append(it))
    assert [step for step, _ in told] == list(range(1, 13))
    assert told[-1][1] < told[0][1] / 2
    assert told[0][1] == pytest.approx(float(bits(jnp.asarray(TOKENS))), rel=1e-4)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, MODEL.params))


def test_a_loss_that_is_no_number_ends_it():
    broken = llama.causal(shapes.TINY, seed=3)
    broken.params["ends"]["norm"] = broken.params["ends"]["norm"] * math.nan
    with pytest.raises(errors.ConfigError, match="the loss is nan after step 1: lower peak_rate"):
        training.train(broken, itertools.repeat(TOKENS), training.Schedule(steps=2), on_step=print)


def test_packed_sequences_begin_with_documents():
    documents = itertools.cycle([[1, 2, 3], [4, 5], [6, 7, 8, 9]])
    batch = next(training.packed(documents, sequences=2, length=4))
    assert batch.tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 1]]
