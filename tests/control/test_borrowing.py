"""A borrower's side of leases: tiers are what the ledger says, whatever is lost on the way."""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import borrowing, errors, lease_line, lease_types, leases, types
from tests.control import desk

BORROWER, LENDER = lease_types.Role.BORROWER, lease_types.Role.LENDER
UNIT_SLOTS = 2


class Wire:
    """A port that loses what it is told to lose, and keeps answers until they are let through."""

    def __init__(self, ledger: leases.Ledger) -> None:
        self.inner = lease_line.DirectPort(ledger)
        self.sent: list[lease_line.Ask] = []
        self.answers: list[lease_line.Answer] = []
        self.loses_asks = False
        self.keeps_answers = False

    def send(self, ask: lease_line.Ask, now: float) -> None:
        self.sent.append(ask)
        if not self.loses_asks:
            self.inner.send(ask, now)
            self.answers += self.inner.poll(now)

    def poll(self, now: float) -> list[lease_line.Answer]:
        if self.keeps_answers:
            return []
        answers, self.answers = self.answers, []
        return answers

    @property
    def names(self) -> list[str]:
        return [ask.name for ask in self.sent]


class Pair:
    """A desk whose controller borrows from one lender; time passes when told to."""

    def __init__(self, units: int = 6, **settings: Any) -> None:
        self.now = 0.0
        self.desk = desk.Desk(pool_pages=8, tiers={"host": 32})
        self.ledger = leases.Ledger(unit_bytes=1)
        self.requests = 0
        self.ledger.join("lender", LENDER, incarnation=1, now=0.0)
        self.offer(units)
        self.wire = Wire(self.ledger)
        self.borrower = borrowing.Borrower(
            "borrower",
            self.desk.controller,
            self.wire,
            settings=borrowing.BorrowerSettings(
                unit_slots=UNIT_SLOTS,
                spaces=range(10, 12),
                units_max=8,
                ahead_slots=6,
                **settings,
            ),
            incarnation=1,
        )

    def stamp(self) -> lease_types.Stamp:
        self.requests += 1
        return lease_types.Stamp("lender", 1, self.requests)

    def offer(self, units: int) -> None:
        self.ledger.offer(self.stamp(), units_count=units, now=self.now)

    def reclaim(self, units: int, seconds: float) -> None:
        stamp, deadline = self.stamp(), self.now + seconds
        self.ledger.reclaim(stamp, units_count=units, deadline=deadline, now=self.now)

    def turn(self, seconds: float = 0.0) -> bool:
        """Time passes, the lender is there, the borrower and the relocation take their turns."""
        changed = False
        for _ in range(max(1, round(seconds / 0.25))):
            self.now += min(seconds, 0.25)
            self.ledger.heartbeat("lender", incarnation=1, now=self.now)
            self.ledger.tick(self.now)
            changed |= self.borrower.turn(self.now)
            self.desk.begin(tuple(self.desk.controller.homes.relocate(self.now)))
            self.borrower.check_integrity()
            self.desk.check()
        return changed

    def fill(self) -> types.Session:
        """A session takes most of the device."""
        session = self.desk.submit(24, 9)
        while self.desk.memory.device.used_count < 6:
            self.desk.round()
        return session

    @property
    def spaces(self) -> list[int]:
        return [tier.slots.space for tier in self.desk.memory.tiers]

    @property
    def slots(self) -> list[int]:
        return [tier.slots.capacity for tier in self.desk.memory.tiers]


def test_it_borrows_when_the_device_fills_up() -> None:
    pair = Pair()
    assert not pair.turn()
    assert pair.wire.names == ["join", "heartbeat"]
    pair.fill()
    assert pair.turn()
    assert pair.wire.names[2:] == ["grant"]
    assert (pair.spaces, pair.slots) == ([10, 1], [6, 32])
    assert pair.borrower.units_held == 3
    assert not pair.turn(0.25)  # it has what it likes to have


def test_what_is_called_is_released_by_the_deadline() -> None:
    pair = Pair()
    pair.fill()
    pair.turn()
    pair.reclaim(5, seconds=1.0)  # three were FREE there, two of the three are called
    pair.turn(0.25)
    assert pair.slots == [2, 32]
    assert pair.ledger.reclaim_status("lender") == ()
    assert [one.met for one in pair.borrower.reclaims] == [True]
    assert pair.borrower.counters.units_released == 2
    pair.reclaim(1, seconds=1.0)
    pair.turn(0.25)
    assert pair.spaces == [1]
    assert pair.borrower.units_held == 0


def test_pages_in_use_move_before_their_units_go() -> None:
    pair = Pair()
    session = pair.fill()
    pair.turn()
    pair.desk.submit(24, 9)
    pair.desk.run_to(session, types.State.AWAY)
    used = pair.desk.memory.tiers[0].slots.used_count
    assert used
    pair.reclaim(6, seconds=1.0)
    pair.turn(0.25)
    assert pair.borrower.units_held > 0
    assert pair.borrower.overdue(pair.now) == []
    pair.turn(1.0)
    assert len(pair.borrower.overdue(pair.now)) == 1
    pair.desk.land()
    pair.turn(0.25)
    assert pair.borrower.units_held == 0
    assert [one.met for one in pair.borrower.reclaims] == [False]
    assert pair.borrower.counters.reclaims_late == 1
    assert pair.desk.memory.moved.relocated["host"] == used
    pair.desk.finish()


def test_where_nothing_is_to_be_had_it_asks_later_and_later() -> None:
    pair = Pair(units=1)
    pair.reclaim(1, seconds=1.0)
    pair.fill()
    asked_at = []
    for _ in range(20):
        count = pair.wire.names.count("grant")
        pair.turn(0.25)
        if pair.wire.names.count("grant") > count:
            asked_at.append(pair.now)
    assert asked_at == [0.25, 0.5, 1.0, 2.0, 4.0]
    pair.offer(4)
    pair.turn(8.0)
    assert pair.borrower.units_held == 3


def test_what_is_idle_goes_back() -> None:
    pair = Pair(idle_seconds=2.0)
    session = pair.fill()
    pair.turn()
    pair.borrower.settings = borrowing.BorrowerSettings(
        unit_slots=UNIT_SLOTS, spaces=range(10, 12), units_max=8, ahead_slots=2, idle_seconds=2.0
    )
    pair.turn(1.0)
    assert pair.slots == [6, 32]
    pair.turn(2.0)
    assert pair.slots == [2, 32]
    assert pair.borrower.units_held == 1
    assert session.state is not types.State.ENDED


@pytest.mark.parametrize("way", ["ask", "answer"])
@pytest.mark.parametrize("name", ["join", "heartbeat", "grant", "release"])
def test_what_is_lost_on_the_way_is_asked_again(name: str, way: str) -> None:
    pair = Pair(heartbeat_seconds=0.1)
    pair.fill()
    reclaimed = False
    for _ in range(40):
        if name == "release" and pair.borrower.units_held and not reclaimed:
            pair.reclaim(6, seconds=8.0)
            reclaimed = True
        before = len(pair.wire.sent)
        pair.turn(0.1)
        lost = any(ask.name == name for ask in pair.wire.sent[before:])
        if lost and way == "answer":
            pair.wire.answers.clear()
        pair.wire.loses_asks = way == "ask" and pair.borrower._line.repeats < 2
    assert pair.borrower.units_held == (0 if reclaimed else 3)
    assert pair.borrower.counters.lives == 1
    pair.desk.check()


def test_late_answers_and_repeats_change_nothing() -> None:
    pair = Pair()
    pair.fill()
    pair.turn()
    old = [lease_line.answer(pair.ledger, ask, pair.now) for ask in pair.wire.sent]
    slots = pair.slots
    pair.wire.answers += old
    pair.turn(0.25)
    assert pair.slots == slots
    assert pair.borrower.units_held == 3


def test_a_lender_that_is_gone_takes_what_was_in_it() -> None:
    pair = Pair()
    session = pair.fill()
    pair.turn()
    pair.desk.submit(24, 9)
    pair.desk.run_to(session, types.State.AWAY)
    pair.ledger.join("lender", LENDER, incarnation=2, now=pair.now)
    assert pair.borrower.turn(pair.now + 0.25)
    assert (pair.spaces, session.state) == ([1], types.State.WAITING)
    assert pair.borrower.counters.grants_void == 1
    assert pair.desk.controller.counters.homes_lost == 1
    pair.desk.finish()


def test_who_hears_nothing_counts_itself_as_gone_before_the_ledger_does() -> None:
    pair = Pair()
    pair.fill()
    pair.turn()
    pair.wire.loses_asks = True
    pair.turn(2.5)
    assert pair.spaces == [10, 1]
    pair.turn(0.75)
    assert pair.spaces == [1]
    assert len(pair.ledger.standing("borrower").grants) == 1  # the ledger waits longer
    pair.wire.loses_asks = False
    pair.turn(1.0)
    assert pair.borrower.counters.lives == 2
    pair.turn(0.25)
    lease = pair.ledger.standing("lender").lease
    assert lease is not None
    assert lease.fenced
    assert pair.borrower.units_held == 3  # of those that nobody had


def test_a_ledger_that_knows_nothing_any_more_is_joined_anew() -> None:
    pair = Pair()
    pair.fill()
    pair.turn()
    fresh = leases.Ledger(unit_bytes=1)
    fresh.join("lender", LENDER, incarnation=1, now=pair.now)
    pair.ledger, pair.wire.inner = fresh, lease_line.DirectPort(fresh)
    pair.turn(0.25)
    assert pair.spaces == [1]
    pair.turn(0.25)
    assert pair.borrower.counters.lives == 2


def test_a_grant_for_which_no_space_is_left_goes_back() -> None:
    pair = Pair(units=1)
    for name in ("second", "third"):
        pair.ledger.join(name, LENDER, incarnation=1, now=0.0)
        pair.ledger.offer(lease_types.Stamp(name, 1, 1), units_count=1, now=0.0)
    pair.fill()
    pair.turn()
    assert (pair.spaces, pair.slots) == ([10, 11, 1], [2, 2, 32])
    assert pair.borrower.units_held == 2
    assert len(pair.ledger.standing("borrower").grants) == 2
    pair.turn(0.25)
    assert pair.wire.names.count("release") == 1


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"units_max": 0}, "units_max is 0; give at least 1"),
        ({"spaces": range(0)}, r"spaces is range\(0, 0\); give a range"),
        ({"silence_seconds": 0.3}, "silence_seconds is 0.3; give more than timeout_seconds 0.5"),
    ],
)
def test_settings_that_cannot_work_are_named(wrong: dict[str, Any], text: str) -> None:
    right: dict[str, Any] = {
        "unit_slots": 1,
        "spaces": range(2, 4),
        "units_max": 1,
        "ahead_slots": 1,
    }
    with pytest.raises(errors.ConfigError, match=text):
        borrowing.BorrowerSettings(**(right | wrong))
