"""What the ledger must do, said a second time and naively: units one by one, in plain dicts.

Knows: views and calls (`lease_model.py`). Does not know: ranges, books, orders;
nothing here is taken from the implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aqua_jax.control import errors, lease_types, leases
from tests.control import lease_model
from tests.control.lease_model import BORROWER, FENCED, FREE, HOME, LENDER, Lent, Op, View, indices


def check_view(ledger: leases.Ledger, seen: View) -> None:
    """L1 to L6 in one state, from the snapshot and the public answers alone."""
    for (lender, _), state in seen.units.items():
        assert seen.present[lender][0] is LENDER
        if isinstance(state, Lent):
            assert seen.present[state.borrower][0] is BORROWER
            assert state.generation <= seen.generation
    calls = [
        entry
        for client, (role, _, _) in seen.present.items()
        if role is BORROWER
        for entry in ledger.called(client)
    ]
    for lender, owed in seen.owed.items():
        wanted, fenced = seen.wanted(lender), seen.of(lender, FENCED)
        assert all(count > 0 for _, count in owed)
        assert [deadline for deadline, _ in owed] == sorted(deadline for deadline, _ in owed)
        if owed:
            assert not seen.of(lender, FREE), "a unit idles while its lender waits"
        granted = seen.granted(lender)
        assert wanted <= len(granted) + len(fenced)
        called = sum(entry.units_count for entry in calls if entry.lender == lender)
        assert called == max(0, wanted - len(fenced))
        status = ledger.reclaim_status(lender)
        assert [entry.left_count for entry in status] == [count for _, count in owed]
    for generation in {entry.generation for entry in calls}:
        called = sum(entry.units_count for entry in calls if entry.generation == generation)
        held = sum(isinstance(s, Lent) and s.generation == generation for s in seen.units.values())
        assert 0 < called <= held


def check_step(before: View, op: Op, answer: Any, after: View) -> None:
    """Every unit that changed may have by this call, and as many changed as should."""
    changed = {
        key: (before.units.get(key, HOME), after.units.get(key, HOME))
        for key in before.units.keys() | after.units.keys()
        if before.units.get(key, HOME) != after.units.get(key, HOME)
    }
    _CHECKS[op.kind](before, op, answer, after, changed)
    joined = op.client if op.kind == "join" else ""
    assert after.present.keys() - before.present.keys() <= {joined}
    gone = before.present.keys() - after.present.keys()
    assert gone <= ({op.client} if op.kind in ("leave", "expire") else set())
    for lender in after.owed:  # nobody else's reclaims change but by what comes back
        if lender in before.owed and lender != op.client:
            came = sum(key[0] == lender and new == HOME for key, (_, new) in changed.items())
            assert after.wanted(lender) == before.wanted(lender) - came


def _check_offer(before, op, answer, after, changed) -> None:
    (count,) = op.args
    off = min(count, before.wanted(op.client))
    left, expected = off, []
    for deadline, wanted in reversed(before.owed[op.client]):  # the latest is called off first
        part = min(left, wanted)
        left -= part
        expected += [(deadline, wanted - part)] if wanted > part else []
    assert after.owed == {**before.owed, op.client: expected[::-1]}
    assert all(states == (HOME, FREE) and key[0] == op.client for key, states in changed.items())
    assert sorted(index for _, index in changed) == indices(answer)
    assert len(changed) == count - off


def _check_withdraw(before, op, answer, after, changed) -> None:
    _free_come_home(before, op, answer, changed)
    assert after.owed == before.owed


def _check_reclaim(before, op, answer, after, changed) -> None:
    count, deadline = op.args
    _free_come_home(before, op, answer.home, changed)
    left = count - len(changed)
    assert left == answer.left_count
    wanted = list(before.owed[op.client])
    if left:
        wanted.append((deadline - before.skipped, left))
    assert after.owed == {**before.owed, op.client: sorted(wanted, key=lambda entry: entry[0])}


def _free_come_home(before, op, home, changed) -> None:
    assert all(states == (FREE, HOME) and key[0] == op.client for key, states in changed.items())
    assert sorted(index for _, index in changed) == indices(home)
    assert len(changed) == min(op.args[0], len(before.of(op.client, FREE)))


def _check_grant(before, op, answer, after, changed) -> None:
    count, least = op.args
    given = min(count, before.grantable())
    assert len(changed) == (given if given >= least else 0)
    assert after.owed == before.owed
    granted = {
        (grant.lender, index): (FREE, Lent(grant.generation, op.client))
        for grant in answer
        for index in indices(grant.units)
    }
    assert changed == granted
    assert len({grant.lender for grant in answer}) == len(answer)
    assert all(grant.generation > before.generation for grant in answer)
    # Who must go elsewhere uses up each lender but the last.
    assert all(not after.of(grant.lender, FREE) for grant in answer[:-1])


def _comes_back(before, lender, named, after, changed, was) -> None:
    """`named` units of the lender were given back: to its reclaims, the others FREE."""
    assert {index for name, index in changed if name == lender} == set(named)
    home = sum(changed[lender, index][1] == HOME for index in named)
    assert home == min(len(named), before.wanted(lender))
    for index in named:
        old, new = changed[lender, index]
        assert was(old)
        assert new in (HOME, FREE)
    left = home
    expected = []
    for deadline, count in before.owed[lender]:  # the earliest deadline first
        part = min(left, count)
        left -= part
        expected += [(deadline, count - part)] if count > part else []
    assert after.owed[lender] == expected


def _check_release(before, op, answer, after, changed) -> None:
    _, generation, units = op.args
    mine = Lent(generation, op.client)
    lenders = {name for (name, _), state in before.units.items() if state == mine}
    assert {name for name, _ in changed} == lenders
    (lender,) = lenders
    _comes_back(before, lender, indices(units), after, changed, lambda old: old == mine)
    assert answer is None


def _check_scrubbed(before, op, answer, after, changed) -> None:
    (units,) = op.args
    assert {name for name, _ in changed} == {op.client}
    _comes_back(before, op.client, indices(units), after, changed, lambda old: old == FENCED)
    home = sorted(index for (_, index), (_, new) in changed.items() if new == HOME)
    assert home == indices(answer)


def _check_leave(before, op, answer, after, changed) -> None:
    assert op.client not in after.present
    if before.present[op.client][0] is LENDER:
        assert all(key[0] == op.client for key in changed)
        assert all(states == (FREE, HOME) for states in changed.values())
        assert sorted(index for _, index in changed) == indices(answer)
        return
    mine = _held(before, op.client)
    for lender in {name for name, _ in mine}:
        named = [index for name, index in mine if name == lender]
        _comes_back(before, lender, named, after, changed, lambda old: old.borrower == op.client)
    assert set(changed) == set(mine)


def _check_end(before, op, answer, after, changed) -> None:
    """By silence, or by joining anew while it was PRESENT."""
    if op.client not in before.present:
        assert not changed
        assert answer == ()
        return
    mine = _held(before, op.client)
    if before.present[op.client][0] is BORROWER:
        assert {key: new for key, (_, new) in changed.items()} == dict.fromkeys(mine, FENCED)
        ended = [event for event in answer if isinstance(event, lease_types.Fenced)]
        assert after.owed == before.owed
    else:
        mine = [key for key, s in before.units.items() if key[0] == op.client]
        assert all(key[0] == op.client for key in changed)
        assert not after.owed.get(op.client)
        assert not after.of(op.client, FREE)
        mine = [key for key in mine if isinstance(before.units[key], Lent)]
        ended = [event for event in answer if isinstance(event, lease_types.Voided)]
    told = [(event.grant.lender, i) for event in ended for i in indices(event.grant.units)]
    assert sorted(told) == sorted(mine)
    expired = [event for event in answer if isinstance(event, lease_types.Expired)]
    assert [(event.client, event.incarnation) for event in expired] == [
        (op.client, before.present[op.client][1])
    ]


def _held(seen: View, borrower: str) -> list[tuple[str, int]]:
    return [key for key, s in seen.units.items() if isinstance(s, Lent) and s.borrower == borrower]


_CHECKS = {
    "offer": _check_offer,
    "withdraw": _check_withdraw,
    "reclaim": _check_reclaim,
    "grant": _check_grant,
    "release": _check_release,
    "scrubbed": _check_scrubbed,
    "leave": _check_leave,
    "expire": _check_end,
    "join": _check_end,
}


def check_refusals(ledger: leases.Ledger) -> None:
    """Wrong calls are refused by name and change nothing (L3, L8). Uses up request numbers."""
    before = ledger.snapshot()
    seen = lease_model.view(ledger)
    requests = {client: request for client, (_, _, request) in seen.present.items()}
    for op, changes, error in _wrong_calls(seen):
        by = lease_model.stamp(seen, op.client)
        by = by._replace(**{"request": requests[op.client] + 1, **changes})
        first, again = (_refusal(ledger, op, by, seen.now) for _ in range(2))
        assert type(first) is error, f"{op} as {by}: {first!r}"
        assert (type(again), str(again)) == (error, str(first))
        if error not in (errors.UnknownClientError, errors.StaleRequestError, errors.LeaseError):
            requests[op.client] += 1  # the refusal was the answer to this number
    after = ledger.snapshot()
    assert after["book"] == before["book"]
    assert [client["present"] for client in after["clients"]] == [
        client["present"] for client in before["clients"]
    ]


def _refusal(ledger, op, by, now) -> errors.LeaseError | None:
    try:
        lease_model.call(ledger, op, by, now)
    except errors.LeaseError as refusal:
        return refusal
    return None


Wrong = tuple[Op, dict[str, Any], type[errors.LeaseError]]


def _wrong_calls(seen: View) -> Iterator[Wrong]:
    """Calls, what is wrong with their stamps, the errors that refuse them."""
    for client, (role, incarnation, request) in seen.present.items():
        borrow, lend = Op("grant", client, (1, 1)), Op("withdraw", client, (1,))
        own, others = (lend, borrow) if role is LENDER else (borrow, lend)
        yield others, {}, errors.UnknownClientError
        yield own, {"incarnation": incarnation + 1}, errors.UnknownClientError
        yield own, {"client": "stranger"}, errors.UnknownClientError
        yield own, {"request": 0}, errors.LeaseError
        if incarnation > 1:
            yield own, {"incarnation": incarnation - 1}, errors.StaleRequestError
        if request > 1:
            yield own, {"request": 1}, errors.StaleRequestError
        yield from (
            _wrong_of_lender(seen, client) if role is LENDER else _wrong_of_borrower(seen, client)
        )


def _wrong_of_lender(seen: View, client: str) -> Iterator[Wrong]:
    mine = {i: state for (name, i), state in seen.units.items() if name == client}
    lent = sum(state != HOME for state in mine.values())
    for count in (0, -1, lent - seen.wanted(client) + 1):
        yield Op("reclaim", client, (count, 1.0)), {}, errors.UnitsError
    for kind in ("offer", "withdraw"):
        yield Op(kind, client, (0,)), {}, errors.UnitsError
    yield Op("scrubbed", client, ((),)), {}, errors.UnitsError
    for i, state in mine.items():
        twice = ((i, i + 1), (i, i + 1))
        yield Op("scrubbed", client, (twice,)), {}, errors.UnitsError
        if state != FENCED:
            yield Op("scrubbed", client, (((i, i + 1),),)), {}, errors.UnitsError
    if any(isinstance(state, Lent) or state == FENCED for state in mine.values()):
        yield Op("leave", client), {}, errors.UnitsError


def _wrong_of_borrower(seen: View, client: str) -> Iterator[Wrong]:
    yield Op("grant", client, (0, 0)), {}, errors.UnitsError
    yield Op("grant", client, (1, 2)), {}, errors.UnitsError
    ended = [g for g in range(1, seen.generation + 2) if g not in seen.ids]
    for id in {1, *seen.ids.values()}:
        for generation in ended[-2:]:  # the latest that has ended, and one that is not given yet
            stale = Op("release", client, (id, generation, ((0, 1),)))
            yield stale, {}, errors.StaleGrantError
    lowest = {s: key for key, s in sorted(seen.units.items(), reverse=True) if isinstance(s, Lent)}
    for state, (lender, i) in lowest.items():
        grant = (seen.ids[state.generation], state.generation)
        if state.borrower != client:
            yield Op("release", client, (*grant, ((i, i + 1),))), {}, errors.ForeignGrantError
            continue
        above = next(n for n in range(i, i + 100) if seen.units.get((lender, n)) != state)
        for units in ((), ((i, i),), ((i, i + 1), (i, i + 1)), ((i, above + 1),)):
            yield Op("release", client, (*grant, units)), {}, errors.UnitsError
