"""Lives, requests that come twice or late, silence, limits; and time that does not leap."""

from __future__ import annotations

import math

import pytest

from aqua_jax.control import errors, lease_clients, lease_types

LENDER, BORROWER = lease_types.Role.LENDER, lease_types.Role.BORROWER
OFFER = ("offer", "1")


def clients_of(*ids: str, clients_max: int = 4) -> lease_clients.Clients:
    """Lenders, all in life 1."""
    time = lease_clients.LedgerTime(jump_seconds_max=1.0)
    clients = lease_clients.Clients(time, silence_seconds_max=2.0, clients_max=clients_max)
    for id in ids:
        assert not clients.is_repeat(id, LENDER, 1)
        assert clients.join(id, LENDER, 1) is None
    return clients


def stamp(request: int, *, life: int = 1, id: str = "l0") -> lease_types.Stamp:
    return lease_types.Stamp(id, life, request)


def count(clients: lease_clients.Clients, by: lease_types.Stamp, done: list[int]) -> int:
    """A request whose work shows in `done`."""

    def work() -> int:
        done.append(by.request)
        return len(done)

    return clients.once(by, OFFER, LENDER, work)


def test_time_advances_with_the_callers_until_they_leap() -> None:
    time = lease_clients.LedgerTime(jump_seconds_max=1.0)
    for now, elapsed, skipped in [
        (50.25, 50.25, 0.0),
        (51.0, 51.0, 0.0),
        (60.0, 52.0, 8.0),
        (60.5, 52.5, 8.0),
        (10.5, 52.5, -42.0),
        (11.0, 53.0, -42.0),
    ]:
        time.advance(now)
        assert (time.elapsed, time.skipped) == (elapsed, skipped)


@pytest.mark.parametrize("now", [math.nan, math.inf])
def test_no_time_is_refused(now: float) -> None:
    time = lease_clients.LedgerTime(jump_seconds_max=1.0)
    time.advance(5.0)
    with pytest.raises(errors.LeaseError, match=f"now is {now}: expected seconds of a clock"):
        time.advance(now)
    assert time.elapsed == 5.0


def test_the_same_request_again_is_answered_as_before_and_does_nothing() -> None:
    clients, done = clients_of("l0"), []
    assert [count(clients, stamp(n), done) for n in (1, 1, 2, 2, 5, 5)] == [1, 1, 2, 2, 3, 3]
    assert done == [1, 2, 5]
    with pytest.raises(
        errors.StaleRequestError,
        match="request 2 of 'l0' comes after its request 5: it was given up, send nothing but the",
    ):
        count(clients, stamp(2), done)
    with pytest.raises(
        errors.StaleRequestError,
        match="request 5 of 'l0' was offer 1 and comes again as offer 2: give each call a number",
    ):
        clients.once(stamp(5), ("offer", "2"), LENDER, lambda: None)


def test_a_refusal_is_an_answer_too() -> None:
    clients, done = clients_of("l0"), []

    def refuse() -> None:
        done.append(1)
        raise errors.UnitsError("too many")

    for _ in range(2):
        with pytest.raises(errors.UnitsError, match="too many"):
            clients.once(stamp(1), OFFER, LENDER, refuse)
    assert done == [1]


def test_a_bug_is_no_answer() -> None:
    clients, done = clients_of("l0"), []

    def fail() -> None:
        raise errors.InternalError("broken")

    with pytest.raises(errors.InternalError):
        clients.once(stamp(1), OFFER, LENDER, fail)
    assert count(clients, stamp(1), done) == 1


def test_a_repeat_is_no_sign_of_life() -> None:
    clients, done = clients_of("l0"), []
    count(clients, stamp(1), done)
    for now in (0.0, 1.0, 2.0):
        clients.time.advance(now)
        count(clients, stamp(1), done)
    assert clients.silent() == []
    clients.time.advance(2.5)
    assert [client.id for client in clients.silent()] == ["l0"]
    count(clients, stamp(2), done)
    assert clients.silent() == []


def test_a_new_life_ends_the_old_one() -> None:
    clients, done = clients_of("l0"), []
    count(clients, stamp(7), done)
    assert clients.is_repeat("l0", LENDER, 1)
    former = clients.join("l0", LENDER, 3)
    assert former is not None
    assert former.incarnation == 1
    for late in (stamp(7), stamp(8)):
        with pytest.raises(
            errors.StaleRequestError, match="life 1 of 'l0' is over, life 3 has joined: a late mess"
        ):
            count(clients, late, done)
    with pytest.raises(errors.StaleRequestError, match="life 2 of 'l0' is over, life 3 has"):
        clients.is_repeat("l0", LENDER, 2)
    with pytest.raises(errors.UnknownClientError, match="life 4 of 'l0' has not joined, life 3 ha"):
        count(clients, stamp(1, life=4), done)
    assert count(clients, stamp(1, life=3), done) == 2


def test_one_who_is_gone_is_told_and_its_answers_hold_no_more() -> None:
    clients, done = clients_of("l0"), []
    count(clients, stamp(1), done)
    lease_clients.forget_requests(clients.by_id["l0"])
    for request in (1, 2):
        with pytest.raises(
            errors.UnknownClientError,
            match=r"life 1 of lender 'l0' has ended \(silent for too long, or it left\): drop all",
        ):
            count(clients, stamp(request), done)
    with pytest.raises(errors.UnknownClientError, match="has ended"):
        clients.hear("l0", 1)
    with pytest.raises(
        errors.UnknownClientError,
        match="life 1 of lender 'l0' has ended and lender 'l0' joins with it: expected a larger",
    ):
        clients.is_repeat("l0", LENDER, 1)
    assert not clients.is_repeat("l0", LENDER, 2)


def test_who_may_not_ask_is_told_who_may() -> None:
    clients = clients_of("l0")
    with pytest.raises(
        errors.UnknownClientError,
        match="'l0' is a lender and asks to grant: expected a borrower; who lends and borrows",
    ):
        clients.once(stamp(1), ("grant", "1"), BORROWER, lambda: None)
    with pytest.raises(errors.UnknownClientError, match="client 'l1' is not known: join first"):
        clients.once(stamp(1, id="l1"), OFFER, LENDER, lambda: None)
    with pytest.raises(
        errors.UnknownClientError, match="life 1 of lender 'l0' is there already an"
    ):
        clients.is_repeat("l0", BORROWER, 1)
    with pytest.raises(errors.UnknownClientError, match="no borrower 'l0' is known: join first"):
        clients.present("l0", BORROWER)


@pytest.mark.parametrize("request_number", [0, -1, 1.0, True])
def test_requests_are_counted_from_1(request_number) -> None:
    with pytest.raises(errors.LeaseError, match="expected requests counted from 1"):
        count(clients_of("l0"), stamp(request_number), [])


@pytest.mark.parametrize(("id", "life"), [("", 1), ("l0", 0), ("l0", 1.5)])
def test_a_life_has_a_name_and_a_number(id: str, life) -> None:
    with pytest.raises(errors.LeaseError, match="expected a name, and a whole number from 1"):
        clients_of().is_repeat(id, LENDER, life)


def test_the_one_gone_for_longest_is_forgotten_for_a_newcomer_and_nobody_else() -> None:
    clients = clients_of("l0", "l1", "l2", clients_max=3)
    for now in (0.0, 1.0):
        clients.time.advance(now)
        clients.hear("l1", 1)
    lease_clients.forget_requests(clients.by_id["l1"])
    lease_clients.forget_requests(clients.by_id["l2"])
    clients.join("l3", LENDER, 1)
    assert sorted(clients.by_id) == ["l0", "l1", "l3"]
    clients.join("l4", LENDER, 1)
    with pytest.raises(
        errors.LeaseError, match="3 clients are there and clients_max is 3: raise it"
    ):
        clients.join("l5", LENDER, 1)
    assert sorted(clients.by_id) == ["l0", "l3", "l4"]


def test_a_snapshot_has_answers_and_refusals() -> None:
    clients = clients_of("l0", "l1")
    answer = ((0, 2),)
    clients.once(stamp(1), OFFER, LENDER, lambda: answer)
    with pytest.raises(errors.UnitsError):
        clients.once(stamp(4, id="l1"), OFFER, LENDER, refuse)
    again = clients_of()
    again.restore(clients.snapshot())
    assert again.snapshot() == clients.snapshot()
    assert again.once(stamp(1), OFFER, LENDER, lambda: None) == answer
    with pytest.raises(errors.UnitsError, match="no"):
        again.once(stamp(4, id="l1"), OFFER, LENDER, lambda: None)


def refuse() -> None:
    raise errors.UnitsError("no")
