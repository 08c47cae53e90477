"""Plots of a sweep: every arm is drawn where its figures are."""

from __future__ import annotations

import re
from typing import Any

from aqua_jax.workloads import sweep_plots


def row(ttft: float | None, tpot: float | None) -> dict[str, Any]:
    return {
        "ttft_seconds": {"p50": ttft, "p99": ttft},
        "tpot_seconds": {"p50": tpot, "p99": tpot},
    }


def report(**rates: Any) -> dict[str, Any]:
    sweep = {rate.replace("at_", "") + " requests/s": arms for rate, arms in rates.items()}
    return {"arms": {"a": {}, "b": {}}, "sweep": sweep}


TWO = {"a": row(2.0, 0.03), "b": row(0.5, 0.06)}


def test_rates_make_lines_and_a_few_of_them_points_as_well():
    drawn = sweep_plots.render(report(at_2=TWO, at_4=TWO))
    assert [plot.title for plot in drawn] == [
        "First token against the rate",
        "First token against time per token",
    ]
    for plot in drawn:
        assert plot.svg.startswith("<svg")
        assert {"a", "b"} <= set(re.findall(r">([ab])</text>", plot.svg))


def test_one_rate_has_points_alone_and_many_rates_lines_alone():
    (points,) = sweep_plots.render(report(at_4=TWO))
    assert points.title == "First token against time per token"
    (lines,) = sweep_plots.render(report(at_1=TWO, at_2=TWO, at_3=TWO, at_4=TWO))
    assert lines.title == "First token against the rate"


def test_what_has_no_figure_is_left_out():
    partly = {"a": row(None, None), "b": row(0.5, 0.06)}
    assert [plot.title for plot in sweep_plots.render(report(at_2=partly, at_4={}))] == [
        "First token against the rate"
    ]


def test_recorded_times_are_no_rate():
    as_recorded = {"arms": {"a": {}, "b": {}}, "sweep": {"as recorded": TWO, "4 requests/s": TWO}}
    assert [plot.title for plot in sweep_plots.render(as_recorded)] == [
        "First token against time per token"
    ]
