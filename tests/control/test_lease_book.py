"""The book: grants spill over, ids are used again and generations never, wrong ones are named."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors, lease_book, lease_types, ranges

UNIT = ranges.of([(0, 1)])


def book_of(**units: int) -> lease_book.LeaseBook:
    """By lender, how many units it offers; b0 is paired with l0, b1 with l1."""
    book = lease_book.LeaseBook({"b0": "l0", "b1": "l1"}, units_max=8)
    for lender, count in units.items():
        book.open(lender)
        book.offer(lender, count)
    return book


def test_a_grant_spills_over_to_the_next_lender() -> None:
    book = book_of(l0=3, l1=4, l2=2)
    grants = book.grant("b0", 6, 1)
    assert [(g.id, g.generation, g.lender, g.units) for g in grants] == [
        (1, 1, "l0", ((0, 3),)),
        (2, 2, "l2", ((0, 2),)),
        (3, 3, "l1", ((0, 1),)),
    ]
    book.check_integrity()


def test_as_many_as_there_are_but_not_fewer_than_the_least() -> None:
    book = book_of(l0=2, l1=1)
    assert book.grant("b0", 5, 4) == ()
    assert sum(grant.units_count for grant in book.grant("b0", 5, 3)) == 3
    assert book.grant("b0", 1, 1) == ()


def test_ids_are_used_again_and_generations_never() -> None:
    book = book_of(l0=3)
    first, second = (book.grant("b0", 1, 1)[0] for _ in range(2))
    book.release("b0", first.id, first.generation, first.units)
    third = book.grant("b0", 1, 1)[0]
    assert (third.id, third.generation) == (first.id, second.generation + 1)
    assert book.held("b0") == [second, third]
    with pytest.raises(
        errors.StaleGrantError,
        match=r"'b0' names generation 1 of grant 1, which has generation 3 now: it was released",
    ):
        book.release("b0", first.id, first.generation, UNIT)


def test_nothing_is_granted_from_a_lease_that_is_called_back() -> None:
    book = book_of(l0=3, l1=1)
    (held,) = book.grant("b0", 2, 1)
    assert book.reclaim("l0", 2, 9.0) == (2, ((2, 3),), 1)
    assert [grant.lender for grant in book.grant("b0", 2, 1)] == ["l1"]
    assert book.calls("l0") == [lease_types.Call(held.id, held.generation, "l0", 1, 9.0)]
    assert book.release("b0", held.id, held.generation, ranges.of([(0, 1)])) == ((0, 1),)
    assert book.calls("l0") == []
    assert book.held("b0")[0].units == ((1, 2),)


def test_what_is_fenced_counts_for_the_earliest_deadline() -> None:
    book = book_of(l0=4)
    book.grant("b1", 2, 2)
    (held,) = book.grant("b0", 2, 2)
    book.reclaim("l0", 2, 5.0)
    book.reclaim("l0", 1, 9.0)
    (event,) = book.fence("b1")
    assert isinstance(event, lease_types.Fenced)
    assert event.grant.borrower == "b1"
    assert book.calls("l0") == [lease_types.Call(held.id, held.generation, "l0", 1, 9.0)]
    assert book.leases["l0"].scrub(ranges.of([(0, 2)])) == ((0, 2),)
    assert book.calls("l0") == [lease_types.Call(held.id, held.generation, "l0", 1, 9.0)]


def test_wrong_calls_are_named() -> None:
    book = book_of(l0=4)
    (held,) = book.grant("b0", 2, 2)
    with pytest.raises(
        errors.ForeignGrantError, match=r"'b1' names grant 1, which is 'b0''s: expected one of \[\]"
    ):
        book.release("b1", held.id, held.generation, UNIT)
    with pytest.raises(
        errors.UnitsError,
        match=r"'b0' releases units 1 to 2 of grant 1, which holds 0 to 1: expected some of these",
    ):
        book.release("b0", held.id, held.generation, ranges.of([(1, 3)]))
    with pytest.raises(
        errors.StaleGrantError, match="names generation 1 of grant 7, which has ended"
    ):
        book.release("b0", 7, 1, UNIT)
    book.reclaim("l0", 3, 5.0)
    with pytest.raises(
        errors.UnitsError,
        match="'l0' reclaims 2 units; 2 are lent and 1 of them called back already: expected at"
        " most 1",
    ):
        book.reclaim("l0", 2, 5.0)
    with pytest.raises(
        errors.UnitsError, match="'l0' offers 8 units and 1 are lent: expected at most units_max=8"
    ):
        book.offer("l0", 8)
    with pytest.raises(
        errors.UnitsError, match="'l0' leaves with 2 units granted and 0 fenced: reclaim the"
    ):
        book.close("l0")
    book.check_integrity()
    assert book.held("b0") == [held]


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda book: book.grants[1]._replace(id=2), "L2: .* under id 1"),
        (lambda book: book.grants[1]._replace(units=()), "L2: "),
        (lambda book: book.grants[1]._replace(lender="l9"), r"L2: .* of \['l0'\]"),
        (lambda book: book.grants[1]._replace(generation=2), r"L3: generations \[2\], latest 1"),
        (lambda book: book.grants[1]._replace(units=UNIT), "L1: of 4 units only 0, 2 to 3"),
    ],
)
def test_a_broken_book_is_noticed(spoil, text: str) -> None:
    book = book_of(l0=4)
    book.grant("b0", 2, 2)
    book.check_integrity()
    book.grants[1] = spoil(book)
    with pytest.raises(errors.InternalError, match=text):
        book.check_integrity()
