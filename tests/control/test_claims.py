"""Who gets slots when they are short: never what is attended, nor what a copy uses."""

from __future__ import annotations

from aqua_jax.control import claims, holdings, pages, spare


class Book:
    """Claims on `count` slots, and holdings by session."""

    def __init__(self, count: int) -> None:
        self.slots = spare.Slots([spare.Tier("peer", pages.PagePool(1, count))])
        self.claims = claims.Claims(self.slots)

    def holder(self, session: int, count: int) -> holdings.Holding:
        """A session on the device with copies of all its pages."""
        holding = holdings.Holding(device=[0] * count, away=[None] * count)
        assert self.claims.take(session, holding, range(count))
        self.claims.offer(session, holding)
        return holding


def test_clean_copies_give_way_oldest_first() -> None:
    book = Book(6)
    first, second = book.holder(1, 2), book.holder(2, 3)
    newcomer = holdings.Holding(device=[0] * 3, away=[None] * 3)
    assert book.claims.obtainable(3) == 6
    assert book.claims.take(3, newcomer, range(3))
    assert first.away == [None, None]
    assert None not in second.away
    assert book.claims.wasted == 2


def test_all_or_nothing() -> None:
    book = Book(2)
    newcomer = holdings.Holding(device=[0] * 3, away=[None] * 3)
    assert not book.claims.take(3, newcomer, range(3))
    assert newcomer.away == [None] * 3
    assert book.slots.free_count == 2


def test_attended_pages_and_copies_in_use_stay() -> None:
    book = Book(8)
    attended, copying, own = book.holder(1, 4), book.holder(2, 2), book.holder(3, 2)
    attended.shed_to = 3
    attended.shed()
    copying.outs.add(9)
    assert book.claims.obtainable(3) == 1
    assert [book.claims.kept(i, h) for i, h in enumerate((attended, copying, own), 1)] == [3, 2, 0]
    own.away.append(None)
    assert book.claims.take(3, own, [2])
    assert [away is None for away in attended.away] == [False, False, False, True]
    own.away.append(None)
    assert not book.claims.take(3, own, [3])


def test_who_withdraws_keeps_its_copies() -> None:
    book = Book(2)
    holding = book.holder(1, 2)
    book.claims.withdraw(1)
    assert book.claims.obtainable(2) == 0
    assert book.claims.kept(1, holding) == 2
