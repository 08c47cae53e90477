"""The page programs: what they compile to, and that checksums see what they must."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.memory import programs
from tests.memory import parts

PAGES = 11
SHARDINGS = {
    "one device": parts.on(0),
    "mesh": parts.on(0, 1),
    "host": parts.on(0).with_memory_kind("pinned_host"),
    "host of a mesh": parts.on(0, 1).with_memory_kind("pinned_host"),
}
LAYOUTS = pytest.mark.parametrize("sharding", SHARDINGS.values(), ids=SHARDINGS)


def _array(sharding: jax.sharding.Sharding) -> jax.Array:
    zeros = jax.device_put(np.zeros((PAGES, *parts.PAGE_SHAPE), np.float32), sharding)
    return programs.settle(sharding)(zeros)


def _ids(sharding: jax.sharding.Sharding, batch: int) -> jax.Array:
    return jax.device_put(np.arange(batch, dtype=np.int32), programs.replicated_sharding(sharding))


def _pool_copies(program: Any, array: jax.Array, *args: jax.Array) -> int:
    """Instructions of the optimised HLO that make another array of the pool's shape."""
    text = program.lower(array, *args).compile().as_text()
    shape = ",".join(map(str, array.sharding.shard_shape(array.shape)))
    return len(re.findall(rf"= f32\[{shape}\]\S* (?:copy|copy-start|broadcast|select)\(", text))


@LAYOUTS
@pytest.mark.parametrize("batch", [1, 8])
def test_no_program_copies_the_pool(sharding: jax.sharding.Sharding, batch: int) -> None:
    """Invariant 9."""
    array, ids = _array(sharding), _ids(sharding, batch)
    staged = programs.gather(sharding)(array, ids)
    assert _pool_copies(programs.gather(sharding), array, ids) == 0
    assert _pool_copies(programs.scatter(sharding), array, ids, staged) == 0


def test_the_search_finds_a_copy() -> None:
    """A scatter into a pool that is not donated must copy it: the test above can fail."""
    copying = jax.jit(lambda array, ids, staged: array.at[ids].set(staged))
    array, ids = _array(parts.on(0)), _ids(parts.on(0), 8)
    assert _pool_copies(copying, array, ids, array[:8]) > 0


@LAYOUTS
def test_only_scatter_donates(sharding: jax.sharding.Sharding) -> None:
    array, ids = _array(sharding), _ids(sharding, 2)
    staged = programs.gather(sharding)(array, ids)
    assert staged.sharding.is_equivalent_to(programs.staging_sharding(sharding), staged.ndim)
    assert not array.is_deleted()
    updated, token = programs.scatter(sharding)(array, ids, staged)
    assert array.is_deleted()
    assert not staged.is_deleted()
    assert updated.sharding.memory_kind == sharding.memory_kind
    assert token.shape == (1,)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "float8_e4m3fn"])
def test_a_checksum_sees_every_byte(dtype: str) -> None:
    words = np.random.default_rng(0).integers(0, 255, (1, 2, 4, 8), np.uint8)
    data = words.view(jnp.dtype(dtype))
    checksum = programs.checksum(parts.on(0))
    original = int(checksum(jnp.asarray(data))[0])
    for position in range(words.size):
        changed = words.copy()
        changed.reshape(-1)[position] ^= 0x10
        assert int(checksum(jnp.asarray(changed.view(jnp.dtype(dtype))))[0]) != original


def test_a_checksum_sees_order() -> None:
    page = parts.pages(1)
    checksum = programs.checksum(parts.on(0))
    swapped = page[:, ::-1].copy()
    assert int(checksum(jnp.asarray(page))[0]) != int(checksum(jnp.asarray(swapped))[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_the_host_sums_alike(dtype: str) -> None:
    data = np.random.default_rng(0).integers(0, 255, (3, 2, 4, 8), np.uint8).view(jnp.dtype(dtype))
    on_device = programs.checksum(parts.on(0))(jnp.asarray(data))
    np.testing.assert_array_equal(programs.checksum_on_host(data), on_device)


def test_a_checksum_does_not_depend_on_the_sharding() -> None:
    pages = parts.pages(4)
    sums = [
        np.array(programs.checksum(sharding)(jax.device_put(pages, sharding)))
        for sharding in (parts.on(0), parts.on(2, 3), parts.on(0, 1, 2, 3))
    ]
    np.testing.assert_array_equal(sums[0], sums[1])
    np.testing.assert_array_equal(sums[0], sums[2])
    assert len(set(sums[0].tolist())) == 4
