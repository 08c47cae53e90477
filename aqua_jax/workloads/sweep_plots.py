"""Plots of a sweep: first tokens against the rate, and against the time per token.

Knows: the table `sweep` of a report, matplotlib by way of `plots.py`. Does not
know: the page around them. Values are medians over windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker

from aqua_jax.workloads import plots

_MARKERS = "osD^vPX*"
_STATISTICS = ("p50", "p99")
_PANELS_MAX = 3  # rates side by side


def render(report: Mapping[str, Any]) -> list[plots.Plot]:
    """The plots that the sweep has data for: several rates, or few with several arms."""
    sweep = report["sweep"]
    drawn = []
    if len(sweep) > 1 and all(_rate(rate) is not None for rate in sweep):
        drawn.append(_draw_rates(report))
    if len(sweep) <= _PANELS_MAX and any(len(_points(arms)) > 1 for arms in sweep.values()):
        drawn.append(_draw_trade(report))
    return drawn


def _draw_rates(report: Mapping[str, Any]) -> plots.Plot:
    sweep = report["sweep"]
    rates = [_rate(rate) for rate in sweep]

    def draw(figure: matplotlib.figure.Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, statistic in zip(panels, _STATISTICS, strict=True):
            for arm, colour, marker in _arms(report):
                seconds = [
                    _value(arms.get(arm), "ttft_seconds", statistic) for arms in sweep.values()
                ]
                axes.plot(
                    rates, seconds, marker=marker, ms=4, lw=1.4, color=colour, alpha=0.9, label=arm
                )
            _in_seconds(axes)
            axes.set(xlabel="requests/s", title=f"first token {statistic}")
            axes.set_xticks(rates)
        panels[0].set_ylabel("time to first token")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)

    return plots.Plot(
        "First token against the rate",
        "Medians over windows of each window's median and 99th percentile. Lower is better.",
        plots.svg(draw, "sweep-rates", height_inches=3.8),
    )


def _draw_trade(report: Mapping[str, Any]) -> plots.Plot:
    """One panel for each rate, a point for each arm."""
    sweep = report["sweep"]

    def draw(figure: matplotlib.figure.Figure) -> None:
        panels = figure.subplots(1, len(sweep), sharey=True, squeeze=False)[0]
        for axes, (rate, arms) in zip(panels, sweep.items(), strict=True):
            points = _points(arms)
            for arm, colour, marker in _arms(report):
                if arm in points:
                    axes.plot(*points[arm], marker, ms=7, color=colour, alpha=0.9, label=arm)
            _in_seconds(axes)
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
            axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(plots.seconds_label))
            axes.margins(x=0.15)
            axes.set(xlabel="time per token p50", title=rate)
        panels[0].set_ylabel("time to first token p99")
        handles = {
            label: handle
            for axes in panels
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)

    return plots.Plot(
        "First token against time per token",
        "Medians over windows. To the lower left is better; what is left of another and above it "
        "trades one for the other.",
        plots.svg(draw, "sweep-trade", height_inches=3.8),
    )


def _arms(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(arm, colour, marker), of all that some rate has, coloured as everywhere in the report."""
    names = dict.fromkeys([*report["arms"], *itertools.chain(*report["sweep"].values())])
    colours = plots.arm_colours(list(names))
    return [(arm, colours[arm], _MARKERS[i % len(_MARKERS)]) for i, arm in enumerate(names)]


def _points(arms: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Of each arm that has both: (TPOT p50, TTFT p99)."""
    pairs = {
        arm: (_value(row, "tpot_seconds", "p50"), _value(row, "ttft_seconds", "p99"))
        for arm, row in arms.items()
    }
    return {arm: (x, y) for arm, (x, y) in pairs.items() if x is not None and y is not None}


def _value(row: Mapping[str, Any] | None, name: str, statistic: str) -> float | None:
    """None where there is none; matplotlib leaves it out."""
    return row[name][statistic] if row else None


def _rate(text: str) -> float | None:
    """The requests a second that a rate's name says; None: as recorded."""
    number = text.partition(" ")[0]
    return float(number) if number[0].isdigit() else None


def _in_seconds(axes: matplotlib.axes.Axes) -> None:
    """A logarithmic axis of seconds, upwards."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5), numticks=20))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(plots.seconds_label))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
