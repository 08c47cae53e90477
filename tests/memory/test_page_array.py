"""Batches, padding, and that nothing compiles once a page array is warm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors, types
from aqua_jax.memory import arenas, programs
from tests.memory import parts


def _arena(slots: int = 5, page_shape: tuple[int, ...] = (3,)) -> arenas.DeviceArena:
    return arenas.DeviceArena(2, slots, page_shape, jnp.float32, sharding=parts.on(0))


def test_batches_are_powers_of_two() -> None:
    arena = _arena()
    assert arena.buckets() == [1, 2, 4, 8, 16, 32, 64]
    assert [arena.gather([0] * n).shape[0] for n in (1, 2, 3, 5)] == [1, 2, 4, 8]


def test_padding_reads_and_writes_scratch_only() -> None:
    arena = _arena()
    values = np.arange(15, dtype=np.float32).reshape(5, 3)
    arena.write(range(5), values)
    staged = arena.gather([4, 0, 2])
    np.testing.assert_array_equal(staged[:3], values[[4, 0, 2]])
    arena.scatter([0, 1, 2], staged + np.float32(100))
    expected = np.concatenate([values[[4, 0, 2]] + 100, values[3:]])
    np.testing.assert_array_equal(arena.snapshot(range(5)), expected)


def test_large_pages_make_small_batches() -> None:
    """Staging is bounded: pages of 24 MiB go in batches of two, not of 64."""
    arena = _arena(slots=1, page_shape=(1,))
    arena.page_shape = (24 * types.MIB // 4,)
    assert arena.batch_pages_max == 2
    assert arena.buckets() == [1, 2]


@pytest.mark.parametrize("count", [0, 65])
def test_a_batch_has_bounds(count: int) -> None:
    with pytest.raises(errors.InternalError, match=f"a batch of {count} pages.*expected 1 to 64"):
        _arena().gather([0] * count)


def test_no_pages_at_all() -> None:
    assert _arena().snapshot([]).shape == (0, 3)


def test_replicas_count_as_bytes() -> None:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("tensor", "copy"))
    spec = jax.sharding.PartitionSpec(None, "tensor")
    sharding = jax.sharding.NamedSharding(mesh, spec)
    arena = arenas.DeviceArena(2, 5, (6,), jnp.float32, sharding=sharding)
    assert arena.page_bytes == 2 * 6 * 4
    assert arena.nbytes == 6 * arena.page_bytes


def test_checksums_of_more_pages_than_a_batch() -> None:
    arena = _arena(slots=70)
    values = np.arange(210, dtype=np.float32).reshape(70, 3)
    arena.write(range(70), values)
    order = [*range(69, -1, -1)]
    sums = np.concatenate(arena.checksums(order))
    assert len(sums) == 64 + 8  # the last batch is padded
    np.testing.assert_array_equal(sums[:70], programs.checksum_on_host(values[order]))
