"""Choosing the next token: greedy, temperature, top-k, top-p.

Knows: logits and per-row parameters, which are data, so nothing recompiles.
Does not know: sessions and lanes. A draw depends on its row's logits, seed and
position alone, so it comes out the same in any lane, batch and slice.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Sampling(NamedTuple):
    """How each row chooses. Temperature 0 is greedy; top_k 0 and top_p 1 leave all tokens in."""

    seeds: jax.Array  # [rows] int32, the bits of a 32-bit seed
    temperatures: jax.Array  # [rows] float32
    top_ks: jax.Array  # [rows] int32
    top_ps: jax.Array  # [rows] float32


def sample(logits: jax.Array, positions: jax.Array, sampling: Sampling) -> jax.Array:
    """`[rows, vocab]` float32 logits -> `[rows]` int32 tokens.

    positions: the position each token will have; with the seed it is the draw's random key.
    Greedy rows take the exact argmax (the lowest id of equals). The sorting is
    skipped while no row samples.
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
    """Inverts the distribution function of the kept tokens, the likeliest first.

    One random number a row, where adding Gumbel noise takes one a token.
    """
    vocab = logits.shape[-1]
    ids = jnp.broadcast_to(jnp.arange(vocab, dtype=jnp.int32)[None], logits.shape)
    descending, ids = lax.sort((-logits, ids), dimension=1, num_keys=1, is_stable=True)
    # Relative to the best, so that a tiny temperature gives 0 and -inf, never a NaN.
    distance = jnp.minimum(descending[:, :1] - descending, 0)
    safe = jnp.where(sampling.temperatures > 0, sampling.temperatures, 1)
    weights = jnp.exp(distance / safe[:, None])
    before = jnp.cumsum(weights, axis=-1) - weights
    mass = sampling.top_ps[:, None] * jnp.sum(weights, axis=-1, keepdims=True)
    first = jnp.arange(vocab)[None] == 0  # kept even if its share of the mass underflows
    limits = jnp.where(sampling.top_ks > 0, sampling.top_ks, vocab)
    # Top-p keeps the fewest tokens whose mass reaches it: those before which it is not reached.
    kept = (jnp.arange(vocab)[None] < limits[:, None]) & ((before < mass) | first)
    reached = jnp.cumsum(jnp.where(kept, weights, 0), axis=-1)
    target = uniforms(sampling.seeds, positions)[:, None] * reached[:, -1:]
    rank = jnp.sum(kept & (reached <= target), axis=-1, keepdims=True)
    last = jnp.sum(kept, axis=-1, keepdims=True) - 1
    return jnp.take_along_axis(ids, jnp.minimum(rank, last), axis=1)[:, 0]
