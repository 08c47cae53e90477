"""The benchmark of the controller keeps it under load; what is timed is not judged here."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import controller_bench

SMALL = {"running": 8, "waiting": 40, "dispatches": 200, "warm_up": 200, "seed": 1}


def counts(**changes) -> dict[str, dict[str, float]]:
    """The rows without what depends on the host's speed."""
    rows = controller_bench.ControllerBenchmark(**(SMALL | changes)).rows()
    return {
        name: {key: value for key, value in figures.items() if "seconds" not in key}
        for name, figures in rows
    }


def test_the_load_never_lets_up() -> None:
    rows = counts()
    assert list(rows) == ["fcfs", "cfs"]
    for row in rows.values():
        assert row["dispatches"] == 200
        assert 6 < row["lanes_mean"] <= 8
        assert abs(row["waiting"] - 40) <= 8  # those who end are replaced
        assert row["ended_per_dispatch"] > 0
    assert rows["cfs"]["preemptions_per_dispatch"] > 0
    assert rows["cfs"]["pages_out_per_dispatch"] > 0
    assert rows["cfs"]["pages_in_per_dispatch"] > 0
    assert rows["fcfs"]["pages_out_per_dispatch"] == 0


def test_every_dispatch_is_timed() -> None:
    ((_, row),) = controller_bench.ControllerBenchmark(**(SMALL | {"policies": "cfs"})).rows()
    seconds = row["controller_seconds"]
    assert 0 < seconds["p50"] <= seconds["p99"] <= seconds["max"]
    assert seconds["mean"] < row["engine_seconds_mean"]


def test_the_same_seed_gives_the_same_load() -> None:
    assert counts() == counts()
    assert counts() != counts(seed=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"running": 0}, "running is 0; give at least 1"),
        ({"pool_share": float("nan")}, "pool_share is nan; give more than 0"),
        ({"policies": "fcfs,cfz"}, r"unknown policy 'cfz' \(did you mean 'cfs'\?\)"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        controller_bench.ControllerBenchmark(**changes)
