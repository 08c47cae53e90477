"""From logits to tokens: what happens in which order.

Knows: the steps and who needs them. Does not know: the arithmetic of each.

    raw logits -> log probabilities, for those who ask           logprobs.py
        logit bias                                               shaping.py
        penalties: repetition, then frequency, then presence
        stop ids held back until min_tokens are out
    -> greedy: the argmax                                        sampling.py
       or temperature, min-p, top-k, top-p of what is left, draw

That is the order of vLLM. Nothing of it is computed while nobody needs it, and
no row's token depends on what others need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from aqua_jax.loops import lanes, logprobs, notes, sampling, shaping


class Chosen(NamedTuple):
    """A token a row."""

    tokens: jax.Array  # [rows] int32
    scores: jax.Array  # [rows, logprobs.WORDS] int32, 0 for rows that did not ask


def nothing(rows: int) -> Chosen:
    """Tokens of nobody."""
    return Chosen(jnp.zeros(rows, jnp.int32), jnp.zeros((rows, logprobs.WORDS), jnp.int32))


def choose(
    logits: jax.Array,
    positions: jax.Array,
    runs: jax.Array,
    state: lanes.Lanes,
    noted: Callable[[], notes.Notes],
) -> Chosen:
    """A token for each row in `runs` `[rows]` out of `[rows, vocab]` float32 logits.

    positions: the position that each token will have. state, noted: of the rows; `noted` is
    called only where it is needed. What comes out for rows not in `runs` means nothing.
    """
    shapes = runs & state.shaping.wanted(positions)
    temperatures = jnp.where(runs, state.temperatures, 0)
    scored = runs & (state.scored != 0)

    def plainly() -> Chosen:
        tokens = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return nothing(logits.shape[0])._replace(tokens=tokens)

    def fully() -> Chosen:
        shaped = shaping.shape(logits, positions, state.shaping, shapes, noted)
        how = state.sampling._replace(temperatures=temperatures)
        tokens = sampling.sample(shaped, positions, how)
        return Chosen(tokens, _score(logits, tokens, scored))

    return lax.cond(jnp.any(shapes | (temperatures > 0) | scored), fully, plainly)


def _score(logits: jax.Array, tokens: jax.Array, scored: jax.Array) -> jax.Array:
    none = nothing(logits.shape[0]).scores
    return lax.cond(
        jnp.any(scored),
        lambda: jnp.where(scored[:, None], logprobs.score(logits, tokens), none),
        lambda: none,
    )
