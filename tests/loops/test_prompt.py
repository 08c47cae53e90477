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
            "seed": 2**32 - 1,
            "stop_ids": (1, 2, 3, 4),
        },
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
        ({"stop_ids": [1, 2, 3, 4, 5]}, "5 stop_ids: at most 4"),
        ({"stop_ids": [100]}, "stop_ids holds 100"),
    ],
)
def test_refused(options, message):
    with pytest.raises(errors.RequestError, match=message):
        check(prompt.text_request(**{**GOOD, **options}))


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
