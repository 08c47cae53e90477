"""Log probabilities: those of the raw logits, and back from the device's words."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.loops import logprobs
from tests.loops import decoding_oracle

_score = jax.jit(logprobs.score)


def read(logits: np.ndarray, tokens: list[int], top: int) -> list:
    words = np.asarray(_score(jnp.asarray(logits, jnp.float32), jnp.asarray(tokens, jnp.int32)))
    assert words.shape == (len(tokens), logprobs.WORDS)
    return [logprobs.read(row, token, top) for row, token in zip(words, tokens, strict=True)]


@pytest.mark.parametrize(("vocab", "top"), [(40, 20), (40, 0), (40, 3), (7, 7)])
def test_they_are_the_log_softmax(vocab, top):
    rng = np.random.default_rng(vocab)
    logits = (rng.normal(size=(16, vocab)) * 8).astype(np.float32)
    tokens = rng.integers(0, vocab, 16).tolist()
    for row, token, found in zip(logits, tokens, read(logits, tokens, top), strict=True):
        expected = decoding_oracle.logprobs(row)
        assert found == token
        assert found.logprob == pytest.approx(expected[token], abs=1e-5)
        assert [id for id, _ in found.top] == np.argsort(-row, kind="stable")[:top].tolist()
        for id, value in found.top:
            assert value == pytest.approx(expected[id], abs=1e-5)


def test_the_lowest_id_of_equals_comes_first():
    (found,) = read(np.asarray([[1.0, 3.0, 3.0, 3.0, 2.0]]), [1], 4)
    assert [id for id, _ in found.top] == [1, 2, 3, 4]


def test_large_logits_do_not_overflow():
    (found,) = read(np.asarray([[1e30, -1e30, 1e30]]), [0], 3)
    assert found.logprob == pytest.approx(-np.log(2))
    assert found.top[2] == (1, pytest.approx(-2e30))
