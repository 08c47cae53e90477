"""One session's pages: what a table names, and which pages are given up when."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors, holdings, pages, spare, types


def make(count: int) -> holdings.Holding:
    """Pages 10, 11, ... of the device, each with a copy in slots 0, 1, ... of space 1."""
    slots = spare.Slots([spare.Tier("peer", pages.PagePool(1, count))])
    copies: list[spare.Away | None] = [*slots.take(1, count)]
    return holdings.Holding(device=list(range(10, 10 + count)), away=copies)


def entry(slot: int) -> int:
    return types.away_entry(types.Place(1, slot))


def test_the_table_of_one_that_is_whole_on_the_device_is_the_live_list() -> None:
    holding = make(3)
    assert holding.table() is holding.device


def test_pages_are_shed_in_order_as_far_as_their_copies_are_made() -> None:
    holding = make(4)
    holding.outs.add(1)
    holding.copy_of(1).in_flight = True
    holding.shed_to = 3
    assert holding.leaving == 3
    assert holding.shed() == [10]
    assert list(holding.table()) == [entry(0), 11, 12, 13]
    holding.copy_of(1).in_flight = False
    assert holding.shed() == [11, 12]
    assert list(holding.table()) == [entry(0), entry(1), entry(2), 13]
    assert holding.leaving == 0
    assert [away and away.used for away in holding.away] == [True, True, True, False]
    holding.check(1)


def test_behind_a_copy_that_failed_nothing_is_to_be_shed() -> None:
    holding = make(3)
    holding.shed_to, holding.away[1] = 3, None
    assert holding.shed() == [10]
    assert holding.leaving == 0
    assert list(holding.table()) == [entry(0), 11, 12]


def test_what_does_not_agree_is_named() -> None:
    holding = make(2)
    holding.shed_to = 1
    with pytest.raises(errors.InternalError, match="to shed pages before 1 and no copy is in fl"):
        holding.check(1)
    holding.shed()
    holding.attended[0] = entry(1)
    with pytest.raises(errors.InternalError, match="session 1 attends page 0 where it has no copy"):
        holding.check(1)
    del holding.attended[:]
    with pytest.raises(errors.InternalError, match="1 device pages, 0 attended away and 2 in all"):
        holding.check(1)


def test_a_page_that_moves_is_read_where_it_was_until_it_is_there() -> None:
    holding = make(3)
    holding.shed_to = 2
    holding.shed()
    home = spare.Away(spare.Tier("host", pages.PagePool(2, 4)), 3, in_flight=True)
    holding.moves[1] = home
    holding.check(1)
    assert list(holding.table()) == [entry(0), entry(1), 12]
    former = holding.copy_of(1)
    assert list(holding.aways()) == [*holding.away, home]
    assert holding.move(1) is former
    assert list(holding.table()) == [entry(0), types.away_entry(types.Place(2, 3)), 12]
    assert (home.in_flight, home.used, holding.moves) == (False, True, {})


def test_what_is_on_the_device_does_not_move() -> None:
    holding = make(2)
    holding.moves[1] = spare.Away(spare.Tier("host", pages.PagePool(2, 4)), 3)
    with pytest.raises(errors.InternalError, match="session 1 moves page 1 to another slot"):
        holding.check(1)
    holding.ins.add(4)  # it is about to be there, and reads the slot that it leaves
    holding.check(1)
    holding.moves.clear()
    holding.left.append(holding.copy_of(0))
    with pytest.raises(
        errors.InternalError, match="session 1 keeps slots that its pages have left"
    ):
        holding.check(1)
