"""From the figures of many runs to those of a sweep: medians over windows, by rate and arm.

Knows: summaries of arms (`measure.py`), windows of a workload that all arms
ran. Does not know: how a run was made or how numbers are shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aqua_jax.workloads import measure

# Of an arm's summary, what a sweep gives the median of.
_FIGURES = {
    "ttft_seconds": ("p50", "p99"),
    "tpot_seconds": ("p50", "p99"),
    "e2e_seconds": ("mean", "p99"),
}
_SINGLE = ("output_tokens_per_second", "stall_seconds", "preemptions", "recomputed_tokens")


class Window(NamedTuple):
    """A window of the workload at a rate, and the summary of every arm that ran it."""

    rate: str
    seed: int
    arms: Mapping[str, Mapping[str, Any]]


def summarise(
    windows: Sequence[Window], baselines: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Rate -> arm -> its figures (`metrics.SWEEP`), rates and arms in order of appearance.

    Arms that a window lacks are left out of it. baselines: each ratio is that to the better of
    them in its window.
    """
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for rate in dict.fromkeys(window.rate for window in windows):
        alike = [window for window in windows if window.rate == rate]
        arms = dict.fromkeys(arm for window in alike for arm in window.arms)
        table[rate] = {arm: _figures(arm, alike, baselines) for arm in arms}
    return table


def _figures(arm: str, windows: Sequence[Window], baselines: Sequence[str]) -> dict[str, Any]:
    ran = [window for window in windows if arm in window.arms]
    summaries = [window.arms[arm] for window in ran]
    figures: dict[str, Any] = {"windows": len(ran)}
    for name, members in _FIGURES.items():
        figures[name] = {m: _median([summary[name][m] for summary in summaries]) for m in members}
    for name in _SINGLE:
        figures[name] = _median([summary[name] for summary in summaries])
    figures["paged_bytes"] = _median([_paged(summary) for summary in summaries])
    if arm not in baselines:
        ratios = [_ratios(window, arm, baselines) for window in ran]
        names = dict.fromkeys(name for ratio in ratios for name in ratio)
        if names:
            figures["ratios"] = {name: _spread([r.get(name) for r in ratios]) for name in names}
    return figures


def _paged(summary: Mapping[str, Any]) -> int:
    """Bytes copied either way between the devices and any tier."""
    paged = summary["paged_bytes"]
    return sum(sum(paged[direction].values()) for direction in ("out", "in"))


def _ratios(window: Window, arm: str, baselines: Sequence[str]) -> dict[str, float | None]:
    """To the better of the baselines that ran the window: the smaller ratio, as all are alike."""
    compared = [
        measure.compare(window.arms[baseline], window.arms[arm])
        for baseline in baselines
        if baseline in window.arms
    ]
    names = [name for name in (compared[0] if compared else ()) if name.endswith("_ratio")]
    return {name: _least([comparison[name] for comparison in compared]) for name in names}


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    return {"median": _median(values), "min": _least(values), "windows": list(values)}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _least(values: Sequence[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)
