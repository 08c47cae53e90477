"""Token ids: in range, repeatable, shared exactly where prefixes are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqua_jax.control import errors
from aqua_jax.workloads import prompts, records


def _arrival(tokens: int, *ids: int, block: int = 4) -> records.Arrival:
    return records.Arrival(0.0, tokens, 1, prefix_ids=ids, prefix_block_tokens=block)


@given(
    tokens=st.integers(0, 50),
    vocab_size=st.integers(1, 2**31),
    seed=st.integers(-5, 2**70),
    data=st.data(),
)
def test_ids_are_in_the_vocabulary_and_repeatable(tokens, vocab_size, seed, data):
    reserved_ids = data.draw(st.integers(0, vocab_size - 1))
    settings = {"seed": seed, "vocab_size": vocab_size, "reserved_ids": reserved_ids}
    ids = prompts.token_ids(_arrival(tokens), 3, **settings)
    assert ids.dtype == np.int32
    assert ids.shape == (tokens,)
    assert np.all((ids >= reserved_ids) & (ids < vocab_size))
    assert np.array_equal(ids, prompts.token_ids(_arrival(tokens), 3, **settings))


def test_words_are_those_of_splitmix64():
    # The published first outputs for seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert prompts._random_words(1234567, 3).tolist() == expected


def test_equal_prefix_ids_give_equal_tokens_and_different_ones_do_not():
    settings = {"seed": 1, "vocab_size": 1000}
    one = prompts.token_ids(_arrival(10, 5, 6, 7), 0, **settings)
    two = prompts.token_ids(_arrival(14, 5, 6, 8), 1, **settings)
    assert np.array_equal(one[:8], two[:8])
    assert not np.array_equal(one[8:10], two[8:10])
    own = prompts.token_ids(_arrival(10), 0, **settings)
    assert not np.array_equal(own[:4], one[:4])


def test_a_partial_last_block_is_the_head_of_the_whole_one():
    settings = {"seed": 1, "vocab_size": 1000}
    short = prompts.token_ids(_arrival(6, 5, 6), 0, **settings)
    long = prompts.token_ids(_arrival(8, 5, 6), 9, **settings)
    assert np.array_equal(short, long[:6])


def test_requests_and_seeds_have_tokens_of_their_own():
    drawn = {
        tuple(prompts.token_ids(_arrival(8), request_id, seed=seed, vocab_size=2**31).tolist())
        for request_id in range(20)
        for seed in range(20)
    }
    assert len(drawn) == 400


def test_ids_are_spread_evenly():
    ids = prompts.token_ids(_arrival(80_000), 0, seed=0, vocab_size=8)
    assert np.bincount(ids, minlength=8) == pytest.approx(10_000, rel=0.04)


@pytest.mark.parametrize(("vocab_size", "reserved_ids"), [(0, 0), (8, 8), (8, -1), (2**31 + 1, 0)])
def test_an_empty_vocabulary_is_refused(vocab_size, reserved_ids):
    with pytest.raises(errors.ConfigError, match="leaves no ids to draw"):
        prompts.token_ids(_arrival(1), 0, seed=0, vocab_size=vocab_size, reserved_ids=reserved_ids)
