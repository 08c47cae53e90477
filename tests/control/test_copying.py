"""Copies between the same spaces become one; nothing of them is lost."""

from __future__ import annotations

from aqua_jax.control import copying, types


def copy(direction: str, source: int, target: int, *indices: int) -> copying.Copy:
    """One copy of one session, number `source * 10 + target`."""
    moves = [
        types.Move(types.Place(source, index), types.Place(target, index), 4) for index in indices
    ]
    part = copying.Part(source * 10 + target, 0, tuple(range(len(indices))))
    return copying.Copy(direction, "peer", tuple(moves), (part,))


def test_copies_between_the_same_spaces_become_one() -> None:
    copies = [copy("out", 0, 1, 3, 5), copy("out", 0, 2, 4), copy("out", 0, 1, 7)]
    merged = copying.merge(copies)
    assert [(one.direction, len(one.moves), len(one.parts)) for one in merged] == [
        ("out", 3, 2),
        ("out", 1, 1),
    ]
    assert copying.sources(merged[0]) == (3, 5, 7)
    assert {move for one in merged for move in one.moves} == {
        move for one in copies for move in one.moves
    }


def test_ways_and_spaces_stay_apart() -> None:
    copies = [copy("out", 0, 1, 3), copy("in", 1, 0, 3), copy("in", 2, 0, 4)]
    assert copying.merge(copies) == copies
    assert copying.merge([]) == []
