"""Virtual deadlines: the newcomer's start, renewal, eligibility, displacement."""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import types
from aqua_jax.control.policies import base, eevdf


def session(id: int, **fields: Any) -> types.Session:
    request = types.Request(prompt_units=4, steps_max=400, **fields)
    return types.Session(id, request, 0.0, planned_cached=4, planned_known=5)


def make(count: int, **fields: Any) -> tuple[eevdf.Eevdf, list[types.Session]]:
    policy = eevdf.Eevdf(base.PolicySettings(name="eevdf", **fields))
    sessions = [session(id) for id in range(1, count + 1)]
    for one in sessions:
        policy.arrive(one, 0.0)
    return policy, sessions


def test_a_deadline_is_a_quantum_over_the_weight_away_and_renewed_when_reached() -> None:
    policy, (one,) = make(1, quantum_tokens=8)
    heavy = session(2, weight=4.0)
    policy.arrive(heavy, 0.0)
    assert (policy.key(one), policy.key(heavy)) == ((8.0, 1), (2.0, 2))
    policy.charge(one, 0, 7)
    assert policy.key(one) == (8.0, 1)
    policy.charge(one, 0, 3)
    assert (one.vtime, policy.key(one)) == (10.0, (18.0, 1))
    policy.charge(heavy, 2, 7)
    assert (heavy.vtime, policy.key(heavy)) == (2.0, (4.0, 2))


def test_virtual_time_is_the_average_by_weight_and_a_newcomer_has_no_lag() -> None:
    policy, sessions = make(2, sessions_fair=1000)
    policy.charge(sessions[0], 0, 30)
    assert policy.vtime == 15.0
    heavy = session(3, weight=2.0)
    policy.arrive(heavy, 0.0)
    assert heavy.vtime == 15.0
    policy.charge(heavy, 0, 24)
    assert policy.vtime == (30 + 0 + 2 * 27) / 4
    policy.end(heavy)
    assert policy.vtime == 15.0


def test_a_newcomer_does_not_start_below_the_floor() -> None:
    policy, (one, idle) = make(2, sessions_fair=1)
    policy.charge(one, 0, 10)
    assert policy.floor == policy.vtime == 10.0
    new = session(3)
    policy.arrive(new, 0.0)
    assert new.vtime == 10.0
    for each in (one, idle, new):
        policy.end(each)
    assert policy.vtime == policy.floor == 10.0


def test_who_is_ahead_is_not_eligible_and_displaces_nobody() -> None:
    policy, (ahead, running, behind) = make(3, quantum_tokens=4, sessions_fair=1000)
    policy.charge(ahead, 0, 3)
    policy.charge(running, 0, 5)
    assert [policy.is_eligible(one) for one in (ahead, running, behind)] == [False, False, True]
    assert policy.key(ahead) < policy.key(running)
    assert not policy.may_displace(ahead, running)
    assert policy.may_displace(behind, running)
    policy.charge(behind, 0, 3)
    assert policy.is_eligible(ahead)  # the average has passed it
    assert policy.may_displace(ahead, running)


def test_within_its_quantum_nobody_is_displaced() -> None:
    policy, (running, waiting) = make(2, quantum_tokens=4)
    policy.charge(running, 0, 4)
    assert policy.may_displace(waiting, running)
    running.served = 3.0  # since it got a lane again
    assert policy.quantum_used(running) == 0.75
    assert not policy.may_displace(waiting, running)


@pytest.mark.parametrize("weight", [0.1, 0.3, 1.0, 7.0])
def test_equals_are_eligible_whatever_rounding_does(weight: float) -> None:
    policy = eevdf.Eevdf(base.PolicySettings(name="eevdf", sessions_fair=10**6))
    sessions = [session(id, weight=weight) for id in range(7)]
    for one in sessions:
        policy.arrive(one, 0.0)
    for _ in range(1000):
        for one in sessions:
            policy.charge(one, 1, 1)
    assert all(policy.is_eligible(one) for one in sessions)


def test_there_is_always_one_that_is_eligible() -> None:
    policy, sessions = make(5, sessions_fair=1000)
    for number in range(200):
        policy.charge(sessions[number * number % 5], 0, 1 + number % 7)
        assert any(policy.is_eligible(one) for one in sessions)


def test_a_tenants_share_is_divided() -> None:
    policy = eevdf.Eevdf(base.PolicySettings(name="eevdf", quantum_tokens=8))
    pair = [session(1, tenant="a"), session(2, tenant="a")]
    for one in pair:
        policy.arrive(one, 0.0)
    policy.charge(pair[0], 0, 8)
    assert pair[0].vtime == 16.0
    policy.end(pair[1])
    policy.charge(pair[0], 0, 8)
    assert pair[0].vtime == 24.0


def test_a_prefill_keeps_its_place_for_its_quantum() -> None:
    policy, (first, second) = make(2, prefill_quantum_tokens=10)
    first.lane, second.lane = 0, 1
    policy.charge(first, 16, 0)
    assert policy.prefill_key(first) < policy.prefill_key(second)
    policy.charge(first, 4, 0)
    assert policy.prefill_key(second) < policy.prefill_key(first)
