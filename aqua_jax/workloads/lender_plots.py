"""Plots of lenders over time: memory lent and held, and how long their own items took.

Knows: records, matplotlib by way of `plots.py`. Does not know: the page around
them.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker

from aqua_jax.workloads import plots, records

_GB = 1e9
_HELD_SHADE = 0.45
_POINT = 2.5
_WIDE = 1.25  # inches of a panel


def render(runs: Sequence[records.RunRecord]) -> list[plots.Plot]:
    """The plots that the records have data for."""
    lending = [run for run in runs if any(_has_lent(one) for one in run.lenders.values())]
    working = [run for run in runs if any(len(one.items_seconds) for one in run.lenders.values())]
    drawn = [_draw_memory(run) for run in lending]
    return drawn + ([_draw_items(working)] if working else [])


def _has_lent(lender: records.LenderRecord) -> bool:
    return max(lender.offered_bytes, default=0) > 0


def _draw_memory(run: records.RunRecord) -> plots.Plot:
    """One panel for each lender of the arm."""
    lenders = {name: one for name, one in run.lenders.items() if _has_lent(one)}
    colours = plots.arm_colours(list(run.lenders))

    def draw(figure: matplotlib.figure.Figure) -> None:
        panels = _panels(figure, len(lenders))
        for axes, (name, lender) in zip(panels, lenders.items(), strict=True):
            times, colour = list(lender.at_seconds), colours[name]
            lent = [count / _GB for count in lender.offered_bytes]
            held = [count / _GB for count in lender.held_bytes]
            axes.step(times, lent, where="post", lw=1.2, color=colour, label="lent")
            axes.fill_between(
                times, held, step="post", lw=0, color=colour, alpha=_HELD_SHADE, label="held"
            )
            axes.set_title(f"{name} ({lender.model})", color=colour, fontweight="bold")
            axes.set(ylabel="GB", ylim=(0, None))
            axes.margins(x=0)
        panels[0].legend(loc="lower right", ncols=2, bbox_to_anchor=(1, 1))
        panels[-1].set_xlabel("seconds")

    return plots.Plot(
        f"Memory lent, {run.arm}",
        "The line is what a lender offers, the area what borrowers hold of it.",
        plots.svg(draw, f"lent-{run.arm}", height_inches=0.8 + _WIDE * len(lenders)),
    )


def _draw_items(runs: Sequence[records.RunRecord]) -> plots.Plot:
    """One panel for each lender that makes items, with the arms on top of each other."""
    names = dict.fromkeys(
        name for run in runs for name, one in run.lenders.items() if len(one.items_seconds)
    )
    colours = plots.arm_colours([run.arm for run in runs])

    def draw(figure: matplotlib.figure.Figure) -> None:
        panels = _panels(figure, len(names))
        for axes, name in zip(panels, names, strict=True):
            for run in runs:
                lender = run.lenders.get(name)
                if lender is None:
                    continue
                axes.plot(
                    list(lender.items_done_at),
                    list(lender.items_seconds),
                    "o",
                    ms=_POINT,
                    mew=0,
                    alpha=0.7,
                    color=colours[run.arm],
                    label=run.arm,
                )
                axes.set_title(f"{name} ({lender.model})", fontweight="bold")
            axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(plots.seconds_label))
            axes.set(ylabel="item", ylim=(0, None))
        panels[0].legend(loc="lower right", ncols=4, bbox_to_anchor=(1, 1), markerscale=2)
        panels[-1].set_xlabel("seconds")
        panels[-1].set_xlim(left=0)

    return plots.Plot(
        "Lenders' own work",
        "Each point is an image or clip: when its batch ended, and how long after it arrived.",
        plots.svg(draw, "items", height_inches=0.8 + _WIDE * len(names)),
    )


def _panels(figure: matplotlib.figure.Figure, count: int) -> list[matplotlib.axes.Axes]:
    grid = figure.subplots(count, 1, sharex=True, squeeze=False)
    return list(grid[:, 0])
