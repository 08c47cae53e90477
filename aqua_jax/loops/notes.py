"""What a lane keeps about single tokens: which it has seen, how often, which are biased.

Knows: token ids, arrays over the vocabulary, how a session's are written when it joins a lane.
Does not know: what penalties and biases do to logits (`shaping.py`).

All of it follows from the session's token ids and its request, so nothing of
it travels with a session: it is noted anew in the lane that it joins, by a
small program that takes a chunk of tokens at a time. Lanes of sessions without
penalties and biases are never written nor read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aqua_jax.control import types
from aqua_jax.loops import packing, prompt

CHUNK_TOKENS = 1024  # of one call: some ten kilobytes of operands
IN_PROMPT = 1 << 30  # the bit of `seen` that is set for tokens of the prompt


class Notes(NamedTuple):
    """One struct of arrays for all lanes. Donated to every program."""

    seen: jax.Array  # [lanes, vocab] int32, times in the output, and IN_PROMPT
    bias_ids: jax.Array  # [lanes, BIASES_MAX] int32; a lane knows how many are its own
    bias_values: jax.Array  # [lanes, BIASES_MAX] float32


def empty(lanes: int, vocab: int) -> Notes:
    """Notes of nobody."""
    return Notes(
        seen=jnp.zeros((lanes, vocab), jnp.int32),
        bias_ids=jnp.zeros((lanes, prompt.BIASES_MAX), jnp.int32),
        bias_values=jnp.zeros((lanes, prompt.BIASES_MAX), jnp.float32),
    )


def shapes(lanes: int, vocab: int) -> Notes:
    """Notes whose leaves are ShapeDtypeStructs."""
    return jax.eval_shape(lambda: empty(lanes, vocab))


def counts(seen: jax.Array) -> jax.Array:
    """How often each token is in the output: int32 of the same shape."""
    return seen & (IN_PROMPT - 1)


def count(noted: Notes, mask: jax.Array, tokens: jax.Array) -> Notes:
    """Lanes in `mask` have emitted `tokens`; both `[lanes]`. Costs nothing while there are none."""
    lanes, vocab = noted.seen.shape
    columns = jnp.where(mask, tokens, vocab)  # what is added there is dropped

    def add(_: jax.Array, seen: jax.Array) -> jax.Array:
        return seen.at[jnp.arange(lanes), columns].add(1, mode="drop")

    # A loop of one turn or none: unlike those of a branch, its operands are updated in place.
    turns = jnp.any(mask).astype(jnp.int32)
    return noted._replace(seen=lax.fori_loop(0, turns, add, noted.seen))


def operands() -> packing.Packing:
    """One call of `note`: tokens of a lane. first: what was noted of others is dropped."""
    return packing.Packing(
        {
            "lane": packing.int32(),
            "first": packing.int32(),
            "ids": packing.int32(CHUNK_TOKENS),  # each once; those past the vocabulary are none
            "seen": packing.int32(CHUNK_TOKENS),
            "bias_ids": packing.int32(prompt.BIASES_MAX),
            "bias_values": jax.ShapeDtypeStruct((prompt.BIASES_MAX,), np.float32),
        }
    )


def note(noted: Notes, packed: jax.Array) -> Notes:
    """The program: writes a chunk of a session's tokens, and its biases, into its lane."""
    given = operands().unpack(packed)
    lane = given["lane"]
    seen = lax.dynamic_index_in_dim(noted.seen, lane)
    seen = jnp.where(given["first"] != 0, 0, seen)
    seen = seen.at[0, given["ids"]].set(given["seen"], mode="drop")

    def write(array: jax.Array, row: jax.Array) -> jax.Array:
        return lax.dynamic_update_index_in_dim(array, row, lane, axis=0)

    return Notes(
        seen=write(noted.seen, seen),
        bias_ids=write(noted.bias_ids, given["bias_ids"][None]),
        bias_values=write(noted.bias_values, given["bias_values"][None]),
    )


def pack(lane: int, session: types.Session, *, vocab: int) -> Iterator[np.ndarray]:
    """Operands of as many calls as the session's known tokens need: none if nothing is to note."""
    payload: prompt.TextPayload = session.request.payload
    if not payload.penalised and not payload.logit_bias:
        return
    ids, seen = _seen(session) if payload.penalised else (np.zeros(0, np.int32),) * 2
    biases = len(payload.logit_bias)
    for first in range(0, max(ids.size, 1), CHUNK_TOKENS):
        chunk = slice(first, first + CHUNK_TOKENS)
        held = ids[chunk].size
        vector, views = operands().host()
        views["lane"][...] = lane
        views["first"][...] = first == 0
        views["ids"][:] = vocab
        views["ids"][:held] = ids[chunk]
        views["seen"][:held] = seen[chunk]
        views["bias_ids"][:biases] = [token for token, _ in payload.logit_bias]
        views["bias_values"][:biases] = [value for _, value in payload.logit_bias]
        yield vector


def pack_nothing(*, vocab: int) -> np.ndarray:
    """Operands of a call that notes of lane 0 that it has seen nothing."""
    vector, views = operands().host()
    views["first"][...] = 1
    views["ids"][:] = vocab
    return vector


def _seen(session: types.Session) -> tuple[np.ndarray, np.ndarray]:
    """The session's known tokens, each once, and what `Notes.seen` holds of them."""
    split = session.request.prompt_units
    known = prompt.unit_ids(session, 0, session.known)
    ids, where, times = np.unique(known, return_inverse=True, return_counts=True)
    in_prompt = np.bincount(where[:split], minlength=ids.size)
    return ids, np.where(in_prompt > 0, IN_PROMPT, 0) + times - in_prompt
