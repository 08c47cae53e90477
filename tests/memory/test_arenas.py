"""Arenas: slots in a peer's memory and in pinned host memory, updated in place."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.memory import arenas
from tests.memory import parts

KINDS = {"device": arenas.DeviceArena, "host": arenas.HostArena}


def _arena(kind: str, devices: tuple[int, ...]) -> arenas.DeviceArena | arenas.HostArena:
    return KINDS[kind](5, 4, parts.PAGE_SHAPE, jnp.float32, sharding=parts.on(*devices))


@pytest.mark.parametrize("devices", [(1,), (2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_slots_keep_pages_in_place(kind: str, devices: tuple[int, ...]) -> None:
    arena = _arena(kind, devices)
    assert (arena.slots, arena.scratch, list(arena.indices)) == (4, 4, [0, 1, 2, 3])
    addresses = arena.addresses
    values = parts.pages(4)
    arena.write([3, 1, 2, 0], values)
    arena.scatter([1, 3, 2], arena.gather([3, 1, 2]))  # 3 pages: one row of padding to scratch
    np.testing.assert_array_equal(arena.snapshot([1, 3, 2, 0]), values)
    assert arena.addresses == addresses


def test_host_slots_lie_in_pinned_memory() -> None:
    arena = _arena("host", (0, 1))
    assert arena.sharding.memory_kind == "pinned_host"
    assert arena.staging_sharding.memory_kind == "device"
    assert arena.gather([0]).sharding.memory_kind == "device"


def test_a_device_arena_is_not_in_host_memory() -> None:
    pinned = parts.on(0).with_memory_kind("pinned_host")
    with pytest.raises(errors.ConfigError, match="use HostArena"):
        arenas.DeviceArena(5, 4, parts.PAGE_SHAPE, jnp.float32, sharding=pinned)


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_arena_is_unusable(kind: str) -> None:
    arena = _arena(kind, (0,))
    arena.close()
    for use in (lambda: arena.snapshot([0]), lambda: arena.gather([0]), arena.rebuild):
        with pytest.raises(errors.InternalError, match=f"{kind} arena 5 was closed"):
            use()
