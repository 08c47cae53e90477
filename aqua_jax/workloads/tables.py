"""The report in a terminal: the same rows as the web page, drawn by rich.

Knows: a report and rich. Does not know: which numbers matter (`rows.py`).
Text from outside (names of arms and tenants) is never read as markup.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import rich.console
import rich.table
import rich.text

from aqua_jax.workloads import headline, quantities, rows

_NOTICEABLE = 0.03  # a ratio nearer to 1 than this has no colour
_HEADING_LETTERS = 12


def show(report: Mapping[str, Any], console: rich.console.Console) -> None:
    """Prints the arms, the tenants where there are several, and the headline."""
    console.print(arms(report))
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
    for name in report["comparisons"]:
        table.add_column(rich.text.Text(name), justify="right")
    for group, in_group in groups.items():
        table.add_row(rich.text.Text(group, style="bold"))
        for row in in_group:
            cells = map(_aligned, row.cells, widths)
            table.add_row(f"  {row.label}", *cells, *map(_ratio, row.ratios))
    return table


def tenants(report: Mapping[str, Any]) -> Iterator[rich.table.Table]:
    """One table of tenants per arm, for runs with several."""
    for arm, members in report.get("tenants", {}).items():
        if not members:
            continue
        columns = rows.tenant_columns(report, arm)
        headings = [textwrap.wrap(column.label, _HEADING_LETTERS) for column in columns]
        widths = [
            _widths(max(heading, key=len), column.cells)
            for heading, column in zip(headings, columns, strict=True)
        ]
        table = _table(f"Tenants of {arm}")
        table.add_column("")
        for heading, width in zip(headings, widths, strict=True):
            lines = [_aligned(quantities.Cell(line, ""), width) for line in heading]
            table.add_column(rich.text.Text("\n").join(lines), vertical="bottom")
        for index, tenant in enumerate(members):
            cells = [column.cells[index] for column in columns]
            table.add_row(rich.text.Text(tenant), *map(_aligned, cells, widths))
        yield table


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
    style = "green" if ratio > 1 + _NOTICEABLE else "red" if ratio < 1 - _NOTICEABLE else ""
    return rich.text.Text(quantities.text(ratio, "ratio"), style=style)
