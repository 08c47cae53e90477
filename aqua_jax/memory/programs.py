"""The compiled programs that read and write pages of an array `[pages, *page_shape]`.

Knows: jax, memory kinds, shardings. Does not know: pools, arenas, who moves what.

Letters: `n` pages of a batch, a power of two. Staged pages `[n, *page_shape]`
lie in device memory and are sharded like the array.

An array in host memory is read and written page by page with
dynamic-slice and dynamic-update-slice, the pattern of activation offload: XLA
turns each into a copy between host and device, in place, and never computes on
host memory. Scatter on host memory fails on GPU (openxla/xla #34565), and
gather mixes memory spaces, which jax refuses. An array in device memory takes
one gather or scatter for the whole batch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_HOST_KINDS = ("pinned_host", "unpinned_host")


def in_host_memory(sharding: jax.sharding.Sharding) -> bool:
    """True when arrays of this sharding lie in host memory."""
    return sharding.memory_kind in _HOST_KINDS


def staging_sharding(sharding: jax.sharding.Sharding) -> jax.sharding.Sharding:
    """Where a batch of pages of such an array is staged: the same shards, in device memory."""
    return sharding.with_memory_kind("device")


def replicated_sharding(sharding: jax.sharding.Sharding) -> jax.sharding.Sharding:
    """Whole on every device of `sharding`, in device memory: for page ids and tokens."""
    if isinstance(sharding, jax.sharding.NamedSharding):
        return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return staging_sharding(sharding)


@functools.cache
def gather(sharding: jax.sharding.Sharding) -> Callable[..., jax.Array]:
    """`(array, ids int32[n]) -> staged [n, *page_shape]`. Only reads."""
    staging = staging_sharding(sharding)

    def gather_pages(array: jax.Array, ids: jax.Array) -> jax.Array:
        return array.at[ids].get(mode="promise_in_bounds")

    def gather_host_pages(array: jax.Array, ids: jax.Array) -> jax.Array:
        def fetch(k: jax.Array, staged: jax.Array) -> jax.Array:
            page = jax.device_put(lax.dynamic_slice_in_dim(array, ids[k], 1), staging)
            return lax.dynamic_update_slice_in_dim(staged, page, k, 0)

        staged = jnp.zeros((ids.shape[0], *array.shape[1:]), array.dtype)
        return lax.fori_loop(0, ids.shape[0], fetch, staged)

    body = gather_host_pages if in_host_memory(sharding) else gather_pages
    return jax.jit(body, out_shardings=staging)


@functools.cache
def scatter(sharding: jax.sharding.Sharding) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """`(array, ids int32[n], staged) -> (array, token int32[1])`. Donates the array.

    The token is ready when the program has completed: XLA marks all results of
    one execution ready together. Ids may repeat (the scratch page, as padding);
    then any one of the writes wins.
    """

    def scatter_pages(array: jax.Array, ids: jax.Array, staged: jax.Array) -> Any:
        return array.at[ids].set(staged, mode="promise_in_bounds"), ids[:1]

    def scatter_host_pages(array: jax.Array, ids: jax.Array, staged: jax.Array) -> Any:
        def store(k: jax.Array, array: jax.Array) -> jax.Array:
            page = jax.device_put(lax.dynamic_slice_in_dim(staged, k, 1), sharding)
            return lax.dynamic_update_slice_in_dim(array, page, ids[k], 0)

        return lax.fori_loop(0, ids.shape[0], store, array), ids[:1]

    body = scatter_host_pages if in_host_memory(sharding) else scatter_pages
    out_shardings = (sharding, replicated_sharding(sharding))
    return jax.jit(body, donate_argnums=0, out_shardings=out_shardings)


@functools.cache
def zeros(
    shape: tuple[int, ...], dtype: np.dtype, sharding: jax.sharding.Sharding
) -> Callable[[], jax.Array]:
    """`() -> zeros`, made on the devices of `sharding`."""
    return jax.jit(functools.partial(jnp.zeros, shape, dtype), out_shardings=sharding)


@functools.cache
def settle(sharding: jax.sharding.Sharding) -> Callable[[jax.Array], jax.Array]:
    """`zeros -> zeros`: writes page 0 once, in place where the array allows it.

    What comes out lies in memory that XLA owns and will update in place.
    """

    def settle_page(array: jax.Array) -> jax.Array:
        page = jax.device_put(jnp.zeros((1, *array.shape[1:]), array.dtype), sharding)
        return lax.dynamic_update_slice_in_dim(array, page, 0, 0)

    return jax.jit(settle_page, donate_argnums=0, out_shardings=sharding)


@functools.cache
def checksum(sharding: jax.sharding.Sharding) -> Callable[[jax.Array], jax.Array]:
    """`staged [n, *page_shape] -> uint32[n]`, the same for any sharding of the same bytes.

    Every word is multiplied by an odd factor of its position and summed modulo
    2**32: a single changed word always shows, exchanged words almost surely.
    """

    def checksum_pages(staged: jax.Array) -> jax.Array:
        word = jnp.dtype(f"uint{8 * min(staged.dtype.itemsize, 4)}")
        words = lax.bitcast_convert_type(staged, word).astype(jnp.uint32)
        page_words = (1, *words.shape[1:])
        position = sum(
            lax.broadcasted_iota(jnp.uint32, page_words, axis) * np.uint32(stride)
            for axis, stride in _strides(page_words)
        )
        factor = (position * np.uint32(0x9E3779B1)) | np.uint32(1)
        return jnp.sum(words * factor, axis=tuple(range(1, words.ndim)), dtype=jnp.uint32)

    return jax.jit(checksum_pages, out_shardings=replicated_sharding(sharding))


def checksum_on_host(pages: np.ndarray) -> np.ndarray:
    """`checksum` of `[n, *page_shape]` in numpy: `uint32[n]`, equal for equal bytes."""
    word = np.dtype(f"uint{8 * min(pages.dtype.itemsize, 4)}")
    rows = np.ascontiguousarray(pages).reshape(len(pages), math.prod(pages.shape[1:]))
    words = rows.view(word).astype(np.uint32)
    position = np.arange(words.shape[1], dtype=np.uint32)
    factor = (position * np.uint32(0x9E3779B1)) | np.uint32(1)
    return (words * factor).sum(axis=1, dtype=np.uint32)


def _strides(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """(axis, elements between neighbours) for every axis but the first."""
    return [(axis, int(np.prod(shape[axis + 1 :]))) for axis in range(1, len(shape))]
