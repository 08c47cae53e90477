"""Copies between the same spaces become one; nothing of them is lost."""

from __future__ import annotations

import pytest

from aqua_jax.control import copying, errors, pages, types


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


def test_while_one_is_in_flight_its_pages_are_read_and_written() -> None:
    pool, slots = pages.PagePool(0, 8), pages.PagePool(1, 8)
    flying = copying.InFlight([pool, slots])
    pool.acquire(1, 8)
    slots.acquire(1, 8)
    one = copy("out", 0, 1, 3, 5)
    flying.begin(one, 7)
    assert (len(flying), 7 in flying) == (1, True)
    assert [page for page in range(8) if pool.is_copying(page)] == [3, 5]
    assert [slot for slot in range(8) if slots.is_copying(slot)] == [3, 5]
    assert flying.end(7) is one
    assert (len(flying), 7 in flying) == (0, False)
    assert not any(each.is_copying(page) for each in (pool, slots) for page in range(8))


def test_a_space_that_nobody_has_is_named() -> None:
    with pytest.raises(errors.InternalError, match="no pool has space 1"):
        copying.InFlight([pages.PagePool(0, 8)]).begin(copy("out", 0, 1, 3), 7)
