"""Checkpoints: what is saved comes back bit for bit; what does not fit is named."""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from models import checkpoint, llama, shapes


def test_saved_weights_come_back_bit_for_bit(tmp_path: pathlib.Path) -> None:
    saved = llama.causal(shapes.TINY, seed=3)
    checkpoint.save(saved, tmp_path / "weights")
    restored = checkpoint.restore(shapes.TINY, tmp_path / "weights", dtype=jnp.float32)
    pairs = zip(
        jax.tree.leaves_with_path(saved.params),
        jax.tree.leaves_with_path(restored.params),
        strict=True,
    )
    for (name, ours), (same_name, theirs) in pairs:
        assert name == same_name
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    other = jax.tree.leaves(llama.causal(shapes.TINY, seed=4).params)
    same = [np.array_equal(a, b) for a, b in zip(other, jax.tree.leaves(saved.params), strict=True)]
    assert not all(same)


def test_weights_can_be_restored_in_another_dtype(tmp_path: pathlib.Path) -> None:
    checkpoint.save(llama.causal(shapes.TINY), tmp_path / "weights")
    restored = checkpoint.restore(shapes.TINY, tmp_path / "weights", dtype=jnp.bfloat16)
    assert restored.facts.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(restored.params)} == {jnp.dtype(jnp.bfloat16)}


def test_another_shape_is_refused_by_the_parameter_that_differs(tmp_path: pathlib.Path) -> None:
    checkpoint.save(llama.causal(shapes.TINY), tmp_path / "weights")
    wider = dataclasses.replace(shapes.TINY, name="wider", ffn=128)
    with pytest.raises(errors.ConfigError, match=r"has blocks\..* of shape .*'wider' expects"):
        checkpoint.restore(wider, tmp_path / "weights", dtype=jnp.float32)


def test_nothing_there_and_something_there_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.ConfigError, match="no checkpoint at"):
        checkpoint.restore(shapes.TINY, tmp_path / "none", dtype=jnp.float32)
    with pytest.raises(errors.ConfigError, match="exists: give a folder"):
        checkpoint.save(llama.causal(shapes.TINY), tmp_path)
