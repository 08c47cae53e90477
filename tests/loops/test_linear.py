"""Linear layers against float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from aqua_jax.loops import linear, packed


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rows_by_weights_are_summed_in_float32(dtype):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(32, 48)), dtype)
    weights = jnp.asarray(random.normal(size=(48, 20)), dtype)
    expected = np.asarray(x, np.float64) @ np.asarray(weights, np.float64)
    made = linear.apply(x, weights, jnp.int32(32), dtype=jnp.float32)
    assert made.dtype == jnp.float32
    np.testing.assert_allclose(made, expected, atol=1e-4)
    assert linear.apply(x, weights, jnp.int32(32)).dtype == dtype


@pytest.mark.parametrize("from_one", [False, True])
def test_norm_bias_and_sum_stand_around_the_product(from_one):
    random = np.random.default_rng(0)
    x, weights, added = (random.normal(size=sizes) for sizes in ((9, 8), (8, 5), (9, 5)))
    scale, bias = random.normal(size=8), random.normal(size=5)
    norm = linear.Norm(jnp.asarray(scale, jnp.float32), 1e-5, from_one)
    given = (jnp.asarray(array, jnp.float32) for array in (x, weights, bias, added))
    rows, matrix, *rest = given
    made = linear.apply(rows, matrix, jnp.int32(9), norm=norm, bias=rest[0], added=rest[1])
    normed = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * (scale + from_one)
    np.testing.assert_allclose(made, normed @ weights + bias + added, atol=1e-4)


def test_a_gate_is_activated_and_multiplied():
    random = np.random.default_rng(0)
    x, gate, up = (random.normal(size=sizes) for sizes in ((9, 8), (8, 5), (8, 5)))
    given = (jnp.asarray(array, jnp.float32) for array in (x, gate, up))
    rows, *matrices = given
    made = linear.gated(rows, tuple(matrices), jnp.int32(9), activation="silu")
    at = x @ gate
    np.testing.assert_allclose(made, at / (1 + np.exp(-at)) * (x @ up), atol=1e-4)


@pytest.mark.parametrize("pack", [lambda table: table, packed.pack_transposed])
def test_a_loop_that_looks_up_bfloat16_holds_no_other_table(pack):
    table = jnp.asarray(np.random.default_rng(0).normal(size=(512, 64)), jnp.bfloat16)
    kept = pack(table)

    def run(table: linear.Weights, ids: jax.Array, turns: jax.Array) -> jax.Array:
        def visit(turn: jax.Array, _: jax.Array) -> jax.Array:
            return linear.look_up(table, ids + turn)

        return lax.fori_loop(0, turns, visit, jnp.zeros((ids.size, 64), jnp.bfloat16))

    given = kept, jnp.arange(5, dtype=jnp.int32), jnp.int32(4)
    program = jax.jit(run).lower(*given).compile()
    np.testing.assert_array_equal(program(*given), table[3:8])
    assert program.memory_analysis().temp_size_in_bytes < table.nbytes
