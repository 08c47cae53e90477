"""Copies between the same spaces become one; nothing of them is lost."""

from __future__ import annotations

import pytest

from aqua_jax.control import copying, errors, pages, spare, types


def copy(direction: str, source: int, target: int, *indices: int) -> copying.Copy:
    """One copy of one session, number `source * 10 + target`."""
    moves = [
        types.Move(types.Place(source, index), types.Place(target, index), 4) for index in indices
    ]
    tier = spare.Tier("peer", pages.PagePool(target or source, 8))
    aways = tuple(spare.Away(tier, index) for index in indices)
    part = copying.Part(source * 10 + target, tuple(range(len(indices))), aways)
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
    flying = copying.InFlight(pool, spare.Slots([spare.Tier("peer", slots)]))
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
    with pytest.raises(errors.InternalError, match=r"no pool has Place\(space=1, index=3, gen"):
        copying.InFlight(pages.PagePool(0, 8), spare.Slots([])).begin(copy("out", 0, 1, 3), 7)


def test_a_place_of_a_former_grant_is_nobodys() -> None:
    tier = spare.Tier("peer", pages.PagePool(1, 8, generation=2))
    flying = copying.InFlight(pages.PagePool(0, 8), spare.Slots([tier]))
    with pytest.raises(errors.InternalError, match=r"no pool has Place\(space=1, index=3, gen"):
        flying.begin(copy("in", 1, 0, 3), 7)


def test_totals_are_by_name_of_the_tier_that_a_copy_leaves_or_reaches() -> None:
    totals = copying.PagedBytes()
    totals.know("peer")
    for direction, count in (("out", 1), ("in", 2), ("move", 3)):
        totals.add(copy(direction, 1, 2, *range(count)))
    totals.know("peer")
    assert (totals.out, totals.into, totals.relocated) == ({"peer": 1}, {"peer": 2}, {"peer": 3})
