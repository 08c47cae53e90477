"""Text requests: what is refused, with which words, and the ids of a session's units."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from aqua_jax.control import errors, types
from aqua_jax.loops import prompt

GOOD = {"prompt_ids": [1, 2, 3], "max_tokens": 5}


def check(request: types.Request) -> None:
    prompt.check(request, vocab=100, units_max=64)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt_ids": np.asarray([0, 99], np.int64)},
        {"prompt_ids": range(60), "max_tokens": 4},
        {
            "temperature": 0.7,
            "top_k": 50,
            "top_p": 1.0,
            "min_p": np.float32(0.05),
            "seed": 2**32 - 1,
            "stop_ids": range(16),
        },
        {
            "repetition_penalty": 1.1,
            "presence_penalty": -2,
            "frequency_penalty": 2.0,
            "logit_bias": {token: token - 50 for token in range(100)},
            "logprobs": 20,
            "min_tokens": 5,
        },
        {"logprobs": 0, "min_tokens": np.int64(1), "logit_bias": [(0, 100.0), (99, -100.0)]},
    ],
)
def test_accepted(options):
    check(prompt.text_request(**{**GOOD, **options}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_ids": []}, "the prompt is empty"),
        ({"prompt_ids": [1, 100]}, "prompt_ids holds 100: token ids of this model are 0 to 99"),
        ({"prompt_ids": [-1]}, "prompt_ids holds -1"),
        ({"prompt_ids": [1.5]}, "expected a flat sequence of integers"),
        ({"prompt_ids": [[1, 2]]}, "expected a flat sequence of integers"),
        ({"max_tokens": 0}, "max_tokens is 0: ask for at least 1"),
        ({"max_tokens": 62}, "make 65, over the limit of 64"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0: expected over 0 and at most 1"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"seed": 1.5}, "seed is 1.5: expected an integer, 0 to 4294967295"),
        ({"temperature": 1e31}, "temperature is 1e.31: expected 0 .greedy. or a positive number"),
        ({"temperature": "hot"}, "temperature is hot"),
        ({"temperature": True}, "temperature is True"),
        ({"min_p": -0.1}, "min_p is -0.1: expected 0 to 1"),
        ({"min_p": 1.1}, "min_p is 1.1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0: expected 0.01 to 100"),
        ({"repetition_penalty": math.nan}, "repetition_penalty is nan"),
        ({"presence_penalty": 2.1}, "presence_penalty is 2.1: expected -2 to 2"),
        ({"frequency_penalty": math.inf}, "frequency_penalty is inf: expected -2 to 2"),
        ({"logit_bias": {100: 1.0}}, "logit_bias holds 100: token ids"),
        ({"logit_bias": {"5": 1.0}}, "logit_bias is <U1.1.: expected a flat sequence of integers"),
        ({"logit_bias": {7: 101}}, "logit_bias of token 7 is 101: expected -100 to 100"),
        ({"logit_bias": {7: math.nan}}, "logit_bias of token 7 is nan"),
        ({"logit_bias": [(7, 1.0), (7, 2.0)]}, "logit_bias names token 7 2 times"),
        ({"logit_bias": [(7, 1.0)] * 301}, "301 entries of logit_bias: at most 300"),
        ({"logprobs": 21}, "logprobs is 21: expected an integer, 0 to 20"),
        ({"logprobs": -1}, "logprobs is -1"),
        ({"logprobs": True}, "logprobs is True"),
        ({"min_tokens": 6}, r"min_tokens \(at most max_tokens\) is 6: expected an integer, 0 to 5"),
        ({"min_tokens": -1}, "is -1: expected an integer, 0 to 5"),
        ({"stop_ids": range(17)}, "17 stop_ids: at most 16"),
        ({"stop_ids": [100]}, "stop_ids holds 100"),
        ({"eos_ids": [100]}, "stop_ids holds 100"),
        ({"top_kk": 3}, r"unknown option 'top_kk' \(did you mean 'top_k'\?\)"),
    ],
)
def test_refused(options, message):
    with pytest.raises(errors.RequestError, match=message):
        check(prompt.text_request(**{**GOOD, **options}))


def test_stop_ids_that_leave_no_token_to_come_first_are_refused():
    request = prompt.text_request([1, 2], max_tokens=5, min_tokens=1, stop_ids=range(4))
    with pytest.raises(errors.RequestError, match="stop_ids hold all 4 tokens"):
        prompt.check(request, vocab=4, units_max=64)


def test_a_small_vocabulary_has_fewer_likeliest_tokens():
    request = prompt.text_request([1, 2], max_tokens=5, logprobs=5)
    with pytest.raises(errors.RequestError, match="logprobs is 5: expected an integer, 0 to 4"):
        prompt.check(request, vocab=4, units_max=64)


def test_eos_ids_stop_unless_they_are_ignored():
    options = {**GOOD, "eos_ids": [8, 9], "stop_ids": [7, 9]}
    assert prompt.text_request(**options).payload.stop_ids == (7, 9, 8)
    assert prompt.text_request(**options, ignore_eos=True).payload.stop_ids == (7, 9)


def test_samples_differ_in_seed_and_number_alone():
    request = prompt.text_request(**GOOD, temperature=1.0, seed=2**32 - 2)
    request = dataclasses.replace(request, tenant="a")
    three = prompt.samples(request, 3, group="g")
    assert [each.payload.seed for each in three] == [2**32 - 2, 2**32 - 1, 0]
    assert [each.payload.sample for each in three] == [0, 1, 2]
    for each in three:
        assert each.payload.prompt_ids is request.payload.prompt_ids
        same = dataclasses.replace(each.payload, seed=2**32 - 2, sample=0, group="")
        assert dataclasses.replace(each, payload=same) == request
        assert each.payload.group == "g"
    with pytest.raises(errors.RequestError, match="n is 0: ask for at least 1 sample"):
        prompt.samples(request, 0)


def test_a_scored_token_is_its_id():
    token = prompt.ScoredToken(7, -0.5, ((7, -0.5), (3, -1.25)))
    assert (token, token.logprob, token.top[1]) == (7, -0.5, (3, -1.25))
    assert np.asarray([token, 3], np.int32).tolist() == [7, 3]


def test_a_foreign_payload_is_refused():
    with pytest.raises(errors.RequestError, match="payload of type dict"):
        check(types.Request(prompt_units=1, steps_max=1, payload={}))


def test_a_length_that_is_not_the_prompts_is_refused():
    request = dataclasses.replace(prompt.text_request(**GOOD), prompt_units=2)
    with pytest.raises(errors.RequestError, match="prompt_units is 2 but prompt_ids has 3"):
        check(request)


@pytest.mark.parametrize("ids", [(1, 2, 3), np.asarray([1, 2, 3])])
def test_unit_ids_run_over_prompt_and_output(ids):
    request = prompt.text_request(ids, max_tokens=5)
    session = types.Session(id=1, request=request, arrived_at=0.0, emitted=[4, 5, 6])
    for first in range(6):
        for count in range(7 - first):
            found = prompt.unit_ids(session, first, count)
            assert found.dtype == np.int32
            assert found.tolist() == [1, 2, 3, 4, 5, 6][first : first + count]


def keys_of(ids: list[int], *, emitted: list[int] | None = None, **fields: str) -> list[int]:
    request = dataclasses.replace(prompt.text_request(ids, max_tokens=8), **fields)
    session = types.Session(1, request, 0.0, emitted=emitted or [])
    session.page_keys += prompt.page_keys(session, 0, 1, page_tokens=4)
    session.page_keys += prompt.page_keys(session, 1, 3, page_tokens=4)
    return session.page_keys


def test_a_pages_key_depends_on_every_id_before_it_and_on_the_salt():
    ids = list(range(12))
    keys = keys_of(ids)
    assert len(set(keys)) == 3
    assert keys == keys_of(ids) == keys_of(ids[:7], emitted=ids[7:])
    changed = keys_of([9, *ids[1:]])
    assert not set(keys) & set(changed)
    assert keys_of([*ids[:11], 99])[:2] == keys[:2]
    assert not set(keys) & set(keys_of(ids, cache_salt="another"))
    assert keys_of(ids, tenant="one") == keys_of(ids, cache_salt="one")
    assert keys_of(ids, tenant="one", cache_salt="") == keys
