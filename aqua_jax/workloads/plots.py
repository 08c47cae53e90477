"""Plots of a run as inline SVG that takes its ink from the page's CSS, light or dark.

Knows: records and matplotlib (SVG canvas; no window, no global state). Does
not know: the page around them (`webpage.py`). Every arm has one colour
everywhere (`arm_colours`).

Text, axes and grid are drawn in marker colours, which are then replaced by
CSS variables (`--ink`, `--muted`, `--grid`): one drawing suits both schemes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np
import numpy.typing as npt

from aqua_jax.workloads import quantities, records

_Floats = npt.NDArray[np.float64]

_ARM_COLOURS = (
    "#e8833a",
    "#3b7dd8",
    "#2f9e78",
    "#9b5fc0",
    "#d64f78",
    "#8f9a2b",
    "#2a9db0",
    "#a9744f",
)
_SESSION_COLOURS = {"running": "#4aa564", "waiting for first token": "#d9534f", "away": "#9aa5b1"}
_TIER_COLOURS = {"device": "#4f6bb5", "peer": "#7fb3d5", "host": "#d4b15f"}
_OTHER_TIER_COLOUR = "#9aa5b1"

_INK, _MUTED, _GRID = "#0a0b0c", "#1a1b1c", "#2a2b2c"
_CSS = {_INK: "var(--ink)", _MUTED: "var(--muted)", _GRID: "var(--grid)"}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "aqua_jax",  # the same records give the same bytes
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _GRID,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "legend.frameon": False,
}
_WIDTH_INCHES = 7.0
_POINTS_MAX = 500  # of a filled area: more than a screen can show
_RATE_BINS = 60
_TTFT_SECONDS_MIN = 1e-4  # the left end of a logarithmic axis: faster first tokens sit there


class Plot(NamedTuple):
    """One figure: its heading, what it shows in a sentence, and an SVG element."""

    title: str
    caption: str
    svg: str


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """One colour for each arm, in order; they repeat after eight arms."""
    return {arm: _ARM_COLOURS[i % len(_ARM_COLOURS)] for i, arm in enumerate(arms)}


def render(runs: Sequence[records.RunRecord]) -> list[Plot]:
    """The plots that the records have data for."""
    plots: list[Plot] = []
    if any(_ttfts(run).size for run in runs):
        plots.append(_draw_ttft(runs))
    sampled = [run for run in runs if len(run.samples) > 1]
    if sampled:
        plots += [_draw_rates(runs, sampled), _draw_sessions(sampled), _draw_memory(sampled)]
    return plots


def _draw_ttft(runs: Sequence[records.RunRecord]) -> Plot:
    colours = arm_colours([run.arm for run in runs])

    def draw(figure: matplotlib.figure.Figure) -> None:
        axes = figure.subplots()
        for run in runs:
            seconds = _ttfts(run)
            share = np.arange(1, seconds.size + 1) / max(1, len(run.requests))
            axes.step(seconds, 100 * share, where="post", color=colours[run.arm], label=run.arm)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(_log_ticks(runs))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(seconds_label))
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.set(xlabel="time to first token", ylabel="% of requests", ylim=(0, 102))
        axes.legend(loc="lower right")

    return Plot(
        "Time to first token",
        "Share of all requests whose first token came within a time. Left is better; "
        "a curve that ends below 100 % left requests without one.",
        svg(draw, "ttft", height_inches=3.4),
    )


def _draw_rates(runs: Sequence[records.RunRecord], sampled: Sequence[records.RunRecord]) -> Plot:
    colours = arm_colours([run.arm for run in runs])
    end_seconds = max(_times(run)[-1] for run in sampled)
    edges = np.linspace(0, end_seconds, _RATE_BINS + 1)

    def draw(figure: matplotlib.figure.Figure) -> None:
        axes = figure.subplots()
        for run in sampled:
            times = _times(run)
            emitted = np.interp(edges, times, [s.tokens_emitted for s in run.samples])
            rates = np.diff(emitted) / np.diff(edges)
            ran = edges[:-1] < times[-1]
            axes.stairs(rates[ran], edges[: ran.sum() + 1], color=colours[run.arm], label=run.arm)
        axes.set(xlabel="seconds", ylabel="tokens/s", xlim=(0, end_seconds), ylim=(0, None))
        axes.legend(loc="lower center", ncols=min(4, len(sampled)), bbox_to_anchor=(0.5, 1.0))

    return Plot(
        "Tokens per second",
        f"Output tokens emitted, averaged over {quantities.text(float(edges[1]), 's')}.",
        svg(draw, "rates", height_inches=3.4),
    )


def _draw_sessions(runs: Sequence[records.RunRecord]) -> Plot:
    def values(run: records.RunRecord, name: str) -> list[float]:
        field = {"waiting for first token": "waiting_first"}.get(name, name)
        return [getattr(sample, field) for sample in run.samples]

    def draw(figure: matplotlib.figure.Figure) -> None:
        panels = _panels(figure, runs)
        for axes, run in zip(panels, runs, strict=True):
            _stack(axes, run, {name: values(run, name) for name in _SESSION_COLOURS})
            axes.set_ylabel("sessions")
        panels[-1].set_xlim(left=0)

    return Plot(
        "Sessions over time",
        "Running on the device, waiting for their first token, and away in another tier.",
        svg(draw, "sessions", height_inches=_panels_inches(runs)),
    )


def _draw_memory(runs: Sequence[records.RunRecord]) -> Plot:
    tiers = list(dict.fromkeys(tier for run in runs for s in run.samples for tier in s.pages))
    tiers.sort(key=lambda tier: (*_TIER_COLOURS, tier).index(tier))

    def draw(figure: matplotlib.figure.Figure) -> None:
        panels = _panels(figure, runs)
        for axes, run in zip(panels, runs, strict=True):
            pages = {tier: [s.pages.get(tier, 0) for s in run.samples] for tier in tiers}
            _stack(axes, run, pages)
            if "device" in run.capacity_pages:
                axes.axhline(run.capacity_pages["device"], color=_MUTED, lw=0.9, ls=(0, (4, 3)))
            axes.set_ylabel("pages")
        panels[-1].set_xlim(left=0)

    return Plot(
        "Memory by tier",
        "Pages in use; the dashed line is the capacity of the device.",
        svg(draw, "memory", height_inches=_panels_inches(runs)),
    )


def _ttfts(run: records.RunRecord) -> _Floats:
    """Sorted seconds to the first token, `[requests that got one]`."""
    seconds = [
        request.first_token_at - request.scheduled_at
        for request in run.requests
        if request.first_token_at is not None
    ]
    return np.maximum(np.sort(np.asarray(seconds, np.float64)), _TTFT_SECONDS_MIN)


def _times(run: records.RunRecord) -> _Floats:
    """Seconds of the samples from the arm's first scheduled arrival, `[samples]`."""
    times = np.asarray([sample.at_seconds for sample in run.samples], np.float64)
    first = min([request.scheduled_at for request in run.requests], default=float(times[0]))
    return times - first


def _panels(
    figure: matplotlib.figure.Figure, runs: Sequence[records.RunRecord]
) -> list[matplotlib.axes.Axes]:
    """One panel per arm, titled in its colour, all with the same scales."""
    grid = figure.subplots(len(runs), 1, sharex=True, sharey=True, squeeze=False)
    panels: list[matplotlib.axes.Axes] = list(grid[:, 0])
    colours = arm_colours([run.arm for run in runs])
    for axes, run in zip(panels, runs, strict=True):
        axes.set_title(run.arm, color=colours[run.arm], fontweight="bold")
    panels[-1].set_xlabel("seconds")
    return panels


def _panels_inches(runs: Sequence[records.RunRecord]) -> float:
    return 0.8 + 1.5 * len(runs)


def _stack(
    axes: matplotlib.axes.Axes, run: records.RunRecord, series: Mapping[str, Sequence[float]]
) -> None:
    """Stacked areas over time; only the first panel of a figure carries the legend."""
    stride = math.ceil(len(run.samples) / _POINTS_MAX)
    colours = _SESSION_COLOURS | _TIER_COLOURS
    areas = axes.stackplot(
        _times(run)[::stride],
        [values[::stride] for values in series.values()],
        colors=[colours.get(name, _OTHER_TIER_COLOUR) for name in series],
        step="post",
        linewidth=0,
    )
    axes.margins(x=0)
    if axes is axes.figure.axes[0]:
        axes.legend(
            areas, list(series), loc="lower right", ncols=len(series), bbox_to_anchor=(1, 1)
        )


def _log_ticks(runs: Sequence[records.RunRecord]) -> matplotlib.ticker.LogLocator:
    """Ticks at 1, 2 and 5 of each decade where few decades are shown, else at 1."""
    seconds = np.concatenate([_ttfts(run) for run in runs])
    decades = math.log10(seconds.max() / seconds.min())
    return matplotlib.ticker.LogLocator(subs=(1, 2, 5) if decades < 3 else (1,), numticks=20)


def seconds_label(seconds: float, _: int | None = None) -> str:
    """A tick's seconds; `_` is its place, which matplotlib gives as well."""
    return quantities.text(float(f"{seconds:.3g}"), "s").replace(".00", "").replace(".0", "")


def svg(
    draw: Callable[[matplotlib.figure.Figure], None], name: str, *, height_inches: float
) -> str:
    """The SVG element of a figure; `name` keeps its ids apart from other figures'."""
    with matplotlib.rc_context(_STYLE):
        figure = matplotlib.figure.Figure(
            figsize=(_WIDTH_INCHES, height_inches), layout="constrained"
        )
        draw(figure)
        target = io.StringIO()
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    return _adapt(target.getvalue(), name)


def _adapt(document: str, name: str) -> str:
    """Makes a standalone SVG document an element of a page: no prolog, own ids, CSS colours."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r'<svg role="img" \1', svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(
        r"font: ([\d.]+px|bold [\d.]+px|[\d ]+[\d.]+px) [^;\"]*", r"font: \1 var(--font)", svg
    )
    for marker, variable in _CSS.items():
        svg = svg.replace(marker, variable)
    return svg
