"""Shares: a weight of one's own, or a part of the tenant's."""

from __future__ import annotations

from typing import Any

from aqua_jax.control import types
from aqua_jax.control.policies import shares


def session(id: int, **fields: Any) -> types.Session:
    return types.Session(id, types.Request(prompt_units=4, steps_max=4, **fields), 0.0)


def test_without_a_tenant_a_session_has_its_own_weight() -> None:
    divided = shares.Shares({"a": 3.0})
    sessions = [session(1), session(2, weight=5.0)]
    for one in sessions:
        divided.arrive(one)
    assert [divided.of(one) for one in sessions] == [1.0, 5.0]


def test_a_tenants_weight_is_divided_among_its_living_sessions() -> None:
    divided = shares.Shares({"a": 3.0})
    first, second = session(1, tenant="a"), session(2, tenant="a", weight=2.0)
    other = session(3, tenant="b")
    divided.arrive(first)
    divided.arrive(other)
    assert (divided.of(first), divided.of(other)) == (3.0, 1.0)
    divided.arrive(second)
    assert (divided.of(first), divided.of(second)) == (1.0, 2.0)
    divided.end(second)
    assert divided.of(first) == 3.0


def test_a_tenant_that_is_gone_leaves_nothing_behind() -> None:
    divided = shares.Shares({})
    weights = [0.1, 0.2, 0.3]  # their sum is not taken back exactly
    sessions = [session(id, tenant="a", weight=weight) for id, weight in enumerate(weights)]
    for one in sessions:
        divided.arrive(one)
    for one in sessions:
        divided.end(one)
    again = session(9, tenant="a", weight=0.7)
    divided.arrive(again)
    assert divided.of(again) == 1.0
