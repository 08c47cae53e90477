"""Models by name: random weights by seed, weights from a checkpoint, wrong names."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from models import build, checkpoint, decoder, llama, shapes


def _weights(model: decoder.CausalDecoder) -> np.ndarray:
    """All weights in one row."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(model.params)])


def test_the_seed_decides_the_weights() -> None:
    one, same, other = (build.causal_llama("tiny", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(_weights(one), _weights(same))
    assert not np.array_equal(_weights(one), _weights(other))


def test_weights_come_from_the_checkpoint_when_a_path_is_given(tmp_path: pathlib.Path) -> None:
    saved = llama.causal(shapes.TINY, seed=5)
    checkpoint.save(saved, tmp_path / "weights")
    restored = build.causal_llama("tiny", seed=1, path=str(tmp_path / "weights"))
    np.testing.assert_array_equal(_weights(restored), _weights(saved))


def test_the_dtype_is_the_models() -> None:
    assert build.causal_llama("tiny", seed=0, dtype="bfloat16").facts.dtype == jnp.bfloat16


def test_a_wrong_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(errors.ConfigError, match=r"tinny.*did you mean 'tiny'"):
        build.causal_llama("tinny", seed=0)
