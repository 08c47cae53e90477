"""What a text request asks for: token ids and how to choose the next ones.

Knows: the limits of a request and how to say that one is over them.
Does not know: jax, lanes, pages.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from aqua_jax.control import errors, types

STOP_IDS_MAX = 4
_SEED_MAX = (1 << 32) - 1
_INT32_MAX = (1 << 31) - 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextPayload:
    """The runner's part of a text request.

    temperature: 0 is greedy. top_k: 0 keeps all. top_p: in (0, 1], 1 keeps all.
    seed: 32 bits; a draw depends on it and on the position only.
    stop_ids: ids that end the session; the one that did is emitted as its last.
    """

    prompt_ids: tuple[int, ...]
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop_ids: tuple[int, ...] = ()


def text_request(
    prompt_ids: Sequence[int] | np.ndarray,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: Sequence[int] = (),
) -> types.Request:
    """A request for up to `max_tokens` tokens after the prompt. Others of its fields: replace()."""
    payload = TextPayload(
        prompt_ids=tuple(prompt_ids),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        stop_ids=tuple(stop_ids),
    )
    return types.Request(prompt_units=len(prompt_ids), steps_max=max_tokens, payload=payload)


def check(request: types.Request, *, vocab: int, units_max: int) -> None:
    """Raises RequestError, naming the field, when the request can never run."""
    payload = request.payload
    if not isinstance(payload, TextPayload):
        raise errors.RequestError(
            f"a text request has a payload of type {type(payload).__name__}: expected a "
            "TextPayload; build the request with text_request()"
        )
    _check_lengths(request, payload, units_max)
    _check_ids("prompt_ids", payload.prompt_ids, vocab)
    _check_sampling(payload, vocab)


def unit_ids(session: types.Session, first: int, count: int) -> np.ndarray:
    """The int32 ids of units [first, first + count) out of the prompt and what was emitted."""
    prompt_ids = session.request.payload.prompt_ids
    split = len(prompt_ids)
    emitted = session.emitted[max(0, first - split) : max(0, first + count - split)]
    return np.asarray([*prompt_ids[first : first + count], *emitted], np.int32)


def _check_lengths(request: types.Request, payload: TextPayload, units_max: int) -> None:
    if len(payload.prompt_ids) == 0:
        raise errors.RequestError("the prompt is empty: give at least one token id")
    if len(payload.prompt_ids) != request.prompt_units:
        raise errors.RequestError(
            f"prompt_units is {request.prompt_units} but prompt_ids has {len(payload.prompt_ids)} "
            "ids: build the request with text_request()"
        )
    if request.steps_max < 1:
        raise errors.RequestError(f"max_tokens is {request.steps_max}: ask for at least 1")
    units = request.prompt_units + request.steps_max
    if units > units_max:
        raise errors.RequestError(
            f"a prompt of {request.prompt_units} tokens and max_tokens={request.steps_max} make "
            f"{units}, over the limit of {units_max}: shorten one, or raise the runner's units_max"
        )


def _check_ids(field: str, ids: Sequence[int], vocab: int) -> None:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise errors.RequestError(
            f"{field} is {array.dtype}{list(array.shape)}: expected a flat sequence of integers"
        )
    wrong = array[(array < 0) | (array >= vocab)]
    if wrong.size:
        raise errors.RequestError(
            f"{field} holds {int(wrong[0])}: token ids of this model are 0 to {vocab - 1}"
        )


def _check_sampling(payload: TextPayload, vocab: int) -> None:
    if not (math.isfinite(payload.temperature) and payload.temperature >= 0):
        raise errors.RequestError(
            f"temperature is {payload.temperature}: expected 0 (greedy) or a positive number"
        )
    if not 0 < payload.top_p <= 1:
        raise errors.RequestError(f"top_p is {payload.top_p}: expected over 0 and at most 1")
    for field, most in (("top_k", _INT32_MAX), ("seed", _SEED_MAX)):
        value = getattr(payload, field)
        if not 0 <= value <= most:
            raise errors.RequestError(f"{field} is {value}: expected 0 to {most}")
    if len(payload.stop_ids) > STOP_IDS_MAX:
        raise errors.RequestError(
            f"{len(payload.stop_ids)} stop_ids: at most {STOP_IDS_MAX}; check others on the host"
        )
    _check_ids("stop_ids", payload.stop_ids, vocab)
