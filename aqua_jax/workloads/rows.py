"""The rows that a report shows, arms side by side: one list for the web page and the terminal.

Knows: which numbers are worth a row, in which group and order. Does not know:
how a table is drawn (`webpage.py`, `tables.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aqua_jax.workloads import metrics, quantities


class Row(NamedTuple):
    """One metric: a cell per arm, then a ratio per comparison (None: not compared)."""

    label: str
    definition: str
    cells: list[quantities.Cell]
    ratios: list[float | None]


_NOTICEABLE = 0.03  # a ratio nearer to 1 than this is neither better nor worse
_COLUMNS_MAX = 6  # arms and comparisons that one table is wide enough for
# group -> (path below an arm, its ratio in a comparison or "")
_GROUPS: Mapping[str, Sequence[tuple[str, str]]] = {
    "Requests": (
        ("requests", ""),
        ("finished", ""),
        ("refused", ""),
        ("interrupted", ""),
        ("token_ids_sha256", ""),
    ),
    "Latency": (
        ("ttft_seconds.mean", "ttft_mean_ratio"),
        ("ttft_seconds.p50", "ttft_p50_ratio"),
        ("ttft_seconds.p90", "ttft_p90_ratio"),
        ("ttft_seconds.p99", "ttft_p99_ratio"),
        ("ttft_seconds.max", ""),
        ("tpot_seconds.p50", "tpot_p50_ratio"),
        ("tpot_seconds.p99", "tpot_p99_ratio"),
        ("e2e_seconds.mean", "e2e_mean_ratio"),
        ("e2e_seconds.p99", "e2e_p99_ratio"),
    ),
    "Throughput": (
        ("output_tokens_per_second", "throughput_ratio"),
        ("output_tokens", ""),
        ("makespan_seconds", ""),
        ("prefill_share", ""),
        ("prefill_tokens", "prefill_ratio"),
        ("prefix.query_tokens", ""),
        ("prefix.hit_tokens", ""),
        ("prefix.reused_share", ""),
        ("prefix.reusable_share", ""),
        ("prefix.cached_pages", ""),
        ("device_idle_fraction", ""),
        ("controller_seconds.p50", ""),
        ("controller_seconds.p99", ""),
    ),
    "Preemption and paging": (
        ("preemptions", ""),
        ("recomputed_tokens", ""),
        ("overrun_tokens", ""),
        ("stall_seconds", "stall_ratio"),
        ("paged_bytes.out.*", ""),
        ("paged_bytes.in.*", ""),
        ("paged_bytes.wasted", ""),
        ("attended_bytes.*", ""),
        ("copies.count", ""),
        ("copies.bytes_p50", ""),
        ("copies.late", ""),
        ("mover_errors", ""),
    ),
    "Fairness": (("fairness.jain", ""), ("fairness.service_gap_max", "")),
}
# Left out when every arm has none of it: a run that pages nothing needs no rows on paging.
_HIDDEN_WHEN_ZERO = (
    "paged_bytes", "copies", "interrupted", "mover_errors", "controller_seconds",
)  # fmt: skip
_TENANT_PATHS = (
    "requests",
    "finished",
    "ttft_seconds.p50",
    "ttft_seconds.p99",
    "e2e_seconds.mean",
    "output_tokens",
    "service",
    "preemptions",
)


def arm_groups(report: Mapping[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    """(group name, its rows), arms and comparisons in the report's order; empty groups left out."""
    leaves = [dict(metrics.flatten(arm)) for arm in report["arms"].values()]
    comparisons = list(report["comparisons"].values())
    for group, entries in _GROUPS.items():
        rows = [
            _arm_row(path, ratio, leaves, comparisons)
            for pattern, ratio in entries
            for path in _matching(pattern, leaves)
        ]
        if rows:
            yield group, rows


def has_ratio_columns(report: Mapping[str, Any]) -> bool:
    """True when the ratios fit beside the arms; else they get a table of their own."""
    return len(report["arms"]) + len(report["comparisons"]) <= _COLUMNS_MAX


def tenant_columns(report: Mapping[str, Any], arm: str) -> list[Row]:
    """One `Row` per column of an arm's table of tenants, one cell per tenant."""
    leaves = [dict(metrics.flatten(tenant)) for tenant in report["tenants"][arm].values()]
    return [_row("tenants.*.*", path, leaves, []) for path in _TENANT_PATHS]


def sweep_columns(report: Mapping[str, Any], rate: str) -> tuple[list[str], list[Row]]:
    """The arms that ran at a rate, and one `Row` per column of their figures."""
    arms = report["sweep"][rate]
    figures = [{n: v for n, v in arm.items() if n != "ratios"} for arm in arms.values()]
    return list(arms), columns("sweep.*.*", figures)


def sweep_ratios(report: Mapping[str, Any], rate: str) -> tuple[list[str], list[Row]]:
    """The candidates, and one `Row` per ratio: its median, and behind it the least of the windows.

    Ratios that no arm has are left out.
    """
    ratios = {n: arm["ratios"] for n, arm in report["sweep"][rate].items() if "ratios" in arm}
    names = dict.fromkeys(name for arm in ratios.values() for name in arm)
    shown = []
    for name in names:
        spreads = [arm[name] for arm in ratios.values()]
        if any(spread["median"] is not None for spread in spreads):
            path = f"ratios.{name}.median"
            metric = metrics.lookup("sweep.*.*", path)
            cells = [_spread_cell(spread) for spread in spreads]
            title, definition = (metric.title, metric.definition) if metric else (name, "")
            shown.append(Row(title, definition, cells, []))
    return list(ratios), shown


def columns(section: str, table: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One `Row` per column of a table of a section, one cell per row of the table."""
    leaves = [dict(metrics.flatten(values)) for values in table]
    paths = dict.fromkeys(path for leaf in leaves for path in leaf)
    return [_row(section, path, leaves, []) for path in paths]


def verdict(ratio: float) -> str:
    """What a ratio says of the candidate: "better", "worse", or "" when hardly either."""
    if abs(ratio - 1) <= _NOTICEABLE:
        return ""
    return "better" if ratio > 1 else "worse"


def label_of(section: str, path: str) -> str:
    """A metric's title with its statistic or tier: "First token p99", "Paged out peer"."""
    metric = metrics.lookup(section, path)
    if metric is None:
        return path
    last = path.rpartition(".")[2]
    named = path in metrics.SECTIONS[section]
    return metric.title if named else f"{metric.title} {last}"


def _spread_cell(spread: Mapping[str, Any]) -> quantities.Cell:
    if spread["median"] is None:
        return quantities.Cell(quantities.NONE, "")
    median, least = quantities.cells([spread["median"], spread["min"]], "ratio")
    alone = len(spread["windows"]) == 1
    return quantities.Cell(median.number, "" if alone else f"≥ {least.number}")


def _matching(pattern: str, leaves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paths of the pattern that some arm has, in order of first appearance."""
    if pattern.endswith("*"):
        paths = dict.fromkeys(p for arm in leaves for p in arm if p.startswith(pattern[:-1]))
    else:
        paths = dict.fromkeys([pattern])
    return [path for path in paths if _is_shown(path, leaves)]


def _is_shown(path: str, leaves: Sequence[Mapping[str, Any]]) -> bool:
    return not path.startswith(_HIDDEN_WHEN_ZERO) or any(arm.get(path) for arm in leaves)


def _arm_row(
    path: str,
    ratio: str,
    leaves: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
) -> Row:
    ratios = [comparison.get(ratio) if ratio else None for comparison in comparisons]
    return _row("arms.*", path, leaves, ratios)


def _row(
    section: str,
    path: str,
    leaves: Sequence[Mapping[str, Any]],
    ratios: list[float | None],
) -> Row:
    metric = metrics.lookup(section, path)
    unit = metric.unit if metric else ""
    shown = quantities.cells([leaf.get(path) for leaf in leaves], unit)
    definition = metric.definition if metric else ""
    return Row(label_of(section, path), definition, shown, ratios)
