"""The benchmark of the simulator runs and tells what it should; what is wrong is refused."""

from __future__ import annotations

import sys
import types

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import simulator_bench
from aqua_jax.workloads import metrics


def test_each_row_says_what_an_event_costs():
    made = simulator_bench.SimulatorBenchmark(servers="1,2", living=3, requests=6)
    rows = dict(made.rows())
    assert list(rows) == ["1 servers", "2 servers"]
    for count, row in enumerate(rows.values(), 1):
        assert 6 * count <= row["ended_count"] <= 20 * count
        assert row["late_event_seconds"] > 0 < row["early_event_seconds"]
        assert all(metrics.lookup("benchmark.*", name) for name in row)


class Calls:
    """A clock that counts Python's calls: what a run costs, the same on every machine."""

    def __init__(self) -> None:
        self._count = 0

    def process_time(self) -> float:
        return float(self._count)

    def note(self, frame: types.FrameType, event: str, argument: object) -> None:
        self._count += event in ("call", "c_call")


def test_an_event_costs_the_same_late_and_among_many(monkeypatch: pytest.MonkeyPatch):
    calls = Calls()
    monkeypatch.setattr(simulator_bench, "time", calls)
    made = simulator_bench.SimulatorBenchmark(servers="1,3", living=40, requests=60)
    sys.setprofile(calls.note)
    try:
        one, three = (row for _, row in made.rows())
    finally:
        sys.setprofile(None)
    assert one["early_event_seconds"] > 100  # calls
    for row in (one, three):
        assert 0.75 < row["late_ratio"] < 1.25
    assert 0.7 < one["events_per_second"] / three["events_per_second"] < 1.4


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"policy": "cfz"}, "unknown policy 'cfz'"),
        ({"servers": "1,x"}, "give counts"),
        ({"servers": "0"}, "give counts"),
        ({"living": 0}, "living 0"),
    ],
)
def test_what_is_wrong_is_refused(changes: dict, text: str):
    with pytest.raises(errors.ConfigError, match=text):
        simulator_bench.SimulatorBenchmark(**changes)
