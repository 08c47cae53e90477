"""The report in a terminal: the same rows as the web page, drawn by rich.

Knows: a report and rich. Does not know: which numbers matter (`rows.py`).
Text from outside (names of arms and tenants) is never read as markup.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import rich.console
import rich.table
import rich.text

from aqua_jax.workloads import headline, quantities, rows

_STYLES = {"better": "green", "worse": "red", "": ""}
_HEADING_LETTERS = 12


def show(report: Mapping[str, Any], console: rich.console.Console) -> None:
    """Prints the arms, comparisons and tenants where there are several, and the headline."""
    console.print(arms(report))
    if not rows.has_ratio_columns(report):
        console.print(comparisons(report))
    for table in tenants(report):
        console.print(table)
    console.print(rich.text.Text(headline.headline(report), style="bold"))


def arms(report: Mapping[str, Any]) -> rich.table.Table:
    """Arms side by side, with the ratio of each comparison."""
    groups = dict(rows.arm_groups(report))
    members = [row for group in groups.values() for row in group]
    table = _table(f"Arms ({report['evidence']})")
    table.add_column("")
    widths: list[_Widths] = []
    for index, name in enumerate(report["arms"]):
        widths.append(_widths(name, [row.cells[index] for row in members]))
        table.add_column(_aligned(quantities.Cell(name, ""), widths[-1]))
    pairs = list(report["comparisons"]) if rows.has_ratio_columns(report) else []
    for name in pairs:
        table.add_column(rich.text.Text(name), justify="right")
    for group, in_group in groups.items():
        table.add_row(rich.text.Text(group, style="bold"))
        for row in in_group:
            cells = map(_aligned, row.cells, widths)
            table.add_row(f"  {row.label}", *cells, *map(_ratio, row.ratios[: len(pairs)]))
    return table


def comparisons(report: Mapping[str, Any]) -> rich.table.Table:
    """One line per pair of arms, for reports with more pairs than fit beside the arms."""
    pairs = report["comparisons"]
    return _lines("Comparisons", pairs, rows.columns("comparisons.*", list(pairs.values())))


def tenants(report: Mapping[str, Any]) -> Iterator[rich.table.Table]:
    """One table of tenants per arm, for runs with several."""
    for arm, members in report.get("tenants", {}).items():
        if members:
            yield _lines(f"Tenants of {arm}", members, rows.tenant_columns(report, arm))


def _lines(title: str, names: Iterable[str], columns: Sequence[rows.Row]) -> rich.table.Table:
    """A table with one line per name and long headings wrapped."""
    headings = [textwrap.wrap(column.label, _HEADING_LETTERS) for column in columns]
    widths = [
        _widths(max(heading, key=len), column.cells)
        for heading, column in zip(headings, columns, strict=True)
    ]
    table = _table(title)
    table.add_column("")
    for heading, width in zip(headings, widths, strict=True):
        texts = [_aligned(quantities.Cell(line, ""), width) for line in heading]
        table.add_column(rich.text.Text("\n").join(texts), vertical="bottom")
    for index, name in enumerate(names):
        cells = [column.cells[index] for column in columns]
        table.add_row(rich.text.Text(name), *map(_aligned, cells, widths))
    return table


def _table(title: str) -> rich.table.Table:
    return rich.table.Table(
        title=rich.text.Text(title), title_justify="left", title_style="bold", box=None
    )


class _Widths(NamedTuple):
    """Letters of a column's widest number (or heading) and of its widest unit."""

    number: int
    unit: int


def _widths(heading: str, cells: Sequence[quantities.Cell]) -> _Widths:
    return _Widths(
        number=max([len(heading), *(len(cell.number) for cell in cells)]),
        unit=max((len(cell.unit) for cell in cells), default=0),
    )


def _aligned(cell: quantities.Cell, widths: _Widths) -> rich.text.Text:
    """The number ends where the column's others do; its unit follows.

    The columns themselves stand to the left: rich strips the spaces behind a
    text before it aligns it to the right.
    """
    unit = f" {cell.unit:<{widths.unit}}" if widths.unit else ""
    return rich.text.Text.assemble(f"{cell.number:>{widths.number}}", (unit, "dim"))


def _ratio(ratio: float | None) -> rich.text.Text:
    if ratio is None:
        return rich.text.Text("")
    return rich.text.Text(quantities.text(ratio, "ratio"), style=_STYLES[rows.verdict(ratio)])
