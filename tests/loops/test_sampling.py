"""Sampling: which tokens may be drawn, how often, and that company changes nothing."""

from __future__ import annotations

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from aqua_jax.loops import prompt, sampling
from tests.loops import decoding_oracle

VOCAB = 16
ROWS = 4096
# Distinct, not in order of id.
LOGITS = np.random.default_rng(3).permutation(VOCAB).astype(np.float32) * 0.3

_sample = jax.jit(sampling.sample)


def draw(
    logits: np.ndarray,
    *,
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    seeds=None,
    positions=None,
) -> np.ndarray:
    """One draw per row of `logits` `[rows, vocab]`; by default a seed each, at position 5."""
    rows = logits.shape[0]
    how = sampling.Sampling(
        jnp.asarray(np.arange(rows) if seeds is None else seeds, jnp.int32),
        jnp.full(rows, temperature, jnp.float32),
        jnp.broadcast_to(jnp.asarray(top_k, jnp.int32), rows),
        jnp.full(rows, top_p, jnp.float32),
        jnp.full(rows, min_p, jnp.float32),
    )
    positions = np.full(rows, 5) if positions is None else positions
    return np.asarray(_sample(jnp.asarray(logits), jnp.asarray(positions, jnp.int32), how))


def many(**options: float) -> np.ndarray:
    return draw(np.tile(LOGITS, (ROWS, 1)), **options)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def test_greedy_is_argmax_and_the_lowest_id_of_equals():
    logits = np.random.default_rng(0).integers(0, 5, (64, VOCAB)).astype(np.float32)
    np.testing.assert_array_equal(draw(logits, temperature=0.0), logits.argmax(-1))


def test_the_likeliest_of_odd_scores_is_what_argmax_finds():
    scores = np.random.default_rng(0).integers(-2, 2, (64, VOCAB)).astype(np.float32)
    scores[0], scores[1, 1:], scores[2, 5] = -np.inf, -np.inf, np.inf
    scores[3, [4, 9]], scores[4] = np.nan, np.nan
    scores[5, :4], scores[5, 4:] = -0.0, 0.0
    np.testing.assert_array_equal(sampling.likeliest(jnp.asarray(scores)), scores.argmax(-1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_probabilities(temperature):
    found = np.bincount(many(temperature=temperature), minlength=VOCAB) / ROWS
    expected = softmax(LOGITS / temperature)
    # Five standard deviations of a frequency.
    assert (abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / ROWS)).all()


@pytest.mark.parametrize("top_k", [1, 2, 5, VOCAB, 1000])
def test_top_k_keeps_the_k_likeliest(top_k):
    likeliest = np.argsort(-LOGITS)[:top_k]
    assert set(many(top_k=top_k, temperature=3.0)) == set(likeliest)


@pytest.mark.parametrize("top_p", [1e-6, 0.2, 0.5, 0.9])
def test_top_p_keeps_the_fewest_that_reach_it(top_p):
    order = np.argsort(-LOGITS)
    reached = np.cumsum(softmax(LOGITS)[order])
    kept = order[: np.searchsorted(reached, top_p) + 1]
    assert set(many(top_p=top_p)) == set(kept)


@pytest.mark.parametrize("min_p", [1e-3, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_min_p_keeps_those_within_a_share_of_the_best(min_p, temperature):
    likely = softmax(LOGITS / temperature)
    kept = np.flatnonzero(likely >= min_p * likely.max())
    expected = np.where(likely >= min_p * likely.max(), likely, 0) / likely[kept].sum()
    found = np.bincount(many(min_p=min_p, temperature=temperature), minlength=VOCAB) / ROWS
    assert (abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / ROWS)).all()


_numbers = jax.jit(sampling.uniforms)


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    temperature=strategies.floats(0.25, 3.0, width=32),
    top_k=strategies.integers(0, VOCAB + 2),
    top_p=strategies.floats(0.0625, 1.0, width=32),
    min_p=strategies.floats(0.0, 0.5, width=32),
    seed=strategies.integers(0, 1000),
)
def test_each_draw_is_that_of_plain_numpy(temperature, top_k, top_p, min_p, seed):
    logits = np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32) * 2
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    payload = prompt.text_request([1], max_tokens=1, **options).payload
    likely, margin = decoding_oracle.probabilities(logits, payload)
    hypothesis.assume(margin > 1e-5)
    found = draw(np.tile(logits, (64, 1)), **options)
    numbers = np.asarray(_numbers(jnp.arange(64), jnp.full(64, 5)))
    for token, number in zip(found, numbers, strict=True):
        expected, distance = decoding_oracle.draw(likely, float(number))
        assert token == expected or distance < 1e-5
    assert (likely[found] > 0).all()


def test_a_row_draws_alike_whether_its_neighbours_have_top_k_or_not():
    logits = np.random.default_rng(1).normal(size=(32, VOCAB)).astype(np.float32)
    plain = draw(logits, temperature=1.5, min_p=0.05)
    ranked = draw(logits, temperature=1.5, min_p=0.05, top_k=3)
    mixed = draw(logits, temperature=1.5, min_p=0.05, top_k=np.arange(32) % 2 * 3)
    np.testing.assert_array_equal(mixed[::2], plain[::2])
    np.testing.assert_array_equal(mixed[1::2], ranked[1::2])
    assert (plain != ranked).any()


def test_what_is_masked_is_never_drawn():
    masked = np.where(np.arange(VOCAB) % 3 == 0, LOGITS, -np.inf).astype(np.float32)
    for options in ({}, {"top_k": VOCAB - 1}, {"top_p": 0.999}):
        found = draw(np.tile(masked, (ROWS, 1)), temperature=50.0, **options)
        assert set(found % 3) == {0}


def test_top_p_counts_what_top_k_leaves():
    # Of four nearly alike top_k leaves two, and half of what is left is one.
    logits = np.full((ROWS, VOCAB), -50, np.float32)
    logits[:, :4] = 0, -0.01, -0.02, -0.03
    assert set(draw(logits, top_k=2, top_p=0.5)) == {0}
    assert set(draw(logits, top_p=0.5)) == {0, 1}


def test_equals_of_the_last_one_kept_are_kept():
    logits = np.full((ROWS, VOCAB), -50, np.float32)
    logits[:, 3:7] = 0
    assert set(draw(logits, top_k=2)) == {3, 4, 5, 6}
    assert set(draw(logits, top_p=0.1)) == {3, 4, 5, 6}


def test_top_k_and_top_p_both_bind():
    # 0.2 keeps two, top_k one of them; 0.9 keeps more than three, top_k three.
    assert set(many(top_p=0.2, top_k=1)) == {LOGITS.argmax()}
    assert set(many(top_p=0.9, top_k=3)) == set(np.argsort(-LOGITS)[:3])


@pytest.mark.parametrize("temperature", [1e-30, 1e30])
def test_extreme_temperatures_are_their_limits(temperature):
    tokens = many(temperature=temperature)
    assert set(tokens) == ({LOGITS.argmax()} if temperature < 1 else set(range(VOCAB)))


def test_the_same_seed_and_position_draw_alike_in_any_row():
    logits = np.random.default_rng(1).normal(size=(32, VOCAB)).astype(np.float32)
    seeds, positions = np.arange(32) * 7, np.arange(32) % 5
    tokens = draw(logits, seeds=seeds, positions=positions)
    order = np.random.default_rng(2).permutation(32)
    moved = draw(logits[order], seeds=seeds[order], positions=positions[order])
    np.testing.assert_array_equal(moved, tokens[order])


def test_greedy_rows_are_greedy_beside_rows_that_sample():
    logits = np.random.default_rng(1).normal(size=(32, VOCAB)).astype(np.float32)
    temperatures = jnp.asarray(np.arange(32) % 2, jnp.float32)
    how = sampling.Sampling(
        jnp.arange(32, dtype=jnp.int32),
        temperatures,
        jnp.zeros(32, jnp.int32),
        jnp.ones(32),
        jnp.zeros(32),
    )
    tokens = np.asarray(_sample(jnp.asarray(logits), jnp.zeros(32, jnp.int32), how))
    np.testing.assert_array_equal(tokens[::2], logits.argmax(-1)[::2])
    assert (tokens[1::2] != logits.argmax(-1)[1::2]).any()


def test_keys_differ_by_seed_and_by_position():
    grid = np.stack(np.meshgrid(np.arange(-16, 16), np.arange(32)), -1).reshape(-1, 2)
    numbers = np.asarray(
        sampling.uniforms(jnp.asarray(grid[:, 0], jnp.int32), jnp.asarray(grid[:, 1], jnp.int32))
    )
    assert len(set(numbers.tolist())) == len(grid)
    assert abs(numbers.mean() - 0.5) < 0.05
