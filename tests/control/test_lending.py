"""A lender's side of leases: what it offers, calls back, scrubs, and when it is its own again."""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import borrowing, errors, lease_line, lease_types, leases, lending, ranges

BORROWER = lease_types.Role.BORROWER


class Store:
    """A source that spares what it is told to; notes what is done with it."""

    def __init__(self) -> None:
        self.spare = 0
        self.log: list[tuple[str, ranges.Ranges]] = []

    def target(self, lent: int, now: float) -> int:
        return self.spare

    def reserve(self, count: int) -> int:
        return count

    def lend(self, units: ranges.Ranges) -> None:
        self.log.append(("lend", units))

    def scrub(self, units: ranges.Ranges) -> None:
        self.log.append(("scrub", units))

    def take_back(self, units: ranges.Ranges) -> None:
        self.log.append(("take_back", units))


class Side:
    """A lender, a ledger and a borrower that does as the test says."""

    def __init__(self, **settings: Any) -> None:
        self.now = 0.0
        self.ledger = leases.Ledger(unit_bytes=1)
        self.store = Store()
        self.lender = lending.Lender(
            "lender",
            self.store,
            lease_line.DirectPort(self.ledger),
            settings=lending.LenderSettings(**settings),
            incarnation=1,
        )
        self.ledger.join("borrower", BORROWER, incarnation=1, now=0.0)
        self.requests = 0

    def turn(self, seconds: float = 0.0, *, borrows: bool = True) -> bool:
        """Time passes in small steps; the borrower, if it is there, says so."""
        changed = False
        for _ in range(max(1, round(seconds / 0.25))):
            self.now += min(seconds, 0.25)
            if borrows:
                self.ledger.heartbeat("borrower", incarnation=1, now=self.now)
            self.ledger.tick(self.now)
            changed |= self.lender.turn(self.now)
        return changed

    def stamp(self) -> lease_types.Stamp:
        self.requests += 1
        return lease_types.Stamp("borrower", 1, self.requests)

    def borrow(self, units: int) -> lease_types.Grant:
        (grant,) = self.ledger.grant(self.stamp(), units_count=units, now=self.now)
        return grant

    def release(self, grant: lease_types.Grant, units: ranges.Pairs) -> None:
        self.ledger.release(
            self.stamp(), grant=grant.id, generation=grant.generation, units=units, now=self.now
        )


def test_it_offers_what_can_be_spared_and_no_trifles() -> None:
    side = Side(least_units=3)
    side.turn()
    side.store.spare = 2
    side.turn(0.25)
    assert side.lender.lent == ()
    side.store.spare = 5
    side.turn(0.25)
    assert side.lender.lent == ((0, 5),)
    assert side.store.log == [("lend", ((0, 5),))]


def test_what_nobody_has_comes_home_at_once_and_the_rest_when_it_is_released() -> None:
    side = Side(reclaim_seconds=1.0)
    side.store.spare = 6
    side.turn()
    grant = side.borrow(4)
    side.store.spare = 1
    assert side.turn(0.25)
    assert ranges.count(side.lender.lent) == 4
    assert side.lender.counters.reclaims == 1
    assert not side.turn(0.5)
    assert side.lender.overdue(side.now) == []
    side.turn(1.0)
    assert [one.left_count for one in side.lender.overdue(side.now)] == [3]
    side.release(grant, ranges.highest(grant.units, 3))
    assert side.turn(0.25)
    assert ranges.count(side.lender.lent) == 1
    assert side.lender.overdue(side.now) == []
    assert side.lender.counters.reclaims == 1  # it asked once


def test_a_number_that_is_lent_again_came_home_first() -> None:
    side = Side()
    side.store.spare = 2
    side.turn()
    grant = side.borrow(2)
    side.store.spare = 1
    side.turn(0.25)
    side.store.spare = 3
    side.lender._heartbeat_at = 99.0  # it has not heard yet that a unit is back
    side.release(grant, ranges.highest(grant.units, 1))
    side.turn(0.25)
    assert side.store.log[-2:] == [("take_back", ((1, 2),)), ("lend", ((1, 3),))]
    assert side.lender.lent == ((0, 3),)


def test_units_of_a_borrower_that_is_gone_are_scrubbed_before_they_are_lent_again() -> None:
    side = Side()
    side.store.spare = 4
    side.turn()
    grant = side.borrow(3)
    side.turn(6.0, borrows=False)
    assert ("scrub", grant.units) in side.store.log
    assert side.lender.counters.units_scrubbed == 3
    assert side.ledger.standing("lender").lease == lease_types.Lease(
        ranges.of([(0, 4)]), (), (), ()
    )
    assert side.lender.lent == ((0, 4),)


def test_who_was_counted_as_gone_waits_before_it_touches_what_it_lent() -> None:
    side = Side(quarantine_seconds=4.0)
    side.store.spare = 4
    side.turn()
    side.borrow(3)
    fresh = leases.Ledger(unit_bytes=1)
    fresh.join("borrower", BORROWER, incarnation=1, now=0.0)
    side.ledger, side.lender._line._port = fresh, lease_line.DirectPort(fresh)
    side.turn(0.25)
    assert side.lender.lent == ()
    assert side.store.log == [("lend", ((0, 4),))]
    assert not side.turn(3.75)
    assert side.turn(0.25)
    assert side.store.log[1:3] == [("scrub", ((0, 4),)), ("take_back", ((0, 4),))]
    side.turn(0.25)
    assert side.lender.counters.lives == 2
    assert side.lender.lent == ((0, 4),)


def test_who_hears_nothing_for_long_counts_itself_as_gone() -> None:
    class Dead:
        def send(self, ask: lease_line.Ask, now: float) -> None:
            """Nothing comes through."""

        def poll(self, now: float) -> list[lease_line.Answer]:
            return []

    side = Side(gone_seconds=8.0, quarantine_seconds=4.0)
    side.store.spare = 4
    side.turn()
    side.lender._line._port = Dead()
    side.turn(7.5)
    assert side.lender.lent == ((0, 4),)
    side.turn(0.5)
    assert side.lender.lent == ()
    assert side.turn(4.0)
    assert side.store.log[-1] == ("take_back", ((0, 4),))


def test_the_quarantine_outlasts_the_ledger_and_then_any_borrower() -> None:
    borrower = borrowing.BorrowerSettings(
        unit_slots=1, spaces=range(9, 10), units_max=1, ahead_slots=1
    )
    ledger = leases.Ledger(unit_bytes=1).snapshot()["settings"]["silence_seconds_max"]
    assert lending.LenderSettings().quarantine_seconds > ledger + borrower.silence_seconds


def test_who_waits_before_it_joins_again_sleeps_until_then() -> None:
    side = Side(quarantine_seconds=4.0)
    side.store.spare = 4
    side.turn()
    fresh = leases.Ledger(unit_bytes=1)
    fresh.join("borrower", BORROWER, incarnation=1, now=0.0)
    side.ledger, side.lender._line._port = fresh, lease_line.DirectPort(fresh)
    side.turn(0.25)
    assert side.lender.wakes_at() == side.now + 4.0


def test_memory_that_was_offered_in_vain_is_memory_that_came() -> None:
    class Mute:
        def send(self, ask: lease_line.Ask, now: float) -> None:
            """Nothing comes through."""

        def poll(self, now: float) -> list[lease_line.Answer]:
            return []

    side = Side(gone_seconds=8.0)
    side.turn()
    side.lender._line._port = Mute()
    side.store.spare = 4
    side.lender._heartbeat_at = 99.0  # the offer is next
    assert not side.turn(7.75)
    assert side.store.log == []
    assert side.turn(0.5)
    assert side.store.log == [("lend", ())]


def test_of_an_offer_the_ledger_may_take_less_and_the_rest_came_home() -> None:
    side = Side()
    side.store.spare = 2
    side.turn()
    side.borrow(2)
    side.store.spare = 0
    side.turn(0.25)
    side.store.spare = 3  # two called back and not come yet: the offer calls that off first
    assert side.turn(0.25)
    assert side.store.log[-1] == ("lend", ((2, 3),))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"least_units": 0}, "least_units is 0; give more than 0"),
        ({"gone_seconds": 0.4}, "gone_seconds is 0.4; give more than heartbeat_seconds 0.25"),
    ],
)
def test_settings_that_cannot_work_are_named(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.ConfigError, match=text):
        lending.LenderSettings(**wrong)
