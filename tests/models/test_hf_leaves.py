"""Leaves that are one tensor."""

from __future__ import annotations

import numpy as np

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
