"""Figures of benchmarks have units that can be shown."""

from __future__ import annotations

import pytest

from aqua_jax.workloads import benchmark_metrics, quantities


@pytest.mark.parametrize("name", benchmark_metrics.BENCHMARK)
def test_every_figure_can_be_shown(name):
    one = benchmark_metrics.BENCHMARK[name]
    assert one.title
    assert one.definition
    assert not one.unit or quantities.text(1.0, one.unit)
