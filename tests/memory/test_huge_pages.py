"""Huge pages: only what is wholly inside a large array, whose contents and address stay."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.memory import huge_pages

MIB = 1 << 20


def test_contents_and_address_stay():
    array = jnp.arange(4 * MIB, dtype=jnp.int32)
    before = array.unsafe_buffer_pointer()
    huge_pages.advise([array])
    assert array.unsafe_buffer_pointer() == before
    np.testing.assert_array_equal(np.array(array), np.arange(4 * MIB))


def test_ranges_are_huge_pages_inside_the_array():
    array = jnp.zeros(16 * MIB, jnp.int8)
    (where,) = huge_pages.ranges(array)
    first = array.unsafe_buffer_pointer()
    assert first <= where.first < where.end <= first + array.nbytes
    assert where.first % (2 * MIB) == where.end % (2 * MIB) == 0
    assert where.end - where.first >= array.nbytes - 4 * MIB


def test_small_arrays_and_small_shards_are_left_alone():
    assert huge_pages.ranges(jnp.zeros(MIB, jnp.int8)) == []
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    assert huge_pages.ranges(jax.device_put(np.zeros(16 * MIB, np.int8), sharding)) == []
    assert len(huge_pages.ranges(jax.device_put(np.zeros(32 * MIB, np.int8), sharding))) == 4
