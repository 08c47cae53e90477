"""A module as the loop takes it: trees of parameters, specs and linear weights that agree."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from aqua_jax.loops import forward, linear
from models import decoder, llama, parts, shapes


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
        for path, use in jax.tree.leaves_with_path(model.linear)
        if use
    }
    blocks = {f"blocks.{name}" for name in ("qkv", "out", "gate", "up", "down")}
    assert linear == {"ends.head", *blocks}


def test_a_layer_is_cut_out_of_the_stack():
    model = llama.causal(shapes.TINY, seed=1)
    layer, constants = model.layer(model.params, jnp.int32(1))
    assert constants == {}
    np.testing.assert_array_equal(layer["down"], model.params["blocks"]["down"][1])


def test_given_weights_are_used():
    given = llama.causal(shapes.TINY, seed=1).params
    assert llama.causal(shapes.TINY, params=given).params is given


def test_weights_may_be_made_for_the_model():
    def make(model):
        return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), model.abstract_params)

    params = llama.causal(shapes.TINY, params=make).params
    assert params["blocks"]["down"].shape == (2, 96, 64)
    assert float(params["blocks"]["down"].min()) == 1.0


class Scaling(nnx.Module):
    """Multiplies by a number of the layer, which is no weight; two experts beside it."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.number = parts.LayerConstant(jnp.zeros(()))
        self.experts = parts.ExpertWeights(jax.random.normal(rngs.params(), (2, 4, 4)))

    def combine(self, x: jax.Array, attended: jax.Array, span: forward.Span) -> jax.Array:
        chosen = linear.expert(self.experts.get_value(), jnp.int32(1))
        return linear.apply(x, chosen, span.live) * self.number[...]


class Scalings(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.ends = nnx.Module()
        self.blocks = decoder.stack(Scaling, 3, rngs)


def test_constants_and_experts_of_a_layer_reach_its_block():
    facts = dataclasses.replace(llama.causal(shapes.TINY).facts, layers=3)
    numbers = np.asarray([2.0, 3.0, 5.0], np.float32)
    model = decoder.CausalDecoder(facts, Scalings, divides={}, constants={"number": numbers})
    assert jax.tree.map(jnp.shape, model.params["blocks"]) == {"experts": (3, 2, 4, 4)}
    x, span = jnp.ones((1, 4)), forward.Span(jnp.zeros(1, jnp.int32), jnp.int32(1))
    made = model.combine(model.layer(model.params, jnp.int32(2)), x, x, span)
    weights = model.params["blocks"]["experts"][2, 1]
    np.testing.assert_allclose(made, 5.0 * x @ weights, rtol=1e-6)
