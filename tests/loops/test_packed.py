"""Packed weights: their product against float64, bits that company does not change, refusals."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.loops import linear, packed
from aqua_jax.memory import native
from tests.loops import attention_scene
from tests.memory import parts

pytestmark = parts.needs_native

# What jax raises for a handler's error: the one when it is seen at once, the other when it is not.
REFUSED = (ValueError, jax.errors.JaxRuntimeError)
TOLERANCE = {"float32": 1e-6, "bfloat16": 1e-2}
ROWS = 40  # several tiles of any kernel

every_dtype = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@pytest.fixture(autouse=True)
def library() -> native.Library:
    return native.load()


def draw(*sizes: int, dtype: str = "float32", seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=sizes), dtype)


def wide(array: jax.Array) -> np.ndarray:
    return np.asarray(array, np.float64)


def check(made: jax.Array, expected: np.ndarray, dtype: str) -> None:
    assert np.abs(wide(made) - expected).max() / np.abs(expected).max() < TOLERANCE[dtype]


@every_dtype
@pytest.mark.parametrize("lanes", [0, 4, 8, 16])
@pytest.mark.parametrize("sizes", [(7, 5), (64, 96), (601, 100)])
def test_a_product_is_right_and_a_row_keeps_its_bits(dtype, lanes, sizes):
    """Odd sizes, several panels, more steps than a block; each number of rows is cut otherwise."""
    if lanes > attention_scene.widest_lanes():
        pytest.skip(f"this machine has no vectors of {lanes} floats")
    x, weights = draw(ROWS, sizes[0], dtype=dtype), draw(*sizes, dtype=dtype, seed=1)
    multiply = functools.partial(packed.multiply, dtype="float32", lanes=lanes)
    whole = np.asarray(multiply(x, packed.pack(weights), jnp.int32(ROWS)))
    expected = wide(x) @ wide(weights)
    assert np.abs(whole - expected).max() / np.abs(expected).max() < 1e-5
    for rows in (1, 2, 6, 7, 13, 15, 29):
        fewer = multiply(x[:rows], packed.pack(weights), jnp.int32(rows))
        np.testing.assert_array_equal(np.asarray(fewer), whole[:rows])
        live = np.asarray(multiply(x, packed.pack(weights), jnp.int32(rows)))
        np.testing.assert_array_equal(live[:rows], whole[:rows])
        assert not live[rows:].any()


def test_rows_that_are_nobodys_may_be_anything():
    x, weights = draw(ROWS, 64), packed.pack(draw(64, 96, seed=1))
    expected = packed.multiply(x[:3], weights, jnp.int32(3), dtype="float32")
    spoilt = packed.multiply(x.at[3:].set(jnp.nan), weights, jnp.int32(3), dtype="float32")
    np.testing.assert_array_equal(spoilt[:3], expected)
    assert not np.isnan(spoilt).any()


def test_threads_change_no_bit():
    """Large enough for all threads of the machine; other calls run beside it."""
    x, weights = draw(ROWS, 512), packed.pack(draw(512, 1100, seed=1))
    multiply = jax.jit(functools.partial(packed.multiply, dtype="float32"))
    whole = np.asarray(multiply(x, weights, jnp.int32(ROWS)))
    elsewhere = jax.device_put((x, weights), jax.devices()[1])
    beside = [multiply(*elsewhere, jnp.int32(ROWS)) for _ in range(5)]
    for row in (0, 17, 39):
        alone = multiply(x[row : row + 1], weights, jnp.int32(1))
        np.testing.assert_array_equal(np.asarray(alone)[0], whole[row])
    for made in beside:
        np.testing.assert_array_equal(np.asarray(made), whole)


@every_dtype
def test_what_is_around_the_product_is_computed_with_it(dtype):
    x, weights = draw(20, 64, dtype=dtype), draw(64, 70, dtype=dtype, seed=1)
    scale, bias = draw(64, dtype=dtype, seed=2), draw(70, dtype=dtype, seed=3)
    added = draw(20, 70, dtype=dtype, seed=4)
    for from_one in (False, True):
        norm = linear.Norm(scale, 1e-5, from_one)
        made = linear.apply(
            x, packed.pack(weights), jnp.int32(20), norm=norm, bias=bias, added=added
        )
        assert made.dtype == x.dtype
        factors = wide(scale) + from_one
        normed = wide(x) / np.sqrt((wide(x) ** 2).mean(-1, keepdims=True) + 1e-5) * factors
        check(made, normed @ wide(weights) + wide(bias) + wide(added), dtype)


@every_dtype
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_gates_are_applied_in_the_same_call(dtype, activation):
    x = draw(20, 64, dtype=dtype) * 3  # both tails of the activation
    gate, up = (draw(64, 70, dtype=dtype, seed=seed) for seed in (1, 2))
    weights = (packed.pack(gate), packed.pack(up))
    made = linear.gated(x, weights, jnp.int32(20), activation=activation)
    at = wide(x) @ wide(gate)
    inner = at if activation == "silu" else 2 * np.sqrt(2 / np.pi) * (at + 0.044715 * at**3)
    check(made, at / (1 + np.exp(-np.clip(inner, -700, 700))) * (wide(x) @ wide(up)), dtype)


def test_a_nan_is_not_hidden():
    x, weights = draw(3, 64).at[1, 5].set(jnp.nan), packed.pack(draw(64, 70, seed=1))
    made = linear.gated(x, (weights, weights), jnp.int32(3), activation="silu")
    assert np.isnan(made[1]).all()
    assert not np.isnan(made[0]).any()


@every_dtype
def test_matrices_are_taken_out_of_their_stack(dtype):
    """Of layers, and of experts within layers."""
    x, weights = draw(5, 33, dtype=dtype), draw(2, 3, 33, 40, dtype=dtype, seed=1)
    stack = packed.pack(weights)
    assert (stack.shape, stack[1].shape, stack[1, 2].shape) == (
        (2, 3, 33, 40),
        (3, 33, 40),
        (33, 40),
    )
    experts = linear.Experts(stack, jnp.int32(1))
    for expert in range(3):
        made = linear.apply(x, linear.expert(experts, jnp.int32(expert)), jnp.int32(5))
        check(made, wide(x) @ wide(weights[1, expert]), dtype)
    assert stack[...] is stack


@every_dtype
def test_a_table_is_looked_up_and_applied(dtype):
    table = draw(70, 33, dtype=dtype)
    kept = packed.pack_transposed(table)
    ids = jnp.array([0, 69, 31, 32, 0])
    assert linear.entries(kept) == linear.entries(table) == 70
    np.testing.assert_array_equal(linear.look_up(kept, ids), table[ids])
    x = draw(5, 33, dtype=dtype, seed=1)
    made = linear.apply(x, linear.transposed(kept), jnp.int32(5))
    check(made, wide(x) @ wide(table).T, dtype)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": jnp.zeros((4, 9))}, r"2 panels of 8 steps of 32: expected 2 of 9"),
        ({"x": jnp.zeros((4, 8), jnp.bfloat16)}, "rows and weights both of float32 or of bfloat16"),
        ({"live": 5}, "live is 5: expected 0 to 4, the rows"),
        ({"live": -1}, "live is -1"),
        ({"index": 3}, "weights 3: expected 0 to 2"),
        ({"around": packed.Around(bias=jnp.zeros(39))}, "bias has 39 elements: expected 40"),
        ({"around": packed.Around(added=jnp.zeros((3, 40)))}, "added has 120 elements"),
        ({"around": packed.Around(norm=jnp.zeros(8, jnp.bfloat16))}, "norm has 8 elements"),
        ({"around": packed.Around(activation="relu")}, "no such activation"),
        ({"lanes": 5}, "vectors of 5 floats: expected 4, 8 or 16"),
        ({"dtype": "bfloat16"}, "a result of either theirs or float32"),
    ],
)
def test_operands_that_cannot_be_are_an_error_not_a_crash(change, message):
    given = {"x": jnp.zeros((4, 8)), "live": 4, "index": 0, "dtype": "float32", **change}
    weights = packed.pack(jnp.zeros((3, 8, 40)))[given.pop("index")]
    with pytest.raises(REFUSED, match=message):
        jax.block_until_ready(packed.multiply(given.pop("x"), weights, **given))


def test_devices_that_have_no_kernels_are_refused():
    with pytest.raises(errors.ConfigError, match="no native linear layers for 'gpu' devices"):
        packed.check_platform("gpu")
