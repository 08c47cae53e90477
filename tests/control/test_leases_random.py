"""Random calls by more clients, of more units: late messages, restarts of the ledger, jumps.

The steps are checked by `lease_checks.py`. Beyond it: whose hands are on which
unit, kept here by what clients vow, and what borrowers believe to hold.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aqua_jax.control import errors, lease_types, leases, ranges
from tests.control import lease_checks, lease_model
from tests.control.lease_model import BORROWER, FENCED, FREE, LENDER, Lent, Op, indices

LENDERS, BORROWERS = ("l0", "l1", "l2"), ("b0", "b1", "b2")
COUNTS = st.integers(1, 9)
MASKS = st.integers(1, (1 << 12) - 1)


class RandomLedger(RuleBasedStateMachine):
    """Each rule is one call by one client, which is there if it has to be."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = leases.Ledger(
            unit_bytes=1,
            pairs={"b0": "l0", "b1": "l0", "b2": "l2"},
            silence_seconds_max=2.0,
            jump_seconds_max=1.0,
        )
        self.sent: list[tuple[Op, lease_types.Stamp]] = []
        self.answers: dict[lease_types.Stamp, Any] = {}
        self.hands: dict[tuple[str, int], str] = {}
        self.believed: dict[str, dict[int, lease_types.Grant]] = {b: {} for b in BORROWERS}
        for client in LENDERS + BORROWERS:
            self.join(client)

    @property
    def seen(self) -> lease_model.View:
        return lease_model.view(self.ledger)

    @rule(client=st.sampled_from(LENDERS + BORROWERS))
    def join(self, client: str) -> None:
        role = LENDER if client in LENDERS else BORROWER
        self.step(Op("join", client, (role, self.seen.lives.get(client, 0) + 1)))

    @rule(lender=st.sampled_from(LENDERS), count=COUNTS)
    def offer(self, lender: str, count: int) -> None:
        self.step(Op("offer", lender, (count,)))

    @rule(lender=st.sampled_from(LENDERS), count=COUNTS)
    def withdraw(self, lender: str, count: int) -> None:
        self.step(Op("withdraw", lender, (count,)))

    @rule(lender=st.sampled_from(LENDERS), count=COUNTS, within=st.integers(-2, 9))
    def reclaim(self, lender: str, count: int, within: int) -> None:
        seen = self.seen
        if lender in seen.present:
            lent = len(seen.of(lender, FREE)) + len(seen.of(lender, FENCED))
            most = lent + len(seen.granted(lender)) - seen.wanted(lender)
            if most:
                self.step(Op("reclaim", lender, (min(count, most), seen.now + within)))

    @rule(lender=st.sampled_from(LENDERS), mask=MASKS)
    def scrub(self, lender: str, mask: int) -> None:
        units = chosen(self.seen.of(lender, FENCED), mask)
        if units:
            self.step(Op("scrubbed", lender, (units,)))

    @rule(borrower=st.sampled_from(BORROWERS), count=COUNTS, least=COUNTS)
    def grant(self, borrower: str, count: int, least: int) -> None:
        self.step(Op("grant", borrower, (count, min(count, least))))

    @rule(borrower=st.sampled_from(BORROWERS), which=st.integers(0, 9), mask=MASKS)
    def release(self, borrower: str, which: int, mask: int) -> None:
        seen = self.seen
        held = sorted({s.generation for s in seen.units.values() if is_held(s, borrower)})
        if held:
            generation = held[which % len(held)]
            mine = [i for (_, i), s in seen.units.items() if s == Lent(generation, borrower)]
            units = chosen(mine, mask)
            if units:
                self.step(Op("release", borrower, (seen.ids[generation], generation, units)))

    @rule(borrower=st.sampled_from(BORROWERS))
    def obey(self, borrower: str) -> None:
        """Gives back all that is called, the lowest units of each grant."""
        seen = self.seen
        if borrower not in seen.present:
            return
        for call in self.ledger.called(borrower):
            mine = [i for (_, i), s in self.seen.units.items() if s == Lent(call[1], borrower)]
            units = tuple((i, i + 1) for i in sorted(mine)[: call.units_count])
            self.step(Op("release", borrower, (call.grant, call.generation, units)))
        assert self.ledger.called(borrower) == ()

    @rule(client=st.sampled_from(LENDERS + BORROWERS))
    def leave(self, client: str) -> None:
        seen = self.seen
        if client in BORROWERS or not (seen.granted(client) or seen.of(client, FENCED)):
            self.step(Op("leave", client))

    @rule(client=st.sampled_from(LENDERS + BORROWERS))
    def fall_silent(self, client: str) -> None:
        self.step(Op("expire", client))

    @rule(which=st.integers(0, 1000))
    def message_comes_late(self, which: int) -> None:
        """Any message that was ever sent: the client's latest, or one to refuse."""
        if not self.sent:
            return
        op, by = self.sent[-1 - which % len(self.sent)]
        before = self.ledger.snapshot()
        current = {lease_types.Stamp(c, life, n) for c, (_, life, n) in self.seen.present.items()}
        try:
            answer = lease_model.call(self.ledger, op, by, self.seen.now)
        except (errors.StaleRequestError, errors.UnknownClientError):
            assert by not in current
        else:
            assert by in current or op.kind == "leave"
            assert answer == self.answers[by]
        assert self.ledger.snapshot() == before

    @rule()
    def ledger_restarts(self) -> None:
        plain = json.dumps(self.ledger.snapshot())
        self.ledger = leases.Ledger.restore(json.loads(plain))
        assert json.dumps(self.ledger.snapshot()) == plain

    @rule(seconds=st.sampled_from([-1000.0, -0.5, 0.5, 1.0, 3.0, 1e6]))
    def time_passes(self, seconds: float) -> None:
        """At once, by however much; then everybody is heard."""
        before = self.seen
        now = before.now + seconds
        told = self.ledger.tick(now)
        assert all(isinstance(event, lease_types.Overdue) for event in told)
        for client, (_, life, _) in before.present.items():
            self.ledger.heartbeat(client, incarnation=life, now=now)
        assert self.ledger.tick(now) == ()
        after = self.seen
        assert (after.units, after.owed, after.present) == (
            before.units,
            before.owed,
            before.present,
        )

    @invariant()
    def holds(self) -> None:
        self.ledger.check_integrity()
        lease_checks.check_view(self.ledger, self.seen)

    @invariant()
    def hands_are_on_what_is_granted_or_fenced(self) -> None:
        units = self.seen.units
        assert self.hands.keys() == {
            key for key, s in units.items() if s == FENCED or isinstance(s, Lent)
        }
        for key, borrower in self.hands.items():
            assert units[key] == FENCED or units[key].borrower == borrower

    @invariant()
    def borrowers_find_out_what_they_lost(self) -> None:
        for borrower, grants in self.believed.items():
            if borrower in self.seen.present:
                standing = self.ledger.standing(borrower)
                void = {grant.generation for grant in standing.void(grants.values())}
                alive = {grant.generation: grant for grant in standing.grants}
                assert alive == {g: grant for g, grant in grants.items() if g not in void}

    def step(self, op: Op) -> None:
        """One call that the ledger must not refuse, checked."""
        before = self.seen
        if op.kind != "join" and op.client not in before.present:
            return
        answer = lease_model.perform(self.ledger, op, before)
        if op.kind not in ("join", "expire"):
            by = lease_model.stamp(before, op.client)
            self.sent.append((op, by))
            self.answers[by] = answer
        lease_checks.check_step(before, op, answer, self.seen)
        self.move_hands(before, op, answer)

    def move_hands(self, before: lease_model.View, op: Op, answer: Any) -> None:
        """By what clients vow, not by what the ledger holds."""
        if op.kind == "grant":
            for grant in answer:
                self.believed[op.client][grant.generation] = grant
                for index in indices(grant.units):
                    assert (grant.lender, index) not in self.hands
                    self.hands[grant.lender, index] = op.client
        elif op.kind == "release":
            grant = self.believed[op.client].pop(op.args[1])
            given = indices(op.args[2])
            left = ranges.of((i, i + 1) for i in indices(grant.units) if i not in given)
            if left:
                self.believed[op.client][grant.generation] = grant._replace(units=left)
            for index in given:
                assert self.hands.pop((grant.lender, index)) == op.client
        elif op.kind == "scrubbed":
            for index in indices(op.args[0]):
                del self.hands[op.client, index]
        elif op.client in LENDERS and op.kind in ("join", "expire", "leave"):
            self.hands = {key: b for key, b in self.hands.items() if key[0] != op.client}
        elif op.kind == "leave":
            self.hands = {
                key: b
                for key, b in self.hands.items()
                if b != op.client or before.units[key] == FENCED
            }
            self.believed[op.client] = {}
        elif op.kind in ("join", "expire"):
            self.believed[op.client] = {}


def chosen(units: list[int], mask: int) -> tuple[tuple[int, int], ...]:
    """The units whose bits are set."""
    return tuple((unit, unit + 1) for n, unit in enumerate(sorted(units)) if mask >> n & 1)


def is_held(state: object, borrower: str) -> bool:
    return isinstance(state, Lent) and state.borrower == borrower


TestRandomLedger = RandomLedger.TestCase
TestRandomLedger.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, derandomize=True
)
