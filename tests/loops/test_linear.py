"""Linear layers against float64."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.loops import linear


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
