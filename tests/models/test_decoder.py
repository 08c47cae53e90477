"""A module as the loop takes it: trees of parameters, specs and linear weights that agree."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from models import llama, shapes


def test_the_trees_agree():
    model = llama.causal(shapes.TINY, seed=1)
    specs = jax.tree.structure(model.specs(2), is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))
    for tree in (model.abstract_params, model.linear):
        assert jax.tree.structure(tree) == jax.tree.structure(model.params) == specs
    for abstract, leaf in zip(
        jax.tree.leaves(model.abstract_params), jax.tree.leaves(model.params), strict=True
    ):
        assert (abstract.shape, abstract.dtype) == (leaf.shape, leaf.dtype)


def test_linear_weights_are_told_from_tables_and_norms():
    model = llama.causal(shapes.TINY)
    linear = {
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, is_linear in jax.tree.leaves_with_path(model.linear)
        if is_linear
    }
    blocks = {f"blocks.{name}" for name in ("qkv", "out", "gate", "up", "down")}
    assert linear == {"ends.head", *blocks}


def test_a_layer_is_cut_out_of_the_stack():
    model = llama.causal(shapes.TINY, seed=1)
    layer = model.layer(model.params, jnp.int32(1))
    np.testing.assert_array_equal(layer["down"], model.params["blocks"]["down"][1])


def test_given_weights_are_used():
    given = llama.causal(shapes.TINY, seed=1).params
    assert llama.causal(shapes.TINY, params=given).params is given
