"""Pages kept as one array a layer and copied layer after layer: how KV caches are mostly moved.

Knows: jax arrays. Does not know: movers, plans, tickets. It stands in
benchmarks for caches of the form `[layers][pages, ...]`: a page is as many
pieces as there are layers, and every layer is gathered, sent and scattered on
its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


class LayerCaches:
    """Pages of a device `[layers][pages, *layer_shape]` and as many in its host memory."""

    def __init__(
        self,
        layers: int,
        pages: int,
        layer_shape: tuple[int, ...],
        *,
        dtype: jax.typing.DTypeLike,
        sharding: jax.sharding.Sharding,
    ) -> None:
        self._device = sharding
        self._host = sharding.with_memory_kind("pinned_host")
        shape = (pages, *layer_shape)
        self.layers = [jax.device_put(jnp.zeros(shape, dtype), sharding) for _ in range(layers)]
        self._away: dict[tuple[int, ...], list[jax.Array]] = {}

    def page_out(self, pages: Sequence[int]) -> None:
        """Sends the pages to host memory, layer after layer; waits."""
        ids = np.asarray(pages, np.int32)
        sent = [jax.device_put(_gather(layer, ids), self._host) for layer in self.layers]
        self._away[tuple(pages)] = jax.block_until_ready(sent)

    def page_in(self, pages: Sequence[int]) -> None:
        """Brings back what the same `page_out` sent, layer after layer; waits."""
        ids = np.asarray(pages, np.int32)
        away = self._away[tuple(pages)]
        for number, sent in enumerate(away):
            back = jax.device_put(sent, self._device)
            self.layers[number] = _scatter(self.layers[number], ids, back)
        jax.block_until_ready(self.layers)


@jax.jit
def _gather(layer: jax.Array, ids: jax.Array) -> jax.Array:
    return layer.at[ids].get(mode="promise_in_bounds")


@functools.partial(jax.jit, donate_argnums=0)
def _scatter(layer: jax.Array, ids: jax.Array, pages: jax.Array) -> jax.Array:
    return layer.at[ids].set(pages, mode="promise_in_bounds")
