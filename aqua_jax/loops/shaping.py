"""What a request changes about logits, greedy or not: bias, penalties, stop ids held back.

Knows: logits and per-row parameters, which are data, so nothing recompiles.
Does not know: sessions, lanes, how a token is chosen of what comes out.

A row that asks for none of it keeps its logits to the bit, whatever its neighbours ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from aqua_jax.loops import notes


class Shaping(NamedTuple):
    """What each row asks for. Ones, zeros and no stop ids change nothing."""

    repetitions: jax.Array  # [rows] float32, 1: none
    presences: jax.Array  # [rows] float32
    frequencies: jax.Array  # [rows] float32
    biases: jax.Array  # [rows] int32, how many of its noted biases are its own
    stops_from: jax.Array  # [rows] int32, the first position where a stop id may stand
    stop_ids: jax.Array  # [rows, STOP_IDS_MAX] int32, padded with -1

    @property
    def penalised(self) -> jax.Array:
        """`[rows]` bool: whether a penalty changes anything."""
        return (self.repetitions != 1) | (self.presences != 0) | (self.frequencies != 0)

    def wanted(self, positions: jax.Array) -> jax.Array:
        """`[rows]` bool: whether anything changes for the token at `positions`."""
        return self.penalised | (self.biases > 0) | (positions < self.stops_from)


def shape(
    logits: jax.Array,
    positions: jax.Array,
    shaping: Shaping,
    wanted: jax.Array,
    noted: Callable[[], notes.Notes],
) -> jax.Array:
    """`[rows, vocab]` float32 logits as the rows in `wanted` `[rows]` ask for; others as they were.

    positions: the position that each token will have. noted: what is known of the
    rows; called only where it is needed, since it is as large as the logits.
    """
    biased = wanted & (shaping.biases > 0)
    penalised = wanted & shaping.penalised
    held = wanted & (positions < shaping.stops_from)
    logits = _where_any(biased, lambda: _bias(logits, shaping, noted()), logits)
    logits = _where_any(penalised, lambda: _penalise(logits, shaping, noted()), logits)
    return _where_any(held, lambda: _hold(logits, shaping), logits)


def _where_any(rows: jax.Array, change: Callable[[], jax.Array], logits: jax.Array) -> jax.Array:
    """Changed logits in `rows`; the change is not computed where there are none."""
    return lax.cond(
        jnp.any(rows), lambda: jnp.where(rows[:, None], change(), logits), lambda: logits
    )


def _bias(logits: jax.Array, shaping: Shaping, noted: notes.Notes) -> jax.Array:
    own = jnp.arange(noted.bias_ids.shape[1])[None] < shaping.biases[:, None]
    columns = jnp.where(own, noted.bias_ids, logits.shape[1])
    return logits.at[_rows(logits), columns].add(noted.bias_values, mode="drop")


def _penalise(logits: jax.Array, shaping: Shaping, noted: notes.Notes) -> jax.Array:
    """The repetition penalty of CTRL (Keskar et al. 2019, section 4.1), then those of OpenAI."""
    counts = notes.counts(noted.seen)
    penalty = shaping.repetitions[:, None]
    repeated = jnp.where(logits > 0, logits / penalty, logits * penalty)
    logits = jnp.where(noted.seen != 0, repeated, logits)
    logits -= shaping.frequencies[:, None] * counts.astype(jnp.float32)
    return logits - shaping.presences[:, None] * (counts > 0).astype(jnp.float32)


def _hold(logits: jax.Array, shaping: Shaping) -> jax.Array:
    columns = jnp.where(shaping.stop_ids >= 0, shaping.stop_ids, logits.shape[1])
    return logits.at[_rows(logits), columns].set(-jnp.inf, mode="drop")


def _rows(logits: jax.Array) -> jax.Array:
    """Beside columns `[rows, entries]`. A column that there is not drops its entry."""
    return jnp.arange(logits.shape[0])[:, None]
