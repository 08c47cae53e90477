"""Who serves a borrower first, and whose grants are called first."""

from __future__ import annotations

import pytest

from aqua_jax.control import lease_order, lease_types, ranges

PAIRS = {"b0": "l0", "b1": "l1"}


def grant(generation: int, lender: str, borrower: str, units_count: int = 1) -> lease_types.Grant:
    units = ranges.of([(0, units_count)])
    return lease_types.Grant(generation, generation, lender, borrower, units)


@pytest.mark.parametrize(
    ("grants", "free", "expected"),
    [
        # Its pair first, whatever is free elsewhere; another's pair last.
        ([], {"l0": 1, "l1": 9, "l2": 2}, ["l0", "l2", "l1"]),
        # Its own grants do not count as sharing.
        ([grant(1, "l0", "b0")], {"l0": 1, "l1": 9, "l2": 2}, ["l0", "l2", "l1"]),
        # A shared pair comes after those that serve nobody else.
        ([grant(1, "l0", "b1")], {"l0": 9, "l1": 1, "l2": 1}, ["l2", "l1", "l0"]),
        # All shared: by the number of others, then the pair, then the emptiest.
        (
            [
                grant(1, "l0", "b1"),
                grant(2, "l0", "b2"),
                grant(3, "l2", "b1"),
                grant(4, "l3", "b1"),
            ],
            {"l0": 9, "l2": 1, "l3": 2},
            ["l3", "l2", "l0"],
        ),
        # Two grants of one borrower share the link once.
        (
            [grant(1, "l0", "b1"), grant(2, "l0", "b1"), grant(3, "l2", "b1")],
            {"l0": 1, "l2": 9},
            ["l0", "l2"],
        ),
        # Ties by id; who has nothing free is left out.
        ([], {"l4": 2, "l3": 2, "l2": 0}, ["l3", "l4"]),
    ],
)
def test_lenders(grants, free: dict[str, int], expected: list[str]) -> None:
    assert lease_order.lenders("b0", free, grants, PAIRS) == expected
    again = dict(reversed(free.items()))
    assert lease_order.lenders("b0", again, reversed(grants), PAIRS) == expected


def test_guests_are_called_before_the_pair_and_the_young_before_the_old() -> None:
    grants = [grant(1, "l0", "b1", 2), grant(2, "l0", "b2", 2), grant(3, "l0", "b0", 2)]
    called = lease_order.calls("l0", grants, PAIRS, [(3, 5.0)])
    assert [(call.generation, call.units_count) for call in called] == [(2, 2), (1, 1)]
    called = lease_order.calls("l0", grants, PAIRS, [(5, 5.0)])
    assert [(call.generation, call.units_count) for call in called] == [(2, 2), (1, 2), (3, 1)]


def test_a_grant_may_owe_by_two_deadlines() -> None:
    grants = [grant(1, "l0", "b0", 4)]
    called = lease_order.calls("l0", grants, PAIRS, [(1, 5.0), (0, 6.0), (2, 7.0)])
    assert called == [
        lease_types.Call(1, 1, "l0", 1, 5.0),
        lease_types.Call(1, 1, "l0", 2, 7.0),
    ]
    assert lease_order.calls("l0", grants, PAIRS, []) == []
