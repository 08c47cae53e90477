"""One lease: indices are used again, who gets what comes back, what offers call off."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors, lease_units, ranges


def lease_of(units_count: int, *, granted: int = 0) -> lease_units.LentUnits:
    """So many units, of which the lowest are GRANTED."""
    lease = lease_units.LentUnits()
    lease.offer(units_count)
    lease.take(granted)
    return lease


def test_offers_extend_the_lease_and_use_again_what_came_home() -> None:
    lease = lease_units.LentUnits()
    assert lease.offer(4) == ((0, 4),)
    taken = lease.take(2)
    assert lease.reclaim(1, 1, 9.0) == ((3, 4),)  # the highest FREE one, and the space shrinks
    assert lease.end == 3
    assert lease.reclaim(2, 2, 9.0) == ((2, 3),)
    lease.give_back(((0, 1),))
    assert (lease.home, lease.end) == (((0, 1),), 2)
    assert lease.offer(3) == ((0, 1), (2, 4))
    assert taken == ((0, 2),)
    lease.check_integrity([ranges.of([(1, 2)])])


def test_withdrawing_takes_what_is_free_and_no_more() -> None:
    lease = lease_of(4, granted=3)
    assert lease.withdraw(2) == ((3, 4),)
    assert lease.withdraw(2) == ()
    assert lease.lent_count == 3


def test_what_comes_back_counts_for_the_earliest_deadline() -> None:
    lease = lease_of(6, granted=6)
    assert lease.reclaim(1, 2, 9.0) == ()
    assert lease.reclaim(2, 2, 5.0) == ()
    assert lease.reclaim(3, 1, 5.0) == ()
    assert lease.give_back(((0, 3),)) == ((0, 3),)
    assert [(r.id, r.left_count) for r in lease.reclaims] == [(1, 2)]
    assert lease.give_back(((3, 6),)) == ((4, 6),)  # the highest come home, the rest is FREE
    assert (lease.reclaims, lease.free) == ([], ((3, 4),))
    lease.check_integrity([])


def test_an_offer_calls_off_the_latest_deadline_first() -> None:
    lease = lease_of(4, granted=4)
    lease.reclaim(1, 2, 5.0)
    lease.reclaim(2, 2, 9.0)
    assert lease.offer(1) == ()
    assert [(r.id, r.units_count, r.left_count) for r in lease.reclaims] == [(1, 2, 2), (2, 1, 1)]
    assert lease.offer(2) == ()
    assert [(r.id, r.left_count) for r in lease.reclaims] == [(1, 1)]
    assert lease.offer(3) == ((4, 6),)
    assert lease.reclaims == []


def test_fenced_units_come_back_as_released_ones_do() -> None:
    lease = lease_of(4, granted=4)
    lease.fence(((0, 3),))
    lease.reclaim(1, 2, 5.0)
    with pytest.raises(
        errors.UnitsError, match="units 2 to 3 are not all fenced: expected some of 0 to 2"
    ):
        lease.scrub(((2, 4),))
    assert lease.scrub(((0, 3),)) == ((1, 3),)
    assert (lease.free, lease.fenced) == (((0, 1),), ())


def test_a_snapshot_is_the_lease() -> None:
    lease = lease_of(6, granted=4)
    lease.fence(((0, 1),))
    lease.reclaim(1, 4, 5.0)
    lease.reclaims[0].reported = True
    again = lease_units.LentUnits.restore(lease.snapshot())
    assert again.snapshot() == lease.snapshot()
    assert again.scrub(((0, 1),)) == lease.scrub(((0, 1),)) == ((0, 1),)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda lease: lease.fence(((3, 4),)), "L1: a unit is in two states: .* unit 3 twice"),
        (lambda lease: setattr(lease, "free", ()), "L1: of 4 units only 0 to 1 are known"),
        (
            lambda lease: lease.reclaims.append(lease_units.OpenReclaim(1, 1, 1, 5.0)),
            "L4: 2 to 3 are FREE and a reclaim is open",
        ),
        (lambda lease: lease.reclaim(1, 5, 5.0), "L5: .* with 2 units lent"),
    ],
)
def test_a_broken_lease_is_noticed(spoil, text: str) -> None:
    lease = lease_of(4, granted=2)
    lease.check_integrity([ranges.of([(0, 2)])])
    spoil(lease)
    with pytest.raises(errors.InternalError, match=text):
        lease.check_integrity([ranges.of([(0, 2)])])
