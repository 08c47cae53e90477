"""What a client reads from its standing; values as JSON has them."""

from __future__ import annotations

import json

import pytest

from aqua_jax.control import lease_types, ranges


def grant(id: int, generation: int) -> lease_types.Grant:
    return lease_types.Grant(id, generation, "l0", "b0", ranges.of([(0, 2), (3, 4)]))


def test_a_grant_that_is_not_told_of_is_void_unless_it_is_younger_than_the_news() -> None:
    standing = lease_types.Standing(5, (grant(1, 2),), (), None)
    known = [grant(1, 2), grant(2, 4), grant(3, 6)]
    assert standing.void(known) == [grant(2, 4)]


def test_an_id_that_was_given_again_does_not_hide_that_the_former_grant_is_void() -> None:
    standing = lease_types.Standing(5, (grant(1, 5),), (), None)
    assert standing.void([grant(1, 2)]) == [grant(1, 2)]


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("grant", (grant(1, 2), grant(2, 3))),
        ("grant", ()),
        ("reclaim", lease_types.Reclaimed(7, ranges.of([(1, 2)]), 3)),
        ("offer", ranges.of([(0, 4)])),
        ("leave", ()),
        ("release", None),
    ],
)
def test_answers_survive_json(call: str, answer: object) -> None:
    text = json.dumps(lease_types.plain(answer))
    again = lease_types.answer_of(call, json.loads(text))
    assert again == answer
    assert type(again) is type(answer)


def test_units_are_counted() -> None:
    assert grant(1, 2).units_count == 3
