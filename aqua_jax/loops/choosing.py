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


class Rows(NamedTuple):
    """Rows for which a token is chosen."""

    positions: jax.Array  # [rows] int32, those that the tokens will have
    state: lanes.Lanes
    noted: Callable[[], notes.Notes]  # called only where it is needed, since it is large


class Chosen(NamedTuple):
    """A token a row."""

    tokens: jax.Array  # [rows] int32
    scores: jax.Array  # [rows, logprobs.WORDS] int32, 0 for rows that did not ask


def nothing(rows: int) -> Chosen:
    """Tokens of nobody."""
    return Chosen(jnp.zeros(rows, jnp.int32), jnp.zeros((rows, logprobs.WORDS), jnp.int32))


def asks(positions: jax.Array, runs: jax.Array, state: lanes.Lanes) -> jax.Array:
    """`[rows]` bool: whether a row in `runs` `[rows]` needs more than the argmax."""
    more = state.shaping.wanted(positions) | (state.temperatures > 0) | (state.scored != 0)
    return runs & more


def choose(logits: jax.Array, asking: jax.Array, rows: Callable[[], Rows]) -> Chosen:
    """A token for each row out of `[rows, vocab]` float32 logits.

    asking: what `asks` says of them. rows: called only where one asks.
    """

    def plainly() -> Chosen:
        return nothing(logits.shape[0])._replace(tokens=sampling.likeliest(logits))

    return lax.cond(jnp.any(asking), lambda: _choose(logits, asking, rows()), plainly)


def _choose(logits: jax.Array, asking: jax.Array, rows: Rows) -> Chosen:
    # A row that asks for nothing, or does not run, must not make the others search the vocabulary.
    state = rows.state
    wanted = asking & state.shaping.wanted(rows.positions)
    shaped = shaping.shape(logits, rows.positions, state.shaping, wanted, rows.noted)
    how = state.sampling._replace(temperatures=jnp.where(asking, state.temperatures, 0))
    tokens = sampling.sample(shaped, rows.positions, how)
    return Chosen(tokens, _score(logits, tokens, asking & (state.scored != 0)))


def _score(logits: jax.Array, tokens: jax.Array, scored: jax.Array) -> jax.Array:
    none = nothing(logits.shape[0]).scores
    return lax.cond(
        jnp.any(scored),
        lambda: jnp.where(scored[:, None], logprobs.score(logits, tokens), none),
        lambda: none,
    )
