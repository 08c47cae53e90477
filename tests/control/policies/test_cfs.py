"""Completely fair: charging, shares, the newcomer's start, the quantum."""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import types
from aqua_jax.control.policies import base, cfs


def session(id: int, **fields: Any) -> types.Session:
    request = types.Request(prompt_units=4, steps_max=400, **fields)
    return types.Session(id, request, 0.0, planned_cached=4, planned_known=5)


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
    assert policy.floor == 10.0
    new = session(2)
    policy.arrive(new, 0.0)
    assert new.vtime == 10.0
    late = session(3)
    policy.arrive(late, 25.0)
    assert late.vtime == 25.0


def test_a_tenants_weight_is_divided_among_its_sessions() -> None:
    policy = make(tenant_weights={"a": 3.0})
    first, second = session(1, tenant="a"), session(2, tenant="a", weight=2.0)
    other = session(3, tenant="b")
    policy.arrive(first, 0.0)
    policy.arrive(other, 0.0)
    assert (policy.share(first), policy.share(other)) == (3.0, 1.0)
    policy.arrive(second, 0.0)
    assert (policy.share(first), policy.share(second)) == (1.0, 2.0)
    policy.end(second)
    assert policy.share(first) == 3.0
    policy.end(first)
    assert policy.share(session(4, tenant="", weight=5.0)) == 5.0


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
        one.lane = one.id
    policy.charge(first, 16, 0)
    assert policy.key(second) < policy.key(first)
    assert policy.prefill_key(first) < policy.prefill_key(second)
    policy.charge(first, 4, 0)
    assert policy.prefill_key(second) < policy.prefill_key(first)
