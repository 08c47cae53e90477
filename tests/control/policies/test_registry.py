"""Policies by name, each with its way of giving up the device."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.control.policies import base, registry


@pytest.mark.parametrize(
    ("name", "reserves_output", "backfills", "pages_out"),
    [
        ("fcfs", False, False, False),
        ("fcfs_reserve", True, False, False),
        ("cfs", False, True, True),
        ("cfs_recompute", False, True, False),
        ("vtc", False, False, False),
        ("eevdf", False, True, True),
        ("mlfq", False, True, True),
        ("srpt", False, True, True),
        ("buffered", False, True, True),
    ],
)
def test_policies_differ_as_named(
    name: str, reserves_output: bool, backfills: bool, pages_out: bool
) -> None:
    policy = registry.make(base.PolicySettings(name=name))
    assert policy.reserves_output is reserves_output
    assert policy.backfills is backfills
    assert policy.pages_out is pages_out


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(errors.ConfigError, match=r"unknown policy 'cfz' \(did you mean 'cfs'\?\)"):
        registry.make(base.PolicySettings(name="cfz"))
    with pytest.raises(
        errors.ConfigError, match=r"\(known: buffered, cfs, cfs_recompute, eevdf, fcfs"
    ):
        registry.make(base.PolicySettings(name="lottery"))


def test_each_controller_has_a_policy_of_its_own() -> None:
    settings = base.PolicySettings(name="cfs")
    assert registry.make(settings) is not registry.make(settings)
