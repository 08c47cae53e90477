"""OPT's own: what `tests/models/test_parity.py` does not compare with the reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from aqua_jax.control import errors
from models import opt
from tests.models import paged

SHAPE = opt.OptShape(
    name="tiny-opt",
    source="made for tests",
    layers=2,
    hidden=64,
    ffn=96,
    heads=4,
    vocab=128,
    context_tokens=32,
)
IDS = np.random.default_rng(0).integers(0, SHAPE.vocab, 32).astype(np.int32)


@pytest.mark.parametrize("norm_first", [True, False])
def test_two_shards_give_the_same_logits(norm_first):
    """Biases after a sum over shards are added once."""
    shape = dataclasses.replace(SHAPE, norm_first=norm_first, last_norm=norm_first)
    model = opt.causal(shape, seed=1)
    made = paged.logits(model, IDS)
    np.testing.assert_allclose(paged.logits(model, IDS, shards=2), made, atol=1e-5)


def test_positions_begin_at_the_third_row():
    """The last position has the table's last row; the first two rows are nobody's."""
    model = opt.causal(SHAPE, seed=1)
    made = paged.logits(model, IDS)
    table = model.params["ends"]["positions"]
    assert table.shape == (34, 64)
    model.params["ends"]["positions"] = table.at[:2].set(np.nan)
    np.testing.assert_array_equal(paged.logits(model, IDS), made)
    model.params["ends"]["positions"] = table.at[33].set(0)
    moved = np.abs(paged.logits(model, IDS) - made).max(-1)
    assert (moved[:31] == 0).all()
    assert moved[31] > 0


def test_shapes_and_shards_that_do_not_divide():
    with pytest.raises(errors.ConfigError, match="'tiny-opt' has heads=4, which 3"):
        opt.causal(SHAPE).specs(3)
    with pytest.raises(errors.ConfigError, match="3 heads in a hidden size of 64"):
        dataclasses.replace(SHAPE, heads=3)
