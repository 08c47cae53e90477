"""Virtual token counters: who goes next, the lift, what is charged and to whom."""

from __future__ import annotations

from typing import Any

from aqua_jax.control import queue, types
from aqua_jax.control.policies import base, vtc


class Tenants:
    """A policy and its queue; sessions are admitted by hand."""

    def __init__(self, **fields: Any) -> None:
        self.policy = vtc.Vtc(base.PolicySettings(name="vtc", **fields))
        self.queue = queue.Queue(self.policy)
        self.ids = 0

    def submit(self, tenant: str, prompt_units: int = 8) -> types.Session:
        self.ids += 1
        request = types.Request(prompt_units=prompt_units, steps_max=400, tenant=tenant)
        session = types.Session(self.ids, request, 0.0, planned_known=prompt_units)
        self.policy.arrive(session, 0.0)
        self.queue.add(session)
        return session

    def admit(self, session: types.Session, steps: int = 0) -> None:
        """Its prompt is prefilled, and so many steps decided."""
        self.queue.discard(session)
        self.policy.charge(session, session.request.prompt_units, steps)

    def end(self, session: types.Session) -> None:
        self.queue.discard(session)
        self.policy.end(session)

    @property
    def order(self) -> list[int]:
        return [session.id for session in self.queue]

    @property
    def counted(self) -> dict[str, float]:
        return self.policy.groups.counted


def test_tenants_take_turns_by_what_they_are_charged() -> None:
    tenants = Tenants()
    for tenant in "aaaab":
        tenants.submit(tenant)
    last = tenants.submit("b", prompt_units=100)
    assert tenants.order == [1, 5, 2, 6, 3, 4]  # 6 costs after it was admitted, not before
    assert last.id == 6


def test_the_prompt_is_charged_once_when_admitted_and_steps_as_decided() -> None:
    tenants = Tenants()
    first = tenants.submit("a", prompt_units=10)
    second = tenants.submit("a")
    tenants.submit("b")
    assert tenants.counted == {"a": 0.0, "b": 0.0}
    tenants.queue.discard(first)
    tenants.policy.charge(first, 4, 0)
    assert tenants.counted == {"a": 5.0, "b": 0.0}  # all of it, though 4 units run now
    tenants.policy.charge(first, 6, 3)
    assert tenants.counted == {"a": 8.0, "b": 0.0}
    assert first.vtime == first.served == 8.0
    assert tenants.order == [3, 2]
    assert second.vtime == 0.0


def test_input_counts_half_of_output_and_weights_change_that() -> None:
    tenants = Tenants(weights=base.Weights(prefill=1.0, decode=3.0), tenant_weights={"a": 2.0})
    for session in [tenants.submit("a"), tenants.submit("b")]:
        tenants.admit(session, steps=4)
    assert tenants.counted == {"a": 10.0, "b": 20.0}
    assert Tenants().policy.service(2, 0) == Tenants().policy.service(0, 1)


def test_who_was_admitted_comes_back_before_all_others_and_pays_nothing_for_it() -> None:
    tenants = Tenants()
    first = tenants.submit("a")
    tenants.admit(first, steps=50)
    second = tenants.submit("a")
    tenants.admit(second, steps=5)
    tenants.submit("b")
    charged = dict(tenants.counted)
    for lost in (second, first):
        tenants.queue.add(lost)
    assert tenants.order == [1, 2, 3]
    tenants.queue.discard(first)
    tenants.policy.charge(first, 58, 0)
    assert tenants.counted == charged


def test_a_tenant_that_returns_is_lifted_to_the_least_of_those_that_wait() -> None:
    tenants = Tenants()
    pair = [tenants.submit("a"), tenants.submit("b")]
    for session, steps in zip(pair, (40, 90), strict=True):
        tenants.submit(session.request.tenant)
        tenants.admit(session, steps=steps)
    tenants.submit("c")
    assert tenants.counted == {"a": 44.0, "b": 94.0, "c": 44.0}
    tenants.submit("c")
    assert tenants.counted["c"] == 44.0  # it waits: it is lifted no more


def test_when_nobody_waits_it_is_lifted_to_the_last_who_did() -> None:
    tenants = Tenants()
    tenants.admit(tenants.submit("a"), steps=40)
    tenants.admit(tenants.submit("b"), steps=6)  # lifted to 44 by a
    assert tenants.counted == {"a": 44.0, "b": 54.0}
    tenants.submit("c")
    assert tenants.counted["c"] == 54.0


def test_a_tenant_ahead_of_the_others_is_not_lowered() -> None:
    tenants = Tenants()
    rich = tenants.submit("a")
    tenants.admit(rich, steps=100)
    tenants.submit("b")
    tenants.end(rich)
    tenants.counted["b"] = 7.0
    tenants.submit("a")
    assert tenants.counted["a"] == 104.0


def test_one_that_ends_while_it_waits_was_never_charged() -> None:
    tenants = Tenants()
    waiting = tenants.submit("a")
    tenants.submit("b")
    tenants.end(waiting)
    assert tenants.order == [2]
    assert tenants.counted["a"] == 0.0
    tenants.submit("a")
    assert tenants.order == [2, 3]


def test_tenants_that_were_passed_are_forgotten() -> None:
    tenants = Tenants()
    stays = tenants.submit("stays")
    tenants.admit(stays)
    for number in range(10_000):
        session = tenants.submit(f"once {number}")
        tenants.admit(session, steps=1)
        tenants.end(session)
    assert len(tenants.counted) < 4 * 1024
    assert "stays" in tenants.counted


def test_nobody_is_displaced_and_lanes_are_filled_before_newcomers_prefill() -> None:
    tenants = Tenants()
    first, second = tenants.submit("a"), tenants.submit("b")
    assert not tenants.policy.may_displace(second, first)
    assert tenants.policy.quantum_used(first) == 1.0
    assert tenants.policy.key(first) < tenants.policy.key(second)
    second.lane = 0
    assert tenants.policy.prefill_key(second) < tenants.policy.prefill_key(first)
