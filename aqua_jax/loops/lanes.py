"""Lanes on the device: what each one carries from slice to slice, and how a token changes it.

Knows: stop ids, lengths, a session's options. Does not know: the model, pages, what options do.

A lane's state is set from the host when a session joins it and lives on the
device from then on, so the next slice may be dispatched before the tokens of
this one were read.

         seat()                emit(), a stop id or none remaining
    any ------> RUNNING (0) ------------------------------------> STOP (1) or LENGTH (2)
                 ^      |
                 +------+ emit()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.control import types
from aqua_jax.loops import prompt, sampling, shaping

RUNNING, STOP, LENGTH = 0, 1, 2
REASONS = ("", "stop", "length")  # by state
_NO_STOP_ID = -1
_FLOATS = ("temperatures", "top_ps", "min_ps", "repetitions", "presences", "frequencies")


class Lanes(NamedTuple):
    """One struct of arrays for all lanes. Donated to every program."""

    token: jax.Array  # [lanes] int32, the last known token, the next input
    position: jax.Array  # [lanes] int32, of `token`
    remaining: jax.Array  # [lanes] int32, tokens it may still emit
    finished: jax.Array  # [lanes] int32, RUNNING, STOP or LENGTH
    stop_ids: jax.Array  # [lanes, STOP_IDS_MAX] int32, padded with -1
    stops_from: jax.Array  # [lanes] int32, the first position where a stop id may stand
    seeds: jax.Array  # [lanes] int32, the bits of 32-bit seeds
    temperatures: jax.Array  # [lanes] float32
    top_ks: jax.Array  # [lanes] int32
    top_ps: jax.Array  # [lanes] float32
    min_ps: jax.Array  # [lanes] float32
    repetitions: jax.Array  # [lanes] float32, penalties
    presences: jax.Array  # [lanes] float32
    frequencies: jax.Array  # [lanes] float32
    biases: jax.Array  # [lanes] int32, how many it has
    scored: jax.Array  # [lanes] int32, 1: its tokens come with log probabilities

    @property
    def sampling(self) -> sampling.Sampling:
        return sampling.Sampling(
            self.seeds, self.temperatures, self.top_ks, self.top_ps, self.min_ps
        )

    @property
    def shaping(self) -> shaping.Shaping:
        return shaping.Shaping(
            self.repetitions,
            self.presences,
            self.frequencies,
            self.biases,
            self.stops_from,
            self.stop_ids,
        )


def empty(count: int) -> Lanes:
    """Lanes of nobody."""
    fields = {
        name: jnp.zeros(count, jnp.float32 if name in _FLOATS else jnp.int32)
        for name in Lanes._fields
    }
    return Lanes(**fields | {"stop_ids": jnp.zeros((count, prompt.STOP_IDS_MAX), jnp.int32)})


def shapes(count: int) -> Lanes:
    """Lanes whose leaves are ShapeDtypeStructs."""
    return jax.eval_shape(lambda: empty(count))


def seat(lanes: Lanes, joins: jax.Array, seats: Lanes) -> Lanes:
    """Lanes with `joins` `[lanes]` set take the state in `seats`, the others keep theirs."""

    def choose(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(joins, tuple(range(1, old.ndim))), new, old)

    return Lanes(*map(choose, lanes, seats))


def emit(lanes: Lanes, mask: jax.Array, tokens: jax.Array, positions: jax.Array) -> Lanes:
    """Lanes in `mask` emit `tokens`, which stand at `positions`; all `[lanes]`."""
    remaining = lanes.remaining - 1
    stops = jnp.any(tokens[:, None] == lanes.stop_ids, axis=1)
    finished = jnp.where(stops, STOP, jnp.where(remaining <= 0, LENGTH, RUNNING))
    return lanes._replace(
        token=jnp.where(mask, tokens, lanes.token),
        position=jnp.where(mask, positions, lanes.position),
        remaining=jnp.where(mask, remaining, lanes.remaining),
        finished=jnp.where(mask, finished.astype(jnp.int32), lanes.finished),
    )


def write_seat(seats: Mapping[str, np.ndarray], plan: types.LanePlan) -> None:
    """Fills lane `plan.lane` of host arrays named like the fields of `Lanes` from its session."""
    lane, session = plan.lane, plan.session
    payload: prompt.TextPayload = session.request.payload
    last = session.known - 1
    seats["token"][lane] = prompt.unit_ids(session, last, 1)[0]
    seats["position"][lane] = last
    seats["remaining"][lane] = session.request.steps_max - len(session.emitted)
    seats["finished"][lane] = RUNNING
    seats["stop_ids"][lane] = _NO_STOP_ID
    seats["stop_ids"][lane, : len(payload.stop_ids)] = payload.stop_ids
    seats["stops_from"][lane] = session.request.prompt_units + payload.min_tokens
    seats["seeds"][lane] = np.uint32(payload.seed).astype(np.int32)
    seats["temperatures"][lane] = payload.temperature
    seats["top_ks"][lane] = payload.top_k
    seats["top_ps"][lane] = payload.top_p
    seats["min_ps"][lane] = payload.min_p
    seats["repetitions"][lane] = payload.repetition_penalty
    seats["presences"][lane] = payload.presence_penalty
    seats["frequencies"][lane] = payload.frequency_penalty
    seats["biases"][lane] = len(payload.logit_bias)
    seats["scored"][lane] = payload.logprobs is not None
