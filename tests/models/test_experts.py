"""A mixture by its formula, and that a row's bits are its own."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from aqua_jax.loops import linear, text
from models import experts, llama, shapes
from tests.models import paged

HIDDEN, FFN, ROWS = 32, 24, 16
FIVE = shapes.Experts(count=5, active=2)
X = np.random.default_rng(0).normal(size=(ROWS, HIDDEN)).astype(np.float32)


@pytest.mark.parametrize("active", [1, 2, 5])
@pytest.mark.parametrize("is_sum_one", [True, False])
def test_rows_are_summed_over_their_experts(active, is_sum_one):
    shape = shapes.Experts(count=5, active=active, is_sum_one=is_sum_one)
    np.testing.assert_allclose(run(shape, X, ROWS), plain(shape, X), atol=1e-5)


def test_two_shards_give_the_same():
    np.testing.assert_allclose(run(FIVE, X, ROWS, shards=2), run(FIVE, X, ROWS), atol=1e-5)


def test_bits_of_a_row_are_its_own():
    """Alone, in other places, among other rows, beside dead rows that are not even numbers."""
    whole = run(FIVE, X, ROWS)
    for seed in range(4):
        random = np.random.default_rng(seed)
        order, live = random.permutation(ROWS), int(random.integers(1, ROWS))
        x = np.where(np.arange(ROWS)[:, None] < live, X[order], np.nan)
        np.testing.assert_array_equal(run(FIVE, x, live)[:live], whole[order[:live]])


def test_only_experts_that_live_rows_chose_take_turns():
    chosen = np.zeros((4, 6), bool)
    chosen[0, 4] = chosen[2, 1] = chosen[3, 4] = True
    order, count = experts.called(jnp.asarray(chosen))
    assert int(count) == 2
    assert order[:2].tolist() == [1, 4]
    assert int(experts.called(jnp.zeros((4, 6), bool))[1]) == 0
    assert experts.called(jnp.ones((4, 6), bool))[0].tolist() == list(range(6))


def test_no_program_copies_a_layer_of_experts():
    """One expert's weights at a time leave the stack."""
    shape = dataclasses.replace(shapes.TINY, ffn=48, experts=shapes.Experts(count=7, active=2))
    model = llama.causal(shape, seed=1)
    ids = np.arange(16, dtype=np.int32)
    compiled = paged.program(model).lower(*paged.operands(model, ids)).compile().as_text()
    assert "f32[7,64,48]" not in compiled
    assert "f32[7,48,64]" not in compiled
    made = [line for line in compiled.splitlines() if "= f32[2,7,64,48]" in line]
    copies = [line for line in made if "copy" in line or "fusion" in line]
    assert made
    assert not copies


def drawn(shape: shapes.Experts) -> experts.Mixture:
    """Of a stack of two layers, the second."""
    make = functools.partial(experts.Mixture, shape, HIDDEN, FFN, dtype=jnp.float32)
    return make(rngs=nnx.Rngs(3))


def run(shape: shapes.Experts, x: np.ndarray, live: int, *, shards: int = 1) -> np.ndarray:
    graph, weights = nnx.split(drawn(shape))
    specs = jax.tree.map(
        lambda leaf: leaf.get_value(),
        nnx.get_partition_spec(weights),
        is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
    )
    weights = jax.tree.map(
        lambda leaf: leaf.get_value(), weights, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )

    def body(weights, x, live):
        held = {
            name: leaf if name == "router" else linear.Experts(leaf[None], jnp.int32(0))
            for name, leaf in weights.items()
        }
        return nnx.merge(graph, held)(x, live)

    whole = PartitionSpec()
    mesh = text.tensor_mesh(jax.devices()[:shards])
    program = jax.shard_map(
        body, mesh=mesh, in_specs=(specs, whole, whole), out_specs=whole, check_vma=False
    )
    return np.asarray(jax.jit(program)(weights, jnp.asarray(x), jnp.int32(live)))


def plain(shape: shapes.Experts, x: np.ndarray) -> np.ndarray:
    """By the papers, row by row, in float64."""
    mixture = drawn(shape)
    router, gate, up, down = (
        np.asarray(getattr(mixture, name)[...], np.float64)
        for name in ("router", "gate", "up", "down")
    )
    rows = []
    for row in x.astype(np.float64):
        scores = np.exp(row @ router)
        shares = scores / scores.sum()
        best = np.argsort(-shares)[: shape.active]
        if shape.is_sum_one:
            shares = shares / shares[best].sum()
        made = np.zeros(HIDDEN)
        for one in best:
            opened = row @ gate[one]
            made += shares[one] * (opened / (1 + np.exp(-opened)) * (row @ up[one])) @ down[one]
        rows.append(made)
    return np.stack(rows)
