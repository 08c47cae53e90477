"""First come first served: order of arrival, nobody displaced."""

from __future__ import annotations

from aqua_jax.control import types
from aqua_jax.control.policies import base, fcfs


def session(id: int) -> types.Session:
    return types.Session(id, types.Request(prompt_units=4, steps_max=4), 0.0)


def test_the_order_is_that_of_arrival_whatever_was_served() -> None:
    policy = fcfs.Fcfs(base.PolicySettings(name="fcfs"))
    first, second = session(1), session(2)
    policy.arrive(second, 0.0)
    policy.charge(first, 100, 100)
    assert policy.key(first) < policy.key(second)
    assert policy.prefill_key(first) < policy.prefill_key(second)
    assert not policy.may_displace(first, second)
    policy.end(second)


def test_service_counts_for_the_report() -> None:
    policy = fcfs.Fcfs(base.PolicySettings(name="fcfs"))
    first = session(1)
    policy.charge(first, 4, 3)
    assert first.served == policy.service(4, 3) == 5.0
    assert first.vtime == 0.0
    assert policy.quantum_used(first) == 1.0
