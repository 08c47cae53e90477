"""The ledger as its clients meet it: elastic lending, silence, restarts, late messages, jumps."""

from __future__ import annotations

import json

import pytest

from aqua_jax.control import errors, lease_types, leases
from tests.control import lease_desk

LENDER, BORROWER = lease_types.Role.LENDER, lease_types.Role.BORROWER


def test_lend_call_back_and_lend_again() -> None:
    desk = lease_desk.Desk()
    assert desk.offer("l0", 4) == ((0, 4),)
    (held,) = desk.grant("b0", 3)
    reclaimed = desk.reclaim("l0", 3, within=2.0)
    assert (reclaimed.home, reclaimed.left_count) == (((3, 4),), 2)
    assert desk.grant("b1", 1) == ()
    (call,) = desk.ledger.called("b0")
    assert (call.grant, call.units_count, call.deadline) == (held.id, 2, 102.0)
    assert desk.ledger.called("b1") == ()

    desk.release(held, (0, 1))  # any of its units: the borrower's choice
    (status,) = desk.ledger.reclaim_status("l0")
    assert (status.units_count, status.left_count, status.overdue) == (3, 1, False)
    desk.release(held, (2, 3))
    assert desk.ledger.reclaim_status("l0") == ()
    assert desk.ledger.called("b0") == ()

    assert desk.offer("l0", 3) == ((0, 1), (2, 4))
    lease = desk.ledger.standing("l0").lease
    assert lease is not None
    assert lease.free == ((0, 1), (2, 4))
    assert lease.grants == desk.ledger.standing("b0").grants == (held._replace(units=((1, 2),)),)
    assert desk.pass_time(10.0) == []


def test_amounts_of_bytes_are_rounded_to_what_is_safe() -> None:
    ledger = leases.Ledger(unit_bytes=10)
    assert [ledger.units_for(n) for n in (0, 1, 10, 11)] == [0, 1, 1, 2]
    assert [ledger.units_within(n) for n in (0, 9, 10, 19, 20)] == [0, 0, 1, 1, 2]


def test_a_deadline_that_passes_is_told_once_and_the_reclaim_stays_open() -> None:
    desk = lease_desk.Desk()
    desk.offer("l0", 2)
    (held,) = desk.grant("b0", 2)
    reclaim = desk.reclaim("l0", 2, within=1.0).reclaim
    assert desk.pass_time(1.0) == []
    assert desk.pass_time(2.0) == [lease_types.Overdue("l0", reclaim, 2, 101.0)]
    (status,) = desk.ledger.reclaim_status("l0")
    assert status.overdue
    assert desk.ledger.called("b0")[0].units_count == 2
    desk.release(held)
    assert desk.ledger.reclaim_status("l0") == ()


def test_a_silent_borrower_is_fenced_until_its_lender_has_scrubbed() -> None:
    desk = lease_desk.Desk()
    desk.offer("l0", 2)
    (held,) = desk.grant("b0", 2)
    assert desk.pass_time(5.0, silent="b0") == []
    assert desk.pass_time(0.5, silent="b0") == [
        lease_types.Expired("b0", BORROWER, 1),
        lease_types.Fenced(held),
    ]
    assert desk.grant("b1", 1) == ()
    with pytest.raises(errors.UnknownClientError, match="life 1 of borrower 'b0' has ended"):
        desk.release(held)
    assert desk.ask("scrubbed", "l0", units=((1, 2),)) == ()
    assert desk.grant("b1", 2)[0].units == ((1, 2),)
    assert desk.join("b0", BORROWER) == ()
    assert desk.ledger.standing("b0").grants == ()


def test_a_silent_lender_voids_its_grants_and_its_late_messages_are_refused() -> None:
    desk = lease_desk.Desk()
    desk.offer("l0", 2)
    desk.offer("l1", 2)
    void, alive = desk.grant("b0", 3)
    assert desk.pass_time(5.5, silent="l0") == [
        lease_types.Expired("l0", LENDER, 1),
        lease_types.Voided(void),
    ]
    standing = desk.ledger.heartbeat("b0", incarnation=1, now=desk.now)
    assert standing.void([void, alive]) == [void]
    with pytest.raises(errors.StaleGrantError, match="drop what refers to it"):
        desk.release(void)
    for late in (2, 3):
        with pytest.raises(errors.UnknownClientError, match="drop all grants and leases of it"):
            desk.ledger.offer(lease_types.Stamp("l0", 1, late), units_count=1, now=desk.now)
    desk.join("l0", LENDER)
    desk.offer("l0", 1)
    (new,) = desk.grant("b0", 1)
    assert (new.id, new.units[0].first) == (void.id, 0)  # told apart by generation alone
    with pytest.raises(errors.StaleGrantError, match=f"generation {new.generation} now"):
        desk.release(void, (0, 1))
    assert desk.ledger.standing("b0").void([void, alive, new]) == [void]


def test_who_restarts_need_not_expire() -> None:
    desk = lease_desk.Desk()
    desk.offer("l0", 2)
    (held,) = desk.grant("b0", 1)
    late = desk.stamp("b0")
    assert desk.join("b0", BORROWER) == (
        lease_types.Expired("b0", BORROWER, 1),
        lease_types.Fenced(held),
    )
    assert desk.ledger.join("b0", BORROWER, incarnation=2, now=desk.now) == ()
    with pytest.raises(errors.StaleRequestError, match="life 1 of 'b0' is over, life 2 has joined"):
        desk.ledger.grant(late._replace(request=9), units_count=1, now=desk.now)
    (again,) = desk.grant("b0", 1)
    assert desk.join("l0", LENDER) == (
        lease_types.Expired("l0", LENDER, 1),
        lease_types.Voided(again),
    )
    lease = desk.ledger.standing("l0").lease
    assert lease == lease_types.Lease((), (), (), ())


def test_goodbyes() -> None:
    desk = lease_desk.Desk()
    desk.offer("l0", 3)
    desk.grant("b0", 2)
    with pytest.raises(errors.UnitsError, match="'l0' leaves with 2 units granted and 0 fenced"):
        desk.ask("leave", "l0")
    desk.reclaim("l0", 1)
    desk.reclaim("l0", 1)
    assert desk.ask("leave", "b0") == ()
    assert desk.again("leave", "b0") == ()  # its answer was lost
    assert desk.ledger.reclaim_status("l0") == ()
    assert desk.ask("leave", "l0") == ((0, 1),)
    for client in ("b0", "l0"):
        with pytest.raises(errors.UnknownClientError, match="has ended"):
            desk.ledger.standing(client)
        with pytest.raises(errors.UnknownClientError, match="has ended"):
            desk.ledger.heartbeat(client, incarnation=1, now=desk.now)
    desk.ledger.check_integrity()


def test_a_request_that_comes_again_is_answered_as_before() -> None:
    desk = lease_desk.Desk()
    offered = desk.offer("l0", 3)
    assert desk.again("offer", "l0", units_count=3) == offered
    granted = desk.grant("b0", 2)
    assert desk.again("grant", "b0", units_count=2) == granted
    desk.release(granted[0])
    before = desk.ledger.snapshot()
    grant, generation = granted[0].id, granted[0].generation
    repeated = {"grant": grant, "generation": generation, "units": granted[0].units}
    assert desk.again("release", "b0", **repeated) is None
    assert desk.ledger.snapshot() == before
    with pytest.raises(errors.StaleGrantError):  # not a repeat but the same wish anew
        desk.ask("release", "b0", **repeated)


def test_what_is_kept_does_not_grow_with_time() -> None:
    desk = lease_desk.Desk()
    sizes = []
    for _ in range(60):
        desk.offer("l0", 6)
        for borrower in lease_desk.BORROWERS:
            desk.grant(borrower, 2)
        desk.reclaim("l0", 5)
        desk.release(desk.ledger.standing("b0").grants[0])
        desk.join("b1", BORROWER)
        desk.ask("scrubbed", "l0", units=desk.ledger.standing("l0").lease.fenced)
        desk.ask("withdraw", "l0", units_count=6)
        desk.pass_time(1.0)
        sizes.append(len(json.dumps(desk.ledger.snapshot())))
    # Numbers of more digits are all that grows.
    assert max(sizes) < 1.05 * sizes[0]


def test_a_machine_that_was_suspended_ends_nobody_and_its_deadlines_move() -> None:
    desk = lease_desk.Desk()
    desk.offer("l0", 2)
    desk.grant("b0", 2)
    reclaim = desk.reclaim("l0", 1, within=2.0).reclaim
    desk.now += 3600.0
    assert desk.ledger.tick(desk.now) == ()
    assert desk.ledger.called("b0")[0].deadline == desk.now + 1.0
    assert desk.pass_time(1.0) == []
    assert desk.pass_time(0.5) == [lease_types.Overdue("l0", reclaim, 1, 3701.0)]
    desk.now -= 50.0
    assert desk.ledger.tick(desk.now) == ()
    assert desk.ledger.called("b0")[0].deadline == desk.now - 0.5
    assert desk.pass_time(20.0) == []
    assert [type(event) for event in desk.pass_time(5.5, silent="b1")] == [lease_types.Expired]


def test_a_restored_ledger_goes_on_where_it_was() -> None:
    desk = lease_desk.Desk(silence_seconds_max=4.0)
    desk.offer("l0", 3)
    (held,) = desk.grant("b0", 2)
    desk.reclaim("l0", 2, within=5.0)
    with pytest.raises(errors.UnitsError):
        desk.grant("b1", 0)
    text = json.dumps(desk.ledger.snapshot())
    desk.ledger = leases.Ledger.restore(json.loads(text))
    assert json.dumps(desk.ledger.snapshot()) == text
    with pytest.raises(errors.UnitsError, match="units_count is 0"):
        desk.again("grant", "b1", units_count=0)
    assert desk.again("grant", "b0", units_count=2) == (held,)
    desk.now += 500.0  # it was down for so long
    assert desk.ledger.tick(desk.now) == ()
    assert desk.ledger.called("b0")[0].deadline == desk.now + 4.0
    desk.release(held, (0, 1))
    assert desk.ledger.reclaim_status("l0") == ()
    with pytest.raises(errors.LeaseError, match="a snapshot of version 0: expected 1; restore it"):
        leases.Ledger.restore({**json.loads(text), "version": 0})


@pytest.mark.parametrize(
    ("kind", "client", "arguments", "text"),
    [
        (
            "offer",
            "l0",
            {"units_count": 0},
            "units_count is 0: expected a whole number of at least",
        ),
        ("offer", "l0", {"units_count": True}, "units_count is True"),
        ("withdraw", "l0", {"units_count": -1}, "units_count is -1"),
        ("reclaim", "l0", {"units_count": 1.0, "deadline": 1.0}, "units_count is 1.0"),
        ("reclaim", "l0", {"units_count": 5, "deadline": 1.0}, "expected at most 4"),
        (
            "reclaim",
            "l0",
            {"units_count": 1, "deadline": float("inf")},
            "deadline is inf: expected",
        ),
        ("scrubbed", "l0", {"units": ()}, r"no units are named: expected \(first, end\) ranges"),
        (
            "scrubbed",
            "l0",
            {"units": ((0, 1),)},
            "units 0 are not all fenced: expected some of non",
        ),
        ("grant", "b0", {"units_count": 1, "least_count": 0}, "least_count is 0"),
        ("grant", "b0", {"units_count": 1, "least_count": 2}, "units_count is 1: .* at least 2"),
        ("release", "b0", {"grant": 1, "generation": 1, "units": ((0, 1), (0, 1))}, "unit 0 twice"),
        ("release", "b0", {"grant": 1, "generation": 1, "units": ()}, "no units are named"),
        ("release", "b1", {"grant": 1, "generation": 1, "units": ((0, 1),)}, "which is 'b0''s"),
    ],
)
def test_wrong_calls_change_nothing_and_say_why(kind, client, arguments, text) -> None:
    desk = lease_desk.Desk()
    desk.offer("l0", 4)
    desk.grant("b0", 2)
    before = desk.ledger.snapshot()["book"]
    for ask in (desk.ask, desk.again):
        with pytest.raises(errors.LeaseError, match=text):
            ask(kind, client, **arguments)
    assert desk.ledger.snapshot()["book"] == before


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"unit_bytes": 0}, "unit_bytes=0, .* expected at least 1 each"),
        ({"unit_bytes": 1, "clients_max": 0}, "clients_max=0"),
        (
            {"unit_bytes": 1, "jump_seconds_max": 3.0},
            "jump_seconds_max=3.0 with silence_seconds_max=5.0: expected above 0 and at most half",
        ),
        ({"unit_bytes": 1, "jump_seconds_max": 0.0}, "jump_seconds_max=0.0"),
    ],
)
def test_settings_that_cannot_be(settings, text: str) -> None:
    with pytest.raises(errors.ConfigError, match=text):
        leases.Ledger(**settings)


def test_a_grant_without_its_borrower_is_noticed() -> None:
    desk = lease_desk.Desk()
    desk.offer("l0", 1)
    (held,) = desk.grant("b0", 1)
    plain = desk.ledger.snapshot()
    next(c for c in plain["clients"] if c["id"] == "b0")["present"] = False
    with pytest.raises(errors.InternalError, match=r"L2: the borrower of Grant\(id=1"):
        leases.Ledger.restore(plain)
    plain = desk.ledger.snapshot()
    next(c for c in plain["clients"] if c["id"] == "l0")["present"] = False
    with pytest.raises(
        errors.InternalError, match=r"L2: leases of \['l0', 'l1'\], lenders present"
    ):
        leases.Ledger.restore(plain)
    assert held.lender == "l0"
