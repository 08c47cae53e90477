"""Leaves that are one tensor, and those of many experts."""

from __future__ import annotations

import numpy as np
import pytest

from models import hf_leaves


def test_a_tensor_as_it_stands_and_one_turned():
    there = np.arange(6.0).reshape(2, 3)
    same = hf_leaves.same("norm", (2, 3))
    turned = hf_leaves.transposed("layers.{layer}.up", (2, 3))
    assert (same.is_stacked, turned.is_stacked) == (False, True)
    np.testing.assert_array_equal(same.join([there]), there)
    np.testing.assert_array_equal(turned.join([there]), there.T)
    for leaf in (same, turned):
        np.testing.assert_array_equal(leaf.split(leaf.join([there]))[0], there)


def test_experts_are_stacked():
    leaf = hf_leaves.experts("layers.{layer}.experts.{expert}.w1", (2, 3), 4)
    assert leaf.names[3] == "layers.{layer}.experts.3.w1"
    there = list(np.arange(24.0).reshape(4, 2, 3))
    ours = leaf.join(there)
    np.testing.assert_array_equal(ours[2], there[2].T)
    np.testing.assert_array_equal(leaf.split(ours), there)


@pytest.mark.parametrize("bias", [False, True])
def test_what_attends_together_stands_together(bias):
    """Two KV heads of one value each, with two queries each."""
    rest = () if bias else (3,)
    leaf = hf_leaves.qkv(
        "layers.{layer}.{one}_proj", heads=4, kv_heads=2, head_dim=1, hidden=3, bias=bias
    )
    assert leaf.names == tuple(f"layers.{{layer}}.{one}_proj" for one in "qkv")
    assert leaf.shapes == ((4, *rest), (2, *rest), (2, *rest))
    there = [np.random.default_rng(0).normal(size=shape) for shape in leaf.shapes]
    queries, keys, values = there
    ours = leaf.join(there)
    expected = [queries[0], queries[1], keys[0], values[0], *queries[2:], keys[1], values[1]]
    np.testing.assert_array_equal(ours, np.stack(expected, axis=-1))
    for given, back in zip(there, leaf.split(ours), strict=True):
        np.testing.assert_array_equal(given, back)
