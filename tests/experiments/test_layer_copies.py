"""What is copied layer after layer comes back as it went."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from aqua_jax.experiments import layer_copies


def test_pages_come_back_to_where_they_were_and_others_stay() -> None:
    caches = layer_copies.LayerCaches(
        3, 5, (2, 4), dtype=jnp.float32, sharding=SingleDeviceSharding(jax.devices()[0])
    )
    caches.page_out([1, 3])
    full = np.arange(3 * 5 * 8, dtype=np.float32).reshape(3, 5, 2, 4)
    for number in range(3):
        caches.layers[number] = jnp.asarray(full[number])
    caches.page_in([1, 3])
    expected = full.copy()
    expected[:, [1, 3]] = 0
    assert np.array_equal(np.stack([np.asarray(layer) for layer in caches.layers]), expected)
    assert jax.devices()[0] in caches.layers[0].devices()
