"""Pages are cut as the devices hold them, and put together again."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aqua_jax.memory import partition
from tests.memory import parts


def _replicated() -> jax.sharding.NamedSharding:
    """Four devices and two groups of heads: each group lies on two devices."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("tensor", "copy"))
    spec = jax.sharding.PartitionSpec(None, None, None, None, "tensor")
    return jax.sharding.NamedSharding(mesh, spec)


SHARDINGS = {
    "single": (lambda: parts.on(1), 1, 1),
    "mesh 2": (lambda: parts.on(0, 1), 2, 1),
    "mesh 4": (lambda: parts.on(0, 1, 2, 3), 4, 1),
    "fewer heads than devices": (_replicated, 4, 2),
}


@pytest.mark.parametrize("case", SHARDINGS)
def test_parts_are_what_the_devices_hold(case: str) -> None:
    make, count, replicas = SHARDINGS[case]
    sharding = make()
    cut = partition.of(sharding, parts.PAGE_SHAPE)
    assert (cut.parts, cut.replicas) == (count, replicas)
    page = parts.pages(1)
    on_devices = jax.device_put(page, sharding)
    for part, shard in zip(cut.split(page[0]), on_devices.addressable_shards, strict=True):
        assert part.shape == cut.part_shape
        assert part.flags.c_contiguous
        np.testing.assert_array_equal(part, np.asarray(shard.data)[0])


@pytest.mark.parametrize("case", SHARDINGS)
def test_what_was_split_is_joined(case: str) -> None:
    cut = partition.of(SHARDINGS[case][0](), parts.PAGE_SHAPE)
    page = parts.pages(1)[0]
    joined = np.zeros_like(page)
    cut.join(cut.split(page), joined)
    np.testing.assert_array_equal(joined, page)


def test_partitions_are_equal_on_other_devices() -> None:
    two = partition.of(parts.on(0, 1), parts.PAGE_SHAPE)
    assert two != partition.of(parts.on(0), parts.PAGE_SHAPE)
    assert two == partition.of(parts.on(2, 3), parts.PAGE_SHAPE)
