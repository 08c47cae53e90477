"""Plots of measured and simulated requests: there when something was measured."""

from __future__ import annotations

from aqua_jax.workloads import measured_plots, records
from tests.workloads import synthetic


def run(arm: str, *, is_measured: bool) -> records.RunRecord:
    made = synthetic.run(arm, requests=6, tenants=("0", "1"))
    if is_measured:
        made.measured = synthetic.run(arm, requests=6, tenants=("0", "1")).requests
    return made


def test_each_measured_run_has_a_panel_in_both_plots():
    drawn = measured_plots.render([run("fcfs", is_measured=True), run("other", is_measured=False)])
    assert [plot.title for plot in drawn] == [
        "Latency, measured and simulated",
        "Service of each client, measured and simulated",
    ]
    for plot in drawn:
        assert plot.svg.startswith("<svg")
        assert ">fcfs</text>" in plot.svg
        assert "other" not in plot.svg
        assert plot.svg.count(">client 0</text>") == plot.svg.count(">client 1</text>") == 1


def test_without_measurements_there_is_nothing_to_draw():
    assert measured_plots.render([run("other", is_measured=False)]) == []
