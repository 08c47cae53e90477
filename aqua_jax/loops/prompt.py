"""What a text request asks for: token ids and how to choose the next ones.

Knows: the limits of a request and how to say that one is over them.
Does not know: jax, lanes, pages; stop strings, which the host looks for in the text.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, TypeGuard, Unpack

import numpy as np

from aqua_jax.control import errors, types

STOP_IDS_MAX = 16
BIASES_MAX = 300
LOGPROBS_MAX = 20
_SEED_MAX = (1 << 32) - 1
_INT32_MAX = (1 << 31) - 1

_KEY_BYTES = 16


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextPayload:
    """The runner's part of a text request. What each option does, and when: `choosing.py`.

    temperature: 0 is greedy. top_k: 0 keeps all. top_p: in (0, 1], 1 keeps all.
    min_p: in [0, 1], keeps tokens at least so likely as a share of the likeliest.
    repetition_penalty: on tokens of the prompt and the output, 1 changes nothing.
    presence_penalty, frequency_penalty: on tokens of the output, once and for each time.
    logit_bias: (token id, what is added to its logit).
    logprobs: how many of the likeliest tokens to report with each, beside the token itself;
      None: no log probabilities. Tokens are then `ScoredToken`.
    min_tokens: so many tokens come before a stop id can.
    seed: 32 bits; a draw depends on it and on the position only.
    stop_ids: ids that end the session; the one that did is emitted as its last.
    group, sample: of `samples`: whose sample this is, and its number.
    """

    prompt_ids: tuple[int, ...]
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    min_tokens: int = 0
    seed: int = 0
    stop_ids: tuple[int, ...] = ()
    group: str = ""
    sample: int = 0

    @property
    def penalised(self) -> bool:
        """Whether a penalty changes anything: tokens have to be counted then."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return penalties != (1, 0, 0)


class Options(TypedDict, total=False):
    """The fields of a `TextPayload` but the prompt, as they may be given."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float] | Iterable[tuple[int, float]]
    logprobs: int | None
    min_tokens: int
    seed: int
    stop_ids: Sequence[int]


class ScoredToken(int):
    """A token id that carries log probabilities of the model's own distribution.

    That is the log softmax of its raw logits: before bias, penalties, temperature
    and whatever else the request asked for.
    """

    logprob: float  # of this token
    top: tuple[tuple[int, float], ...]  # of the likeliest tokens: id and log probability, in order

    def __new__(cls, token: int, logprob: float, top: tuple[tuple[int, float], ...]) -> ScoredToken:
        made = super().__new__(cls, token)
        made.logprob, made.top = logprob, top
        return made


def text_request(
    prompt_ids: Sequence[int] | np.ndarray,
    *,
    max_tokens: int,
    eos_ids: Sequence[int] = (),
    ignore_eos: bool = False,
    **options: Unpack[Options],
) -> types.Request:
    """A request for up to `max_tokens` tokens after the prompt. Others of its fields: replace().

    eos_ids: the model's ends of sequence; stop ids too, unless `ignore_eos`.
    options: fields of `TextPayload`. Raises RequestError for one that there is not.
    """
    known = Options.__annotations__
    for name in options:
        if name not in known:
            raise errors.RequestError(f"unknown option {name!r}{errors.close_match(name, known)}")
    given: dict[str, Any] = dict(options)
    stop_ids = [*given.get("stop_ids", ()), *(() if ignore_eos else eos_ids)]
    given["stop_ids"] = tuple(dict.fromkeys(stop_ids))
    biases = given.get("logit_bias", ())
    given["logit_bias"] = tuple(biases.items() if isinstance(biases, Mapping) else biases)
    payload = TextPayload(prompt_ids=tuple(prompt_ids), **given)
    return types.Request(prompt_units=len(prompt_ids), steps_max=max_tokens, payload=payload)


def samples(request: types.Request, count: int, *, group: str = "") -> list[types.Request]:
    """`count` requests for samples of one: the same but for their seeds, seed + 0, 1 ...

    Each is a session of its own. They know their `group` and their number, and share their prompt.
    Raises RequestError for a count below 1.
    """
    if not isinstance(count, numbers.Integral) or count < 1:
        raise errors.RequestError(f"n is {count}: ask for at least 1 sample")

    def one(number: int) -> types.Request:
        payload: TextPayload = request.payload
        seed = (payload.seed + number) % (_SEED_MAX + 1)
        return dataclasses.replace(
            request,
            payload=dataclasses.replace(payload, seed=seed, group=group, sample=number),
        )

    return [one(number) for number in range(count)]


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
    for field, limits in _NUMBERS.items():
        _check_number(field, getattr(payload, field), limits)
    _check_int("top_k", payload.top_k, _INT32_MAX)
    _check_int("seed", payload.seed, _SEED_MAX)
    _check_stops(payload, request.steps_max, vocab)
    _check_biases(payload.logit_bias, vocab)
    if payload.logprobs is not None:
        _check_int("logprobs", payload.logprobs, min(LOGPROBS_MAX, vocab))


def page_keys(session: types.Session, first: int, end: int, *, page_tokens: int) -> list[int]:
    """Content addresses, of 128 bits, of pages [first, end), full of known units.

    BLAKE2b over the address of the page before, or the session's salt, and the page's ids as
    little-endian int32. A pool is one model's, so the model is no part of it. Nobody finds a
    second prompt of one address, so nobody can have another's pages by guessing.
    """
    if first:
        parent = session.page_keys[first - 1].to_bytes(_KEY_BYTES, "little")
    else:
        parent = hashlib.blake2b(session.salt.encode(), digest_size=_KEY_BYTES).digest()
    ids = unit_ids(session, first * page_tokens, (end - first) * page_tokens).astype("<i4")
    keys = []
    for page in ids.reshape(end - first, page_tokens):
        parent = hashlib.blake2b(parent + page.tobytes(), digest_size=_KEY_BYTES).digest()
        keys.append(int.from_bytes(parent, "little"))
    return keys


def unit_ids(session: types.Session, first: int, count: int) -> np.ndarray:
    """The int32 ids of units [first, first + count) out of the prompt and what was emitted."""
    prompt_ids = session.request.payload.prompt_ids
    split = len(prompt_ids)
    emitted = session.emitted[max(0, first - split) : max(0, first + count - split)]
    return np.asarray([*prompt_ids[first : first + count], *emitted], np.int32)


class _Limits(NamedTuple):
    least: float
    most: float
    expected: str
    above: bool = False  # `least` itself is out


_NUMBERS = {
    # float32 on the device: within these, no logit becomes infinite.
    "temperature": _Limits(0, 1e30, "0 (greedy) or a positive number up to 1e30"),
    "top_p": _Limits(0, 1, "over 0 and at most 1", above=True),
    "min_p": _Limits(0, 1, "0 to 1"),
    "repetition_penalty": _Limits(0.01, 100, "0.01 to 100, where 1 changes nothing"),
    "presence_penalty": _Limits(-2, 2, "-2 to 2"),
    "frequency_penalty": _Limits(-2, 2, "-2 to 2"),
}
_BIAS = _Limits(-100, 100, "-100 to 100")


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


def _check_number(field: str, value: object, limits: _Limits) -> None:
    number = float(value) if _is(value, numbers.Real) else math.nan
    within = limits.least <= number <= limits.most
    if not within or (limits.above and number == limits.least):
        raise errors.RequestError(f"{field} is {value}: expected {limits.expected}")


def _check_int(field: str, value: object, most: int) -> None:
    if not _is(value, numbers.Integral) or not 0 <= int(value) <= most:
        raise errors.RequestError(f"{field} is {value}: expected an integer, 0 to {most}")


def _is(value: Any, kind: type) -> TypeGuard[int]:
    """Whether it is a number of the kind; a bool is none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _check_stops(payload: TextPayload, max_tokens: int, vocab: int) -> None:
    count = len(payload.stop_ids)
    if count > STOP_IDS_MAX:
        raise errors.RequestError(
            f"{count} stop_ids: at most {STOP_IDS_MAX}; check others on the host"
        )
    _check_ids("stop_ids", payload.stop_ids, vocab)
    _check_int("min_tokens (at most max_tokens)", payload.min_tokens, max_tokens)
    if payload.min_tokens and len(set(payload.stop_ids)) == vocab:
        raise errors.RequestError(
            f"min_tokens is {payload.min_tokens} and stop_ids hold all {vocab} tokens: no token is "
            "left to come first"
        )


def _check_biases(biases: Sequence[tuple[int, float]], vocab: int) -> None:
    if len(biases) > BIASES_MAX:
        raise errors.RequestError(f"{len(biases)} entries of logit_bias: at most {BIASES_MAX}")
    ids = [token for token, _ in biases]
    _check_ids("logit_bias", ids, vocab)
    for token, times in collections.Counter(ids).items():
        if times > 1:
            raise errors.RequestError(f"logit_bias names token {token} {times} times: once each")
    for token, value in biases:
        _check_number(f"logit_bias of token {token}", value, _BIAS)
