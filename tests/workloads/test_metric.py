"""A definition is three texts."""

from __future__ import annotations

from aqua_jax.workloads import metric


def test_a_definition_is_made_of_title_unit_and_meaning():
    assert metric.Metric("First token", "s", "from arrival on") == (
        "First token",
        "s",
        "from arrival on",
    )
