"""The pool as a runner sees it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.memory import paged
from tests.memory import parts


def _pool(*devices: int, pages: int = 6) -> paged.PagedPool:
    return paged.PagedPool(4, pages, parts.PAGE_SHAPE, jnp.bfloat16, sharding=parts.on(*devices))


@pytest.mark.parametrize("devices", [(0,), (0, 1), (0, 1, 2, 3)])
def test_sizes_count_all_shards(devices: tuple[int, ...]) -> None:
    pool = _pool(*devices)
    assert (pool.space, pool.pages, pool.scratch, list(pool.indices)) == (4, 6, 0, [1, 2, 3, 4, 5])
    assert pool.page_bytes == parts.PAGE_BYTES // 2
    assert pool.nbytes == 6 * pool.page_bytes
    assert pool.sharding == parts.on(*devices)


def test_snapshot_is_a_copy() -> None:
    pool = _pool(0)
    values = parts.pages(2).astype(jnp.bfloat16)
    pool.write([2, 5], values)
    taken = pool.snapshot([2, 5])
    taken[:] = 0
    np.testing.assert_array_equal(pool.snapshot([2, 5]), values)
    held = pool.snapshot([2])
    addresses = pool.addresses
    pool.write([2], values[1:])  # would raise PoolLostError if `held` were a view
    assert pool.addresses == addresses
    np.testing.assert_array_equal(held, values[:1])


def test_pages_start_as_zeros_and_again_after_rebuild() -> None:
    pool = _pool(0, 1)
    zeros = np.zeros((5, *parts.PAGE_SHAPE), jnp.bfloat16)
    np.testing.assert_array_equal(pool.snapshot(pool.indices), zeros)
    pool.write([1], np.ones((1, *parts.PAGE_SHAPE), jnp.bfloat16))
    pool.rebuild()
    np.testing.assert_array_equal(pool.snapshot(pool.indices), zeros)


def test_a_runners_program() -> None:
    pool = _pool(0)

    def append(array: jax.Array, page: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        return array.at[page, 0, 0, 0].set(value), page + np.int32(1)

    program = jax.jit(append, donate_argnums=0)
    value = np.full(parts.PAGE_SHAPE[3:], 3, jnp.bfloat16)
    (following,) = pool.run(program, np.int32(3), value)
    assert int(following) == 4
    np.testing.assert_array_equal(pool.snapshot([3])[0, 0, 0, 0], value)


def test_the_scratch_page_is_nobodys() -> None:
    with pytest.raises(errors.MoveError, match="index 0 of pool 4 is the scratch page"):
        _pool(0).snapshot([0])


def test_values_of_another_kind_are_refused() -> None:
    with pytest.raises(errors.MoveError, match=r"got values float32.*expected bfloat16"):
        _pool(0).write([1], parts.pages(1))


def test_layouts_that_cannot_be() -> None:
    with pytest.raises(errors.ConfigError, match=r"use arenas\.HostArena"):
        paged.PagedPool(
            4, 6, (2,), jnp.float32, sharding=parts.on(0).with_memory_kind("pinned_host")
        )
    with pytest.raises(errors.ConfigError, match="would hold 0 pages"):
        _pool(0, pages=1)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("x",))
    by_page = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    with pytest.raises(errors.ConfigError, match="over its pages"):
        paged.PagedPool(4, 6, (2,), jnp.float32, sharding=by_page)
