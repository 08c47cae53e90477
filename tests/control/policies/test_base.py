"""Settings of a policy are checked, work is weighed."""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import errors, types
from aqua_jax.control.policies import base


def test_service_is_weighted_tokens() -> None:
    assert base.Weights(prefill=0.5, decode=2.0).service(10, 3) == 11.0
    assert base.Weights().service(0, 0) == 0.0


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"quantum_tokens": 0}, "policy.quantum_tokens is 0; give at least 1"),
        ({"prefill_quantum_tokens": 0}, "policy.prefill_quantum_tokens is 0; give at least 1"),
        ({"sessions_fair": 0}, "policy.sessions_fair is 0; give at least 1"),
        (
            {"weights": base.Weights(prefill=0.0)},
            "policy.weights.prefill is 0.0; give a number above 0",
        ),
        (
            {"weights": base.Weights(decode=float("nan"))},
            "policy.weights.decode is nan; give a number above 0",
        ),
        (
            {"reading_tokens_per_second": 0.0},
            "policy.reading_tokens_per_second is 0.0; give a number above 0",
        ),
        (
            {"reading_tokens_per_second": float("inf")},
            "policy.reading_tokens_per_second is inf; give a number above 0",
        ),
        (
            {"tenant_weights": {"a": -1.0}},
            "policy.tenant_weights['a'] is -1.0; give a number above 0",
        ),
    ],
)
def test_settings_are_checked(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        base.PolicySettings(**fields)
    assert str(caught.value) == text


def test_a_prefill_has_a_quantum_of_its_own_if_that_is_longer() -> None:
    session = types.Session(1, types.Request(prompt_units=9, steps_max=4), 0.0, planned_known=9)
    assert base.PolicySettings(quantum_tokens=4).quantum_of(session) == 8192
    assert base.PolicySettings(prefill_quantum_tokens=1).quantum_of(session) == 64
    session.planned_cached = 8
    assert base.PolicySettings(quantum_tokens=4).quantum_of(session) == 4
