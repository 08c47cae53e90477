"""Shortest remaining time: what remains, aging, work that was lost, displacement."""

from __future__ import annotations

from typing import Any

from aqua_jax.control import types
from aqua_jax.control.policies import base, srpt


def make(quantum_tokens: int = 4, **fields: Any) -> srpt.Srpt:
    return srpt.Srpt(base.PolicySettings(name="srpt", quantum_tokens=quantum_tokens, **fields))


def arrive(policy: srpt.Srpt, id: int, prompt_units: int, steps_max: int) -> types.Session:
    request = types.Request(prompt_units=prompt_units, steps_max=steps_max)
    session = types.Session(id, request, 0.0, planned_known=prompt_units)
    policy.arrive(session, 0.0)
    return session


def test_the_least_work_is_first_prompt_and_output_weighted() -> None:
    policy = make()
    reads, writes, tiny = (
        arrive(policy, 1, 100, 2),
        arrive(policy, 2, 4, 40),
        arrive(policy, 3, 2, 2),
    )
    assert [s.vtime for s in (reads, writes, tiny)] == [51.0, 41.0, 2.0]
    assert sorted([reads, writes, tiny], key=policy.key) == [tiny, writes, reads]
    assert sorted([reads, writes, tiny], key=policy.prefill_key) == [tiny, writes, reads]


def test_service_brings_forward_to_where_it_came() -> None:
    policy = make(sessions_fair=10**9)
    one = arrive(policy, 1, 8, 21)
    policy.charge(one, 8, 0)
    policy.charge(one, 0, 5)
    assert one.vtime == 15.0
    policy.charge(one, 0, 15)
    assert one.vtime == 0.0
    assert one.served == 24.0


def test_who_comes_late_is_behind_by_what_the_device_gave_meanwhile() -> None:
    policy = make(sessions_fair=2)
    long, busy = arrive(policy, 1, 2, 30), arrive(policy, 2, 2, 100)
    policy.charge(busy, 0, 57)
    early = arrive(policy, 3, 2, 2)  # 2 tokens of work at a floor of 28.5
    assert policy.key(long) < policy.key(early)
    assert early.vtime == 28.5 + 2.0


def test_work_that_is_done_again_puts_back() -> None:
    policy = make()
    one = arrive(policy, 1, 8, 21)
    policy.charge(one, 8, 4)
    assert one.vtime == 16.0
    one.fragile = True  # it lost its state
    policy.charge(one, 12, 0)
    assert one.vtime == 22.0
    one.fragile = False
    policy.charge(one, 0, 16)
    assert one.vtime == 6.0


def test_displacing_takes_a_spent_quantum_and_more_that_remains() -> None:
    policy = make()
    running, waiting = arrive(policy, 1, 2, 50), arrive(policy, 2, 2, 10)
    running.planned_cached, running.planned_known = 2, 3
    policy.charge(running, 0, 3)
    assert not policy.may_displace(waiting, running)
    policy.charge(running, 0, 1)
    assert policy.may_displace(waiting, running)
    policy.charge(running, 0, 40)
    assert not policy.may_displace(waiting, running)
    assert policy.quantum_used(running) == 11.0
    policy.end(running)
