"""Packing: what the host writes is what the device reads, and back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.loops import packing

PACKING = packing.Packing(
    {
        "scalar": packing.int32(),
        "weights": jax.ShapeDtypeStruct((2, 3), np.float32),
        "ids": packing.int32(4),
    }
)


def test_the_device_reads_what_the_host_wrote():
    vector, views = PACKING.host()
    views["scalar"][...] = -7
    views["weights"][:] = [[1.5, -2.0, np.inf], [0.1, 0.0, 3.0]]
    views["ids"][1:3] = [8, 9]
    assert (vector.dtype, vector.shape) == (np.int32, (PACKING.size,))
    fields = jax.jit(PACKING.unpack)(vector)
    for name, view in views.items():
        assert fields[name].dtype == view.dtype
        np.testing.assert_array_equal(fields[name], view)
    np.testing.assert_array_equal(jax.jit(PACKING.pack)(fields), vector)


def test_the_host_reads_what_the_device_wrote():
    weights = jnp.asarray([[1.5, -2.0, 0.0], [0.1, 0.0, 3.0]])
    bits = jax.lax.bitcast_convert_type(weights, jnp.int32).reshape(-1)
    vector = np.asarray(jnp.concatenate([jnp.asarray([5]), bits, jnp.arange(4)]))
    views = PACKING.views(vector)
    assert views["scalar"] == 5
    np.testing.assert_array_equal(views["weights"], weights)
    np.testing.assert_array_equal(views["ids"], range(4))
