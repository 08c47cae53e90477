"""Plots of what a real system made of a workload and what a simulation makes of it.

Knows: runs that carry what was measured, matplotlib by way of `plots.py`. Does
not know: the page around them. Dots are measured, lines simulated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import matplotlib.axes
import matplotlib.figure

from aqua_jax.workloads import measured, plots, records

_Panel = Callable[[matplotlib.axes.Axes, records.RunRecord], None]

_BINS = 30
_DOTS_MAX = 150  # of one client: the others would cover each other


def render(runs: Sequence[records.RunRecord]) -> list[plots.Plot]:
    """Latency by arrival and tokens over time, one panel for each run that was measured."""
    known = [run for run in runs if measured.pairs(run)]
    return [_draw_latency(known), _draw_tokens(known)] if known else []


def _draw_latency(runs: Sequence[records.RunRecord]) -> plots.Plot:
    def panel(axes: matplotlib.axes.Axes, run: records.RunRecord) -> None:
        both = measured.pairs(run)
        for tenant, colour in _tenants(run).items():
            its = [pair for pair in both if pair.measured.tenant == tenant]
            dots = [_latency(pair.measured) for pair in its[:: len(its) // _DOTS_MAX + 1]]
            axes.plot(*zip(*dots, strict=True), ".", ms=4, color=colour, alpha=0.6)
            line = sorted(_latency(pair.simulated) for pair in its)
            axes.plot(*zip(*line, strict=True), lw=1.3, color=colour, label=f"client {tenant}")
        axes.set_xlabel("arrival, seconds")

    return plots.Plot(
        "Latency, measured and simulated",
        "End to end, by time of arrival. Dots: measured on a real system; lines: simulated.",
        _panels(runs, panel, "measured-latency", "seconds"),
    )


def _draw_tokens(runs: Sequence[records.RunRecord]) -> plots.Plot:
    def panel(axes: matplotlib.axes.Axes, run: records.RunRecord) -> None:
        both = measured.pairs(run)
        end = max(max(p.measured.ended_at or 0.0, p.simulated.ended_at or 0.0) for p in both)
        edges = [end * index / _BINS for index in range(_BINS + 1)]
        middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
        for tenant, colour in _tenants(run).items():
            its = [pair for pair in both if pair.measured.tenant == tenant]
            for side, style in (("measured", "."), ("simulated", "-")):
                emitted = measured.tokens_between([getattr(p, side) for p in its], edges)
                rates = [count / edges[1] for count in emitted]
                label = f"client {tenant}" if side == "simulated" else None
                axes.plot(middles, rates, style, ms=5, lw=1.3, color=colour, label=label)
        axes.set_xlabel("seconds")

    return plots.Plot(
        "Service of each client, measured and simulated",
        "Output tokens a second, of the requests that are compared. Dots: measured; lines: "
        "simulated.",
        _panels(runs, panel, "measured-tokens", "tokens/s"),
    )


def _panels(runs: Sequence[records.RunRecord], panel: _Panel, name: str, ylabel: str) -> str:
    """A panel for each run, side by side, with the same scales."""

    def draw(figure: matplotlib.figure.Figure) -> None:
        grid = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
        for axes, run in zip(grid, runs, strict=True):
            panel(axes, run)
            axes.set_title(run.arm, fontweight="bold")
        grid[0].set_ylabel(ylabel)
        grid[0].set_ylim(bottom=0)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)

    return plots.svg(draw, name, height_inches=3.6)


def _tenants(run: records.RunRecord) -> dict[str, str]:
    """The tenants of what was measured, each with its colour."""
    return plots.arm_colours(sorted({request.tenant for request in run.measured}))


def _latency(request: records.RequestRecord) -> tuple[float, float]:
    """(arrival, end to end) of a finished request."""
    assert request.ended_at is not None
    return request.scheduled_at, request.ended_at - request.scheduled_at
