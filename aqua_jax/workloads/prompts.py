"""Token ids for arrivals whose trace has lengths only.

Knows: a counter-based generator (splitmix64: S. Vigna, after G. Steele et al.,
OOPSLA'14). Does not know: tokenizers or models, beyond the size of a
vocabulary. Integer arithmetic only, so ids are the same on every machine.

A token is a function of (seed, block, offset in the block). Blocks named by
an arrival's `prefix_ids` depend on the id, so equal ids give equal tokens
whichever request holds them; the rest depends on the request's id.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aqua_jax.control import errors
from aqua_jax.workloads import records

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: splitmix64's increment
_MASK = (1 << 64) - 1
_SHARED, _OWN = 1, 2


def token_ids(
    arrival: records.Arrival,
    request_id: int,
    *,
    seed: int,
    vocab_size: int,
    reserved_ids: int = 0,
) -> npt.NDArray[np.int32]:
    """The prompt of a request, int32 `[prompt_tokens]`, ids in `[reserved_ids, vocab_size)`.

    reserved_ids: the first ids of the vocabulary, left out (special tokens).
    """
    if not 0 <= reserved_ids < vocab_size <= 1 << 31:
        raise errors.ConfigError(
            f"vocab_size {vocab_size} with {reserved_ids} reserved ids leaves no ids to draw: "
            "expected 0 <= reserved_ids < vocab_size <= 2**31"
        )
    total = arrival.prompt_tokens
    words = np.empty(total, np.uint64)
    start = 0
    for prefix_id in arrival.prefix_ids:
        stop = min(start + arrival.prefix_block_tokens, total)
        words[start:stop] = _random_words(_key(seed, _SHARED, prefix_id), stop - start)
        start = stop
    words[start:] = _random_words(_key(seed, _OWN, request_id), total - start)
    # The high 32 bits times the count, shifted back: an integer in [0, count).
    count = np.uint64(vocab_size - reserved_ids)
    drawn = ((words >> np.uint64(32)) * count) >> np.uint64(32)
    return drawn.astype(np.int32) + np.int32(reserved_ids)


def _key(seed: int, kind: int, index: int) -> int:
    key = 0
    for part in (seed, kind, index):
        key = _mix(key ^ _mix(part + _GOLDEN & _MASK))
    return key


def _mix(word: int) -> int:
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _MASK
    return word ^ (word >> 31)


def _random_words(key: int, count: int) -> npt.NDArray[np.uint64]:
    """Words 1 to `count` of splitmix64's sequence that starts at `key`; wraps modulo 2**64."""
    words = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(key)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
