"""`report.html`: one self-contained page, readable in light and dark, that loads nothing.

Knows: a report and its records, HTML and CSS. Does not know: how numbers are
computed. All text is escaped; plots are inline SVG (`plots.py`).
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aqua_jax.workloads import (
    headline,
    lender_plots,
    measured_plots,
    metrics,
    plots,
    quantities,
    records,
    rows,
    sweep_plots,
)

# Ratios worth a tile at the top, where there is a comparison.
_TILES = ("ttft_p99_ratio", "ttft_p50_ratio", "throughput_ratio", "e2e_mean_ratio")

_TABLES = ("emulation", "links", "programs", "startup", "host")

_CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --muted: #5d6670; --grid: #dfe3e8;
  --page: #ffffff; --raised: #f6f7f9; --good: #1a7f45; --bad: #b93a32;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --muted: #9aa4af; --grid: #333a42;
  --page: #14171a; --raised: #1c2126; --good: #5fcf8b; --bad: #f08a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 40px 28px 64px; background: var(--page);
  color: var(--ink); font: 15px/1.5 var(--font); }
h1 { font-size: 27px; line-height: 1.3; font-weight: 650; margin: 6px 0 22px; max-width: 44em;
  letter-spacing: -0.01em; text-wrap: balance; }
h2 { font-size: 18px; margin: 44px 0 12px; font-weight: 650; }
h3 { font-size: 15px; margin: 18px 0 2px; font-weight: 650; }
.eyebrow { color: var(--muted); font-size: 13px; }
.badge { display: inline-block; border: 1px solid var(--grid); border-radius: 999px;
  padding: 1px 10px; margin-right: 8px; color: var(--ink); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; }
.tile { background: var(--raised); border-radius: 10px; padding: 14px 18px; }
.tile b { display: block; font-size: 30px; line-height: 1.2; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.tile > span, figcaption, .note { color: var(--muted); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; text-align: left; vertical-align: baseline; }
thead th { font-weight: 600; border-bottom: 1px solid var(--grid); white-space: nowrap; }
thead.narrow th { white-space: normal; vertical-align: bottom; max-width: 9.5em; }
tbody tr + tr > * { border-top: 1px solid var(--grid); }
tbody th { font-weight: 400; white-space: nowrap; }
tr.group th { padding-top: 20px; color: var(--muted); font-size: 12px; font-weight: 600;
  letter-spacing: 0.06em; text-transform: uppercase; }
.number { text-align: right; white-space: nowrap; }
.unit { display: inline-block; min-width: 2.9em; padding-left: 0.35em; text-align: left;
  color: var(--muted); font-size: 13px; }
.ratio { text-align: right; white-space: nowrap; }
.better { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
.chip { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 7px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); gap: 28px 24px;
  align-items: start; }
figure { margin: 0; } figure h3 { margin-top: 0; }
figure svg { display: block; width: 100%; height: auto; margin-top: 8px; }
details { border-top: 1px solid var(--grid); padding: 10px 0; }
summary { cursor: pointer; font-weight: 600; }
code, .mono { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.wide td { max-width: 46em; overflow-wrap: anywhere; }
@media (max-width: 560px) { .plots { grid-template-columns: 1fr; } body { padding: 20px 14px; } }
@media print { details > * { display: block; } }
"""


def render(report: Mapping[str, Any], runs: Sequence[records.RunRecord]) -> str:
    """The page. `runs` feed the plots and may be empty."""
    sentence = headline.headline(report)
    body = [
        _eyebrow(report),
        f"<h1>{_text(sentence)}</h1>",
        *(f'<p class="note">{_text(note)}</p>' for note in report.get("notes", ())),
        _tiles(report),
        _sweep(report),
        f"<h2>Arms side by side</h2>{_arms_table(report)}",
        "" if rows.has_ratio_columns(report) else _plain_table(report, "comparisons"),
        _figures("Over time", plots.render(runs)),
        _tenants(report),
        _plain_table(report, "measured"),
        _figures("", measured_plots.render(runs)),
        _plain_table(report, "lenders"),
        _figures("", lender_plots.render(runs)),
        _samples(report),
        _data_path(report),
        *(_plain_table(report, name) for name in _TABLES),
        "<h2>How to read and repeat this</h2>",
        _details("Configuration", _pairs(metrics.flatten(report["config"]))),
        _details("Machine and versions", _pairs(_machine(report))),
        _details("Definitions", _definitions(report)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>aqua_jax: {_text(sentence)}</title><style>{_CSS}</style></head>\n"
        f"<body>{''.join(part + chr(10) for part in body if part)}</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _eyebrow(report: Mapping[str, Any]) -> str:
    machine = report["hardware"]
    where = f"{machine['cpu']}, {machine['cores']} cores"
    devices = ", ".join(_counted(machine["devices"]))
    return (
        f'<div class="eyebrow"><span class="badge">{_text(report["evidence"])}</span>'
        f"{_text(where)}{_text('; ' + devices if devices else '')}</div>"
    )


def _counted(names: Iterable[str]) -> list[str]:
    """Equal names once, with their count: ["cpu", "cpu"] becomes ["2 x cpu"]."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return [name if count == 1 else f"{count} x {name}" for name, count in counts.items()]


def _tiles(report: Mapping[str, Any]) -> str:
    """The ratios of the two arms that the headline is about."""
    if report.get("sweep"):
        return _swept_tiles(report)
    candidate, baseline = headline.contestants(report)
    if baseline is None:
        return ""
    comparison = report["comparisons"][f"{candidate}/{baseline}"]
    tiles = [
        f'<div class="tile"><b>{_ratio(comparison[name])}</b>'
        f"<span>{_text(metrics.COMPARISON[name].title)}</span></div>"
        for name in _TILES
    ]
    note = f"{candidate} against {baseline}; above 1 is better"
    return f'<div class="tiles">{"".join(tiles)}</div><p class="note">{_text(note)}</p>'


def _swept_tiles(report: Mapping[str, Any]) -> str:
    """The ratio of the arm that the headline is about, at each rate."""
    best = headline.best_swept(report)
    if not best:
        return ""
    tiles = []
    for rate, arms in report["sweep"].items():
        ratio = arms.get(best, {}).get("ratios", {}).get("ttft_p99_ratio")
        if ratio:
            tiles.append(
                f'<div class="tile"><b>{_ratio(ratio["median"])}</b>'
                f"<span>First token p99, {_text(rate)}</span></div>"
            )
    note = f"{best} against the better baseline of each window; above 1 is better"
    return f'<div class="tiles">{"".join(tiles)}</div><p class="note">{_text(note)}</p>'


def _arms_table(report: Mapping[str, Any]) -> str:
    arms = list(report["arms"])
    colours = plots.arm_colours(arms)
    heads = "".join(
        f'<th class="number">{_chip(colours[arm])}{_text(arm)}<span class="unit"></span></th>'
        for arm in arms
    )
    pairs = report["comparisons"] if rows.has_ratio_columns(report) else {}
    heads += "".join(f'<th class="ratio">{_text(pair)}</th>' for pair in pairs)
    width = 1 + len(arms) + len(pairs)
    lines: list[str] = []
    for group, members in rows.arm_groups(report):
        lines.append(f'<tr class="group"><th colspan="{width}">{_text(group)}</th></tr>')
        lines += [_arm_line(row._replace(ratios=row.ratios[: len(pairs)])) for row in members]
    return (
        f'<div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _chip(colour: str) -> str:
    return f'<span class="chip" style="background:{colour}"></span>'


def _arm_line(row: rows.Row) -> str:
    cells = "".join(_cell(cell) for cell in row.cells)
    ratios = "".join(
        f'<td class="ratio">{"" if ratio is None else _ratio(ratio)}</td>' for ratio in row.ratios
    )
    return f'<tr title="{_text(row.definition)}"><th>{_text(row.label)}</th>{cells}{ratios}</tr>'


def _cell(cell: quantities.Cell) -> str:
    return (
        f'<td class="number">{_text(cell.number)}<span class="unit">{_text(cell.unit)}</span></td>'
    )


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return quantities.NONE
    return f'<span class="{rows.verdict(ratio)}">{_text(quantities.text(ratio, "ratio"))}</span>'


def _figures(title: str, drawn: Sequence[plots.Plot]) -> str:
    figures = [
        f"<figure><h3>{_text(plot.title)}</h3><figcaption>{_text(plot.caption)}</figcaption>"
        f"{plot.svg}</figure>"
        for plot in drawn
    ]
    heading = f"<h2>{_text(title)}</h2>" if title else ""
    return f'{heading}<div class="plots">{"".join(figures)}</div>' if figures else ""


def _sweep(report: Mapping[str, Any]) -> str:
    """Plots over the rates, then each rate's figures and ratios."""
    if not report.get("sweep"):
        return ""
    parts = [_figures("", sweep_plots.render(report))]
    for rate in report["sweep"]:
        arms, columns = rows.sweep_columns(report, rate)
        parts.append(f"<h3>{_text(rate)}: medians over windows</h3>{_table(arms, columns)}")
        candidates, ratios = rows.sweep_ratios(report, rate)
        if ratios:
            title = f"{rate}: ratio to the better baseline of each window, median ≥ least"
            parts.append(f"<h3>{_text(title)}</h3>{_table(candidates, ratios)}")
    return f"<h2>Rates and windows</h2>{''.join(parts)}"


def _tenants(report: Mapping[str, Any]) -> str:
    parts = [
        f"<h3>{_text(arm)}</h3>{_table(list(tenants), rows.tenant_columns(report, arm))}"
        for arm, tenants in report.get("tenants", {}).items()
        if tenants
    ]
    return f"<h2>Tenants</h2>{''.join(parts)}" if parts else ""


def _data_path(report: Mapping[str, Any]) -> str:
    """What settings came to, one sentence each."""
    choices = report.get("data_path", {})
    lines = [(name, f"{choice['used']}: {choice['because']}") for name, choice in choices.items()]
    return f"<h2>Data path</h2>{_pairs(lines)}" if lines else ""


def _samples(report: Mapping[str, Any]) -> str:
    """Prompts and how they go on."""
    lines = [
        f"<p><b>{_text(sample['prompt'])}</b>{_text(sample['answer'])}"
        f' <span class="note">request {_text(name)}, {_text(sample["arm"])}</span></p>'
        for name, sample in report.get("samples", {}).items()
    ]
    return f"<h2>Answers</h2>{''.join(lines)}" if lines else ""


def _plain_table(report: Mapping[str, Any], name: str) -> str:
    """A table whose rows are named by one key, or by two joined ("arm: program")."""
    section = next(key for key in metrics.SECTIONS if key.split(".")[0] == name)
    table: Mapping[str, Any] = report.get(name, {})
    if section.count("*") == 2:
        table = {f"{a}: {b}": row for a, inner in table.items() for b, row in inner.items()}
    if not table:
        return ""
    columns = rows.columns(section, list(table.values()))
    return f"<h2>{_text(name.capitalize())}</h2>{_table(list(table), columns)}"


def _table(names: Sequence[str], columns: Sequence[rows.Row]) -> str:
    heads = "".join(
        f'<th class="number" title="{_text(column.definition)}">{_text(column.label)}</th>'
        for column in columns
    )
    lines = "".join(
        f"<tr><th>{_text(name)}</th>{''.join(_column_cell(column, i) for column in columns)}</tr>"
        for i, name in enumerate(names)
    )
    return (
        f'<div class="scroll"><table><thead class="narrow"><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _column_cell(column: rows.Row, index: int) -> str:
    """One cell; room for a unit only in columns that have one."""
    cell = column.cells[index]
    if any(other.unit for other in column.cells):
        return _cell(cell)
    return f'<td class="number">{_text(cell.number)}</td>'


def _details(title: str, content: str) -> str:
    return f"<details><summary>{_text(title)}</summary>{content}</details>"


def _pairs(pairs: Iterable[tuple[str, Any]]) -> str:
    lines = "".join(
        f'<tr><th class="mono">{_text(key)}</th><td class="mono">{_text(_literal(value))}</td></tr>'
        for key, value in pairs
    )
    return f'<table class="wide"><tbody>{lines}</tbody></table>'


def _literal(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _machine(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    hardware = report["hardware"]
    memory = quantities.text(hardware["memory_bytes"], "bytes")
    shown = hardware | {"memory": memory, "devices": ", ".join(_counted(hardware["devices"]))}
    del shown["memory_bytes"]
    return [*shown.items(), *report["versions"].items()]


def _definitions(report: Mapping[str, Any]) -> str:
    """Every metric of the sections that the report has, with its unit."""
    lines: list[str] = []
    for section, table in metrics.SECTIONS.items():
        name = section.split(".")[0]
        if not report.get(name):
            continue
        lines.append(f'<tr class="group"><th colspan="3">{_text(name)}</th></tr>')
        lines += [
            f'<tr><th class="mono">{_text(path)}</th><td>{_text(metric.unit)}</td>'
            f"<td>{_text(metric.definition)}</td></tr>"
            for path, metric in table.items()
        ]
    statistics = ", ".join(f"{name}: {what}" for name, what in metrics.STATISTICS.items())
    return f'<table class="wide"><tbody>{"".join(lines)}</tbody></table><p>{_text(statistics)}.</p>'
