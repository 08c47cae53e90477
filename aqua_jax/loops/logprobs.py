"""Log probabilities of chosen tokens and of the likeliest, as they leave the device.

Knows: logits, one row of int32 words a token. Does not know: who asked for them, programs.

They are of the model's own distribution, the log softmax of its raw logits,
whatever the request changed before it chose.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aqua_jax.loops import prompt

_TOP = prompt.LOGPROBS_MAX
WORDS = 1 + 2 * _TOP  # of one token: its log probability, the likeliest ids, theirs


def score(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """`[rows, vocab]` float32 logits and `[rows]` tokens -> int32 `[rows, WORDS]`."""
    best = jnp.max(logits, axis=-1, keepdims=True)
    mass = jnp.log(jnp.sum(jnp.exp(logits - best), axis=-1, keepdims=True))
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=1)
    # The lowest id of equals comes first, as in greedy choice.
    tops, ids = lax.top_k(logits, min(_TOP, logits.shape[1]))
    spare = ((0, 0), (0, _TOP - ids.shape[1]))
    # The distance first: it is exact where the logits are close, however large they are.
    chosen, tops = _bits(chosen - best - mass), _bits(tops - best - mass)
    ids = jnp.pad(ids.astype(jnp.int32), spare)
    return jnp.concatenate([chosen, ids, jnp.pad(tops, spare)], axis=1)


def read(words: np.ndarray, token: int, top: int) -> prompt.ScoredToken:
    """The token with what `score` made of it, `[WORDS]`: `top` of the likeliest, best first."""
    ids = words[1 : 1 + top].tolist()
    floats = words.view(np.float32)
    values = floats[1 + _TOP : 1 + _TOP + top].tolist()
    return prompt.ScoredToken(token, float(floats[0]), tuple(zip(ids, values, strict=True)))


def _bits(values: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(values, jnp.int32)
