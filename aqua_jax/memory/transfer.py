"""A staged batch of pages from one sharding to another, without ever waiting for it.

Knows: shards and their index ranges. Does not know: pages, stores, order.

`jax.device_put` does not wait between equal layouts (device to device, mesh to
mesh of the same size). From a mesh to a single device it does: it assembles
the array on the host (50 ms of waiting behind a 50 ms program, measured), so
there every shard is sent by itself and joined on the device that needs it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from aqua_jax.control import errors


def check(source: jax.sharding.Sharding, target: jax.sharding.Sharding) -> None:
    """Raises ConfigError for a pair of shardings that `send` does not serve."""
    _layout(source, target)


def send(staged: jax.Array, target: jax.sharding.Sharding) -> jax.Array:
    """`staged` on the devices of `target`, or itself where it is there. Enqueues and returns.

    Served: equal layouts on any devices, and a mesh and a single device.
    """
    if staged.sharding == target:
        return staged
    layout = _layout(staged.sharding, target)
    if layout == "equal":
        return jax.device_put(staged, target)
    if layout == "join":
        return _join_shards(staged, target)
    return _split_shards(staged, target)


@functools.cache
def _layout(source: jax.sharding.Sharding, target: jax.sharding.Sharding) -> str:
    sizes = len(source.device_set), len(target.device_set)
    if sizes == (1, 1) or (sizes[0] == sizes[1] and _spec(source) == _spec(target)):
        return "equal"
    if sizes[1] == 1:
        return "join"
    if sizes[0] == 1:
        return "split"
    raise errors.ConfigError(
        f"cannot send pages from {source} to {target}: give the arena the pool's mesh shape and "
        "partition on other devices, or a single device"
    )


def _spec(sharding: jax.sharding.Sharding) -> tuple[object, ...]:
    """The mesh's shape and the partition, trailing Nones dropped: equal for equal layouts."""
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return ()
    axes = list(sharding.spec)
    while axes and axes[-1] is None:
        axes.pop()
    return (*sharding.mesh.shape.items(), *axes)


def _join_shards(staged: jax.Array, target: jax.sharding.Sharding) -> jax.Array:
    ranges = _ranges(staged.sharding, staged.shape)
    # Replicas hold the same range: the first of each is sent.
    shards = staged.addressable_shards
    parts = [next(s.data for s in shards if s.index == index) for index in ranges]
    moved = jax.device_put(parts, target)
    return _joiner(staged.sharding, target, staged.shape)(*moved)


def _split_shards(staged: jax.Array, target: jax.sharding.Sharding) -> jax.Array:
    parts = _splitter(staged.sharding, target, staged.shape)(staged)
    ranges = _ranges(target, staged.shape)
    moved = [
        jax.device_put(parts[ranges.index(index)], device)
        for device, index in target.devices_indices_map(staged.shape).items()
    ]
    return jax.make_array_from_single_device_arrays(staged.shape, target, moved)


@functools.cache
def _joiner(
    source: jax.sharding.Sharding, target: jax.sharding.Sharding, shape: tuple[int, ...]
) -> Callable[..., jax.Array]:
    ranges = _ranges(source, shape)

    def join_shards(*parts: jax.Array) -> jax.Array:
        whole = jnp.zeros(shape, parts[0].dtype)
        for index, part in zip(ranges, parts, strict=True):
            whole = lax.dynamic_update_slice(whole, part, [s.start or 0 for s in index])
        return whole

    return jax.jit(join_shards, out_shardings=target)


@functools.cache
def _splitter(
    source: jax.sharding.Sharding, target: jax.sharding.Sharding, shape: tuple[int, ...]
) -> Callable[[jax.Array], tuple[jax.Array, ...]]:
    ranges = _ranges(target, shape)

    def split_shards(whole: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(whole[index] for index in ranges)

    return jax.jit(split_shards, out_shardings=source)


def _ranges(sharding: jax.sharding.Sharding, shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """The distinct index ranges of the shards, in the order of the devices."""
    ranges: list[tuple[slice, ...]] = []
    for index in sharding.devices_indices_map(shape).values():
        if index not in ranges:  # slices are hashable only from Python 3.12 on
            ranges.append(index)
    return ranges
