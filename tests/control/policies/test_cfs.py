"""Completely fair: charging, shares, the newcomer's start, the quantum."""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import types
from aqua_jax.control.policies import base, cfs


def session(id: int, **fields: Any) -> types.Session:
    """One that is past its first token."""
    request = types.Request(prompt_units=4, steps_max=400, **fields)
    return types.Session(id, request, 0.0, planned_cached=4, planned_known=5, fresh=False)


def make(**fields: Any) -> cfs.Cfs:
    return cfs.Cfs(base.PolicySettings(**fields))


def test_prefill_and_steps_are_charged_by_weight() -> None:
    policy = make()
    plain, heavy = session(1), session(2, weight=2.0)
    for one in (plain, heavy):
        policy.arrive(one, 0.0)
    for one in (plain, heavy):
        policy.charge(one, 8, 4)
    assert (plain.vtime, heavy.vtime) == (8.0, 4.0)
    assert plain.served == heavy.served == 8.0


def test_a_newcomer_starts_at_the_least_of_the_living_but_not_below_the_floor() -> None:
    policy = make(sessions_fair=4)
    old = session(1)
    policy.arrive(old, 0.0)
    policy.charge(old, 0, 40)
    assert policy.groups.named[""].floor == 10.0
    new = session(2)
    policy.arrive(new, 0.0)
    assert new.vtime == 10.0
    late = session(3)
    policy.arrive(late, 25.0)
    assert late.vtime == 25.0


def test_tenants_go_by_their_service_over_their_weight_whatever_their_sessions_had() -> None:
    policy = make(tenant_weights={"a": 3.0})
    heavy, light, other = session(1, tenant="a"), session(2, tenant="a"), session(3, tenant="b")
    for one in (heavy, light, other):
        policy.arrive(one, 0.0)
    policy.charge(heavy, 0, 30)
    policy.charge(other, 0, 20)
    assert [policy.groups.named[name].vtime for name in "ab"] == [10.0, 20.0]
    assert policy.key(light) < policy.key(heavy) < policy.key(other)
    policy.charge(light, 0, 33)
    assert policy.key(other) < policy.key(heavy)
    waiting = policy.groups.keys("a", [heavy, light])
    assert list(waiting) == [policy.key(heavy), policy.key(light)]


def test_a_tenant_that_returns_is_lifted_to_the_least_of_the_busy() -> None:
    policy = make()
    idle, busy = session(1, tenant="idle"), session(2, tenant="busy")
    policy.arrive(idle, 0.0)
    policy.end(idle)
    policy.arrive(busy, 0.0)
    policy.charge(busy, 0, 50)
    policy.arrive(session(3, tenant="idle"), 0.0)
    assert policy.groups.named["idle"].vtime == 50.0
    policy.arrive(session(4, tenant="idle"), 0.0)  # its second: no lift
    policy.charge(busy, 0, 50)
    assert policy.groups.named["idle"].vtime == 50.0


def test_tenants_that_went_are_forgotten_and_those_that_live_are_not() -> None:
    policy = make()
    stays = session(0, tenant="stays")
    policy.arrive(stays, 0.0)
    for id in range(1, 5000):
        one = session(id, tenant=f"t{id}")
        policy.arrive(one, 0.0)
        policy.end(one)
    assert len(policy.groups.named) <= 1025
    assert "stays" in policy.groups.named


def test_displacing_takes_a_spent_quantum_and_less_service() -> None:
    policy = make(quantum_tokens=8)
    running, waiting = session(1), session(2)
    for one in (running, waiting):
        policy.arrive(one, 0.0)
    policy.charge(running, 0, 7)
    assert policy.quantum_used(running) == pytest.approx(7 / 8)
    assert not policy.may_displace(waiting, running)
    policy.charge(running, 0, 1)
    assert policy.may_displace(waiting, running)
    policy.charge(waiting, 0, 9)
    assert not policy.may_displace(waiting, running)


def test_a_newcomer_stands_ahead_and_waits_for_less_than_a_quantum() -> None:
    policy = make(quantum_tokens=64, newcomer_quantum_tokens=4, newcomer_lead_tokens=100.0)
    running, newcomer, next_ = (session(id) for id in (1, 2, 3))
    for one in (newcomer, next_):
        one.fresh, one.planned_cached = True, 0
    for one in (running, newcomer, next_):
        policy.arrive(one, 50.0)
    assert policy.displaced_from == 4 / 64
    policy.charge(running, 0, 3)
    assert not policy.may_displace(newcomer, running)
    policy.charge(running, 0, 1)
    assert policy.may_displace(newcomer, running)
    policy.charge(newcomer, 30, 0)  # its prefill does not cost it its place
    assert policy.key(newcomer) < policy.key(next_) < policy.key(running)
    assert not policy.may_displace(next_, newcomer)
    newcomer.fresh = False  # its first token is planned
    assert policy.key(next_) < policy.key(running) < policy.key(newcomer)


def test_the_lead_of_newcomers_is_bounded() -> None:
    policy = make(newcomer_lead_tokens=100.0)
    waiting, newcomer = session(1), session(2)
    newcomer.fresh = True
    policy.arrive(waiting, 0.0)
    policy.arrive(newcomer, 99.0)
    assert policy.key(newcomer) < policy.key(waiting)
    newcomer.vtime_at_start = 101.0
    assert policy.key(waiting) < policy.key(newcomer)


def test_who_stands_before_all_newcomers_waits_less_for_one_who_does_not() -> None:
    policy = make(quantum_tokens=64, newcomer_quantum_tokens=4, newcomer_lead_tokens=100.0)
    waiting, running = session(1), session(2)
    policy.arrive(waiting, 0.0)
    policy.arrive(running, 0.0)
    policy.charge(running, 0, 8)
    policy.groups.named[""].floor = 100.0
    assert policy.may_displace(waiting, running)
    policy.groups.named[""].floor = 108.0  # newcomers overtake neither
    assert not policy.may_displace(waiting, running)
    policy.charge(running, 0, 56)
    assert policy.may_displace(waiting, running)


def test_tenants_at_the_same_place_give_way_to_each_other_by_whole_quanta() -> None:
    policy = make(quantum_tokens=64, newcomer_quantum_tokens=4, newcomer_lead_tokens=100.0)
    waiting, running = session(1, tenant="a"), session(2, tenant="b")
    for one in (waiting, running):
        policy.arrive(one, 0.0)
        policy.groups.named[one.request.tenant].floor = 1000.0
    policy.charge(running, 0, 4)
    assert policy.key(waiting) < policy.key(running)
    assert not policy.may_displace(waiting, running)
    policy.groups.named["b"].floor = 0.0  # newcomers of b would go before it
    assert policy.may_displace(waiting, running)


def test_a_prefill_has_a_quantum_of_its_own() -> None:
    policy = make(quantum_tokens=2, prefill_quantum_tokens=100)
    running = session(1)
    policy.arrive(running, 0.0)
    running.planned_cached, running.planned_known = 0, 300
    policy.charge(running, 100, 0)
    assert policy.quantum_used(running) == 0.5
    running.planned_cached = 299
    assert policy.quantum_used(running) > 1


def test_the_quantum_grows_with_the_share_of_prefill_eightfold_at_most() -> None:
    policy = make(quantum_tokens=10)
    running = session(1)
    policy.arrive(running, 0.0)
    running.served = 10.0
    assert policy.quantum_used(running) == 1.0
    policy.prefill_share = 0.5
    assert policy.quantum_used(running) == 0.5
    for share in (0.99, 1.0):
        policy.prefill_share = share
        assert policy.quantum_used(running) == 0.125


def test_the_share_of_prefill_follows_the_load() -> None:
    policy = make()
    one = session(1)
    policy.arrive(one, 0.0)
    for _ in range(200):
        policy.charge(one, 200, 0)
    assert policy.prefill_share > 0.95
    for _ in range(200):
        policy.charge(one, 0, 100)
    assert policy.prefill_share < 0.05


def test_a_prefill_keeps_its_place_for_its_quantum() -> None:
    policy = make(prefill_quantum_tokens=10)
    first, second = session(1), session(2)
    for one in (first, second):
        policy.arrive(one, 0.0)
        one.fresh, one.planned_cached = True, 0
    policy.charge(first, 10, 0)
    first.planned_cached = 10
    assert policy.prefill_key(first) < policy.prefill_key(second)
    policy.charge(first, 1, 0)
    first.planned_cached = 11
    assert policy.prefill_key(second) < policy.prefill_key(first)
