"""Every state that two lenders, two borrowers and three units can reach, one call at a time.

Breadth-first over all interleavings of all calls: join (again, too), leave and
silence of each client, offers, withdrawals and reclaims of each size, grants of
each size and least, releases and scrubs of each set of units. After each call
`lease_checks.py` says what may have changed; in each state the invariants are
stated anew, wrong calls are refused, repeats of each client's latest request
change nothing, and the snapshot is the state.

States are equal when they differ in generations (by rank), times and request
numbers only. The short exploration also takes units of one lender that are in
one state as equal: which indices a grant gets changes no count, as the long one
shows, which keeps them apart.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence

import pytest

from aqua_jax.control import errors, lease_types, leases
from tests.control import lease_checks, lease_model
from tests.control.lease_model import BORROWER, FENCED, FREE, HOME, LENDER, Lent, Op, View

LENDERS, BORROWERS, UNITS = ("l0", "l1"), ("b0", "b1"), 3
SOON, LATE = 1e6, 2e6

Canonical = Callable[[View], Hashable]


@dataclasses.dataclass(slots=True)
class State:
    """One way to get there. `latest`: by client its last request, stamped, with the answer."""

    pickled: bytes
    seen: View
    latest: dict[str, tuple[Op, lease_types.Stamp, object]]


@dataclasses.dataclass
class Explored:
    """All states by canonical key. `helps`: where releases and scrubs lead from each."""

    states: dict[Hashable, State] = dataclasses.field(default_factory=dict)
    helps: dict[Hashable, set[Hashable]] = dataclasses.field(default_factory=dict)
    steps: int = 0


def explore(canonical: Canonical, deadlines: Sequence[float]) -> Explored:
    start = leases.Ledger(
        unit_bytes=1,
        pairs={"b0": "l0", "b1": "l1"},
        silence_seconds_max=2.0,
        jump_seconds_max=1.0,
    )
    seen = lease_model.view(start)
    found = Explored({canonical(seen): State(pickle.dumps(start), seen, {})})
    queue = deque(found.states)
    while queue:
        key = queue.popleft()
        state = found.states[key]
        found.helps[key] = set()
        for op in calls(state.seen, deadlines):
            ledger = pickle.loads(state.pickled)
            try:
                answer = lease_model.perform(ledger, op, state.seen)
            except errors.UnitsError:
                assert op.kind == "leave"  # the others are possible; see `check_refusals`
                continue
            after = lease_model.view(ledger)
            lease_checks.check_step(state.seen, op, answer, after)
            found.steps += 1
            reached = canonical(after)
            if op.kind in ("release", "scrubbed"):
                found.helps[key].add(reached)
            if reached not in found.states:
                ledger.check_integrity()
                latest = remember(state, op, answer)
                found.states[reached] = State(pickle.dumps(ledger), after, latest)
                queue.append(reached)
    return found


def calls(seen: View, deadlines: Sequence[float]) -> Iterator[Op]:
    """Every call that somebody can make in this state, but for those that must be refused."""
    for client in (*LENDERS, *BORROWERS):
        role = LENDER if client in LENDERS else BORROWER
        yield Op("join", client, (role, seen.lives.get(client, 0) + 1))
        if client not in seen.present:
            continue
        yield Op("expire", client)
        yield Op("leave", client)
        yield from (
            lender_calls(seen, client, deadlines)
            if client in LENDERS
            else borrower_calls(seen, client)
        )


def lender_calls(seen: View, lender: str, deadlines: Sequence[float]) -> Iterator[Op]:
    lent_by_all = sum(state != HOME for state in seen.units.values())
    states = [state for (name, _), state in seen.units.items() if name == lender]
    lent = len(states) - states.count(HOME)
    for count in range(1, UNITS + 1):
        if lent_by_all + count - min(count, seen.wanted(lender)) <= UNITS:
            yield Op("offer", lender, (count,))
    for count in range(1, min(UNITS, len(seen.of(lender, FREE)) + 1) + 1):
        yield Op("withdraw", lender, (count,))
    for count in range(1, lent - seen.wanted(lender) + 1):
        for deadline in deadlines:
            yield Op("reclaim", lender, (count, deadline))
    for units in parts(seen.of(lender, FENCED)):
        yield Op("scrubbed", lender, (units,))


def borrower_calls(seen: View, borrower: str) -> Iterator[Op]:
    grantable = seen.grantable()
    for count in range(1, min(UNITS, grantable + 1) + 1):
        yield Op("grant", borrower, (count, 1))
    if grantable:
        yield Op("grant", borrower, (grantable + 1, grantable + 1))
    held: dict[int, list[int]] = {}
    for (_, index), state in seen.units.items():
        if isinstance(state, Lent) and state.borrower == borrower:
            held.setdefault(state.generation, []).append(index)
    for generation, units in held.items():
        for part in parts(units):
            yield Op("release", borrower, (seen.ids[generation], generation, part))


def parts(units: Sequence[int]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every set of some of the units."""
    for size in range(1, len(units) + 1):
        for chosen in itertools.combinations(sorted(units), size):
            yield tuple((unit, unit + 1) for unit in chosen)


def remember(
    state: State, op: Op, answer: object
) -> dict[str, tuple[Op, lease_types.Stamp, object]]:
    """Who was counted as gone has no answers any more."""
    latest = dict(state.latest)
    if op.kind in ("join", "expire"):
        latest.pop(op.client, None)
    else:
        latest[op.client] = (op, lease_model.stamp(state.seen, op.client), answer)
    return latest


def by_unit(seen: View) -> Hashable:
    """All but generations, of which the ranks stay."""
    rank = {generation: number for number, generation in enumerate(sorted(seen.ids))}
    units = [
        (key, (rank[state.generation], state.borrower) if isinstance(state, Lent) else state)
        for key, state in sorted(seen.units.items())
    ]
    return tuple(sorted(seen.present)), tuple(units), owed(seen)


def by_count(seen: View) -> Hashable:
    """How many units of each lender are in each state, and in each grant from the oldest on."""
    grants: dict[int, list[object]] = {generation: ["", "", 0] for generation in sorted(seen.ids)}
    counts: dict[object, int] = {}
    for (lender, _), state in seen.units.items():
        if isinstance(state, Lent):
            size = grants[state.generation][2]
            assert isinstance(size, int)
            grants[state.generation] = [lender, state.borrower, size + 1]
        elif state != HOME:
            counts[lender, state] = counts.get((lender, state), 0) + 1
    sizes = tuple(tuple(grant) for grant in grants.values())
    return tuple(sorted(seen.present)), tuple(sorted(counts.items(), key=str)), sizes, owed(seen)


def owed(seen: View) -> Hashable:
    return tuple((lender, tuple(wanted)) for lender, wanted in sorted(seen.owed.items()) if wanted)


def check_states(found: Explored, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{len(found.states)} states, {found.steps} steps ")
    for state in found.states.values():
        ledger = pickle.loads(state.pickled)
        lease_checks.check_view(ledger, state.seen)
        check_repeats(ledger, state)
        plain = ledger.snapshot()
        again = leases.Ledger.restore(json.loads(json.dumps(plain)))
        assert again.snapshot() == plain
        lease_checks.check_refusals(again)


def check_repeats(ledger: leases.Ledger, state: State) -> None:
    before = ledger.snapshot()
    for op, by, answer in state.latest.values():
        assert lease_model.call(ledger, op, by, state.seen.now) == answer
    for client, (role, life, _) in state.seen.present.items():
        assert ledger.join(client, role, incarnation=life, now=state.seen.now) == ()
    assert ledger.snapshot() == before


def check_reclaims_complete(found: Explored) -> None:
    """From every state a way of releases and scrubs leads to one where no reclaim is open."""
    sources: dict[Hashable, list[Hashable]] = {}
    for key, reached in found.helps.items():
        for other in reached:
            sources.setdefault(other, []).append(key)
    done = {key for key, state in found.states.items() if not any(state.seen.owed.values())}
    assert 0 < len(done) < len(found.states)
    queue = deque(done)
    while queue:
        for key in sources.get(queue.popleft(), ()):
            if key not in done:
                done.add(key)
                queue.append(key)
    assert len(done) == len(found.states)


def test_every_state_that_counts_tell_apart(capsys: pytest.CaptureFixture[str]) -> None:
    found = explore(by_count, [SOON])
    check_states(found, capsys)
    check_reclaims_complete(found)
    assert len(found.states) == 3604


@pytest.mark.long
def test_every_state_unit_by_unit_has_no_other_counts(capsys: pytest.CaptureFixture[str]) -> None:
    found = explore(by_unit, [SOON])
    check_states(found, capsys)
    check_reclaims_complete(found)
    assert len(found.states) == 23808
    counts = {by_count(state.seen) for state in found.states.values()}
    assert counts == explore(by_count, [SOON]).states.keys()


@pytest.mark.long
def test_every_state_with_two_deadlines(capsys: pytest.CaptureFixture[str]) -> None:
    found = explore(by_count, [SOON, LATE])
    check_states(found, capsys)
    check_reclaims_complete(found)
    assert len(found.states) == 8812
