"""Feedback queue: the level a newcomer joins, demotion, the place, displacement."""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import types
from aqua_jax.control.policies import base, mlfq


def make(quantum_tokens: int = 8, **fields: Any) -> mlfq.Mlfq:
    return mlfq.Mlfq(base.PolicySettings(name="mlfq", quantum_tokens=quantum_tokens, **fields))


def arrive(policy: mlfq.Mlfq, id: int, prompt_units: int = 4) -> types.Session:
    request = types.Request(prompt_units=prompt_units, steps_max=400)
    session = types.Session(id, request, 0.0, planned_known=prompt_units)
    policy.arrive(session, 0.0)
    return session


@pytest.mark.parametrize(("prompt_units", "quantum"), [(1, 8), (16, 8), (17, 16), (300, 256)])
def test_a_newcomer_joins_the_level_whose_quantum_covers_its_prefill(
    prompt_units: int, quantum: int
) -> None:
    assert arrive(make(), 1, prompt_units).vtime == quantum


def test_who_has_used_the_quantum_of_its_level_goes_one_down() -> None:
    policy = make(sessions_fair=10**9)
    one = arrive(policy, 1)
    places = []
    for _ in range(60):
        policy.charge(one, 0, 1)
        places.append(one.vtime)
    assert places == [8] * 7 + [16] * 16 + [32] * 32 + [64] * 5


def test_much_service_at_once_goes_down_as_far_as_little_by_little() -> None:
    policy = make()
    one, other = arrive(policy, 1), arrive(policy, 2)
    policy.charge(one, 10, 55)
    for _ in range(12):
        policy.charge(other, 0, 5)
    assert one.vtime == other.vtime == 64.0


def test_the_least_level_is_first_and_in_it_the_earliest() -> None:
    policy = make()
    first, second, long = arrive(policy, 1), arrive(policy, 2), arrive(policy, 3, 100)
    assert sorted([long, second, first], key=policy.key) == [first, second, long]
    assert sorted([long, second, first], key=policy.prefill_key) == [first, second, long]
    policy.charge(first, 4, 6)
    assert sorted([long, second, first], key=policy.key) == [second, first, long]


def test_in_the_end_everybody_is_before_who_comes() -> None:
    policy = make(sessions_fair=4)
    long, busy = arrive(policy, 1, 100), arrive(policy, 2)
    assert long.vtime == 64.0
    policy.charge(busy, 0, 4 * 56)  # until the floor has risen by its quantum less one of level 0
    assert policy.key(long) < policy.key(arrive(policy, 3))
    assert policy.floor == 56.0


@pytest.mark.parametrize("prompt_units", [1, 7, 40, 333])
def test_newcomers_overtake_for_no_more_than_is_stated(prompt_units: int) -> None:
    policy = make(sessions_fair=10**9)
    one = arrive(policy, 1, prompt_units)
    work = policy.service(prompt_units, 0)
    policy.charge(one, prompt_units, 0)
    for _ in range(500):
        policy.charge(one, 0, 1)
        work += 1.0
        assert one.vtime - policy.floor <= max(2 * work, 8)


def test_displacing_takes_a_spent_quantum_and_a_place_ahead() -> None:
    policy = make(prefill_quantum_tokens=32)
    running, waiting = arrive(policy, 1), arrive(policy, 2)
    running.planned_cached, running.planned_known = 4, 5
    policy.charge(running, 0, 7)
    assert not policy.may_displace(waiting, running)
    policy.charge(running, 0, 1)
    assert policy.may_displace(waiting, running)
    assert not policy.may_displace(running, waiting)
    running.planned_known = 100  # to prefill again
    assert policy.quantum_used(running) == 0.25


def test_nothing_is_kept_of_who_ended() -> None:
    policy = make()
    one = arrive(policy, 1)
    policy.end(one)
    again = arrive(policy, 1, 100)
    assert again.vtime == 64.0
