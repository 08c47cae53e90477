"""Drawing the next token: temperature, min-p, top-k, top-p; or greedy.

Knows: logits and per-row parameters, which are data, so nothing recompiles.
Does not know: sessions and lanes. A draw depends on its row's logits, seed,
position and parameters alone, so it comes out the same in any lane, batch and slice.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Sampling(NamedTuple):
    """How each row chooses. Temperature 0 is greedy; top_k 0, top_p 1, min_p 0 keep all tokens."""

    seeds: jax.Array  # [rows] int32, the bits of a 32-bit seed
    temperatures: jax.Array  # [rows] float32
    top_ks: jax.Array  # [rows] int32
    top_ps: jax.Array  # [rows] float32
    min_ps: jax.Array  # [rows] float32


def sample(logits: jax.Array, positions: jax.Array, sampling: Sampling) -> jax.Array:
    """`[rows, vocab]` float32 logits -> `[rows]` int32 tokens.

    positions: the position each token will have; with the seed it is the draw's random key.
    Greedy rows take the exact argmax (the lowest id of equals). A logit of -inf is
    never drawn. The sorting is skipped while no row that samples has a top-k or a top-p.
    """
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    samples = sampling.temperatures > 0
    return lax.cond(
        jnp.any(samples),
        lambda: jnp.where(samples, _draw(logits, positions, sampling), greedy),
        lambda: greedy,
    )


def uniforms(seeds: jax.Array, positions: jax.Array) -> jax.Array:
    """One number in [0, 1) per row, from (seed, position) only: `[rows]` float32."""

    def one(seed: jax.Array, position: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(0), lax.bitcast_convert_type(seed, jnp.uint32))
        return jax.random.uniform(jax.random.fold_in(key, position), dtype=jnp.float32)

    return jax.vmap(one)(seeds, positions)


def _draw(logits: jax.Array, positions: jax.Array, sampling: Sampling) -> jax.Array:
    """Inverts the distribution function of the kept tokens.

    One random number a row, where adding Gumbel noise takes one a token. Whether a
    row goes by id or by rank is its own affair, not its neighbours'.
    """
    numbers = uniforms(sampling.seeds, positions)
    best = jnp.max(logits, axis=-1, keepdims=True)
    by_id = _invert(_weights(logits, best, sampling), numbers)
    ranked = ((sampling.top_ks > 0) & (sampling.top_ks < logits.shape[-1])) | (sampling.top_ps < 1)
    return lax.cond(
        jnp.any(ranked & (sampling.temperatures > 0)),
        lambda: jnp.where(ranked, _draw_ranked(logits, numbers, sampling), by_id),
        lambda: by_id,
    )


def _draw_ranked(logits: jax.Array, numbers: jax.Array, sampling: Sampling) -> jax.Array:
    """Draws among the likeliest."""
    ids = jnp.broadcast_to(jnp.arange(logits.shape[-1], dtype=jnp.int32)[None], logits.shape)
    ascending, ids = lax.sort((-logits, ids), dimension=1, num_keys=1, is_stable=True)
    weights = _weights(-ascending, -ascending[:, :1], sampling)
    ranks = jnp.arange(logits.shape[-1])[None]
    top_ks = sampling.top_ks[:, None]
    weights = jnp.where((top_ks == 0) | (ranks < top_ks), weights, 0)
    # Top-p keeps the fewest tokens whose mass, out of what top-k left, reaches it: those before
    # which it is not reached. The first is kept even if its share underflows.
    top_ps = sampling.top_ps[:, None]
    before = jnp.cumsum(weights, axis=-1) - weights
    reached = before >= top_ps * jnp.sum(weights, axis=-1, keepdims=True)
    weights = jnp.where((top_ps < 1) & reached & (ranks > 0), 0, weights)
    return jnp.take_along_axis(ids, _invert(weights, numbers)[:, None], axis=1)[:, 0]


def _weights(logits: jax.Array, best: jax.Array, sampling: Sampling) -> jax.Array:
    """Probabilities relative to the best token's, 0 where min-p leaves a token out.

    So a tiny temperature gives 0 and -inf, never a NaN.
    """
    distance = jnp.minimum(logits - best, 0)
    safe = jnp.where(sampling.temperatures > 0, sampling.temperatures, 1)
    weights = jnp.exp(distance / safe[:, None])
    return jnp.where(weights >= sampling.min_ps[:, None], weights, 0)


def _invert(weights: jax.Array, numbers: jax.Array) -> jax.Array:
    """The first column of each row at which the running sum passes its number's share of all."""
    reached = jnp.cumsum(weights, axis=-1)
    passed = (weights > 0) & (reached > numbers[:, None] * reached[:, -1:])
    # Sums are rounded, so nothing may pass; then the likeliest it is.
    found = jnp.where(
        jnp.any(passed, axis=-1), jnp.argmax(passed, axis=-1), jnp.argmax(weights, axis=-1)
    )
    return found.astype(jnp.int32)
