"""One grant and its tier: which units are vacated, what is due, what was met."""

from __future__ import annotations

from aqua_jax.control import grants, lease_types, pages, ranges, spare


def make() -> grants.Held:
    """Units 4, 5 and 9 of a lease, two slots each."""
    grant = lease_types.Grant(1, 7, "lender", "borrower", ranges.of([(4, 6), (9, 10)]))
    return grants.Held(grant, spare.Tier("peer", pages.PagePool(3, 6, generation=7), 2))


def call(units: int, deadline: float) -> lease_types.Call:
    return lease_types.Call(1, 7, "lender", units, deadline)


def test_a_unit_is_vacated_when_all_its_slots_have_retired() -> None:
    held = make()
    held.tier.slots.call_back([1, 4, 5])
    assert held.vacated() == [2]
    held.tier.slots.call_back([0])
    assert held.vacated() == [0, 2]
    assert held.named([0, 2]) == ((4, 5), (9, 10))
    assert held.slots(2) == range(4, 6)


def test_what_was_released_is_not_released_again() -> None:
    held = make()
    held.tier.slots.retire(6)
    held.release(held.named([1]), 0.0)
    assert held.vacated() == [0, 2]
    assert (held.units_count, held.released) == (2, 1)


def test_calls_want_what_does_not_leave_yet() -> None:
    held = make()
    assert held.note_calls([call(1, 5.0), call(1, 3.0)]) == 2
    held.leaving = 2
    assert held.note_calls([call(2, 5.0)]) == 0
    held.tier.slots.retire(2)
    held.release(held.named([2]), 1.0)
    assert held.note_calls([call(2, 5.0)]) == 1  # one is back, one leaves, one more is wanted


def test_calls_are_answered_in_order_of_their_deadlines() -> None:
    held = make()
    held.note_calls([call(1, 5.0), call(1, 3.0)])
    held.tier.slots.retire(6)
    (first,) = held.release(held.named([2]), 4.0)
    assert (first.deadline, first.met, first.lender, first.generation) == (3.0, False, "lender", 7)
    assert held.overdue(4.0) == []
    assert held.overdue(5.5) == [5.0]
    (second,) = held.release(held.named([0]), 5.0)
    assert second.met


def test_a_call_that_the_lender_calls_off_is_due_no_more() -> None:
    held = make()
    held.note_calls([call(2, 3.0)])
    assert held.overdue(4.0) == [3.0]
    assert held.note_calls([]) == 0
    assert held.overdue(4.0) == []
