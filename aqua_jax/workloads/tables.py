"""The report in a terminal: the same rows as the web page, drawn by rich.

Knows: a report and rich. Does not know: which numbers matter (`rows.py`).
Text from outside (names of arms and tenants) is never read as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import rich.console
import rich.table
import rich.text

from aqua_jax.workloads import headline, quantities, rows

_NOTICEABLE = 0.03


def show(report: Mapping[str, Any], console: rich.console.Console) -> None:
    """Prints the arms, the tenants where there are several, and the headline."""
    console.print(arms(report))
    for table in tenants(report):
        console.print(table)
    console.print(rich.text.Text(headline.headline(report), style="bold"))


def arms(report: Mapping[str, Any]) -> rich.table.Table:
    """Arms side by side, with the ratio of each comparison."""
    groups = dict(rows.arm_groups(report))
    width = _unit_width(
        cell for members in groups.values() for row in members for cell in row.cells
    )
    table = _table(f"Arms ({report['evidence']})")
    table.add_column("")
    for name in report["arms"]:
        table.add_column(_aligned(quantities.Cell(name, ""), width), justify="right")
    for name in report["comparisons"]:
        table.add_column(rich.text.Text(name), justify="right")
    for group, members in groups.items():
        table.add_row(rich.text.Text(group, style="bold"))
        for row in members:
            cells = [_aligned(cell, width) for cell in row.cells]
            table.add_row(f"  {row.label}", *cells, *map(_ratio, row.ratios))
    return table


def tenants(report: Mapping[str, Any]) -> Iterator[rich.table.Table]:
    """One table of tenants per arm, for runs with several."""
    for arm, members in report.get("tenants", {}).items():
        if not members:
            continue
        columns = rows.tenant_columns(report, arm)
        table = _table(f"Tenants of {arm}")
        table.add_column("")
        for column in columns:
            table.add_column(column.label, justify="right")
        for index, tenant in enumerate(members):
            cells = [_aligned(column.cells[index], _unit_width(column.cells)) for column in columns]
            table.add_row(rich.text.Text(tenant), *cells)
        yield table


def _table(title: str) -> rich.table.Table:
    return rich.table.Table(
        title=rich.text.Text(title), title_justify="left", title_style="bold", box=None
    )


def _unit_width(cells: Iterable[quantities.Cell]) -> int:
    return max((len(cell.unit) for cell in cells), default=0)


def _aligned(cell: quantities.Cell, width: int) -> rich.text.Text:
    """The cell with its unit padded to `width`, so that numbers line up."""
    unit = f" {cell.unit:<{width}}" if width else ""
    return rich.text.Text.assemble(cell.number, (unit, "dim"))


def _ratio(ratio: float | None) -> rich.text.Text:
    if ratio is None:
        return rich.text.Text("")
    style = "green" if ratio > 1 + _NOTICEABLE else "red" if ratio < 1 - _NOTICEABLE else ""
    return rich.text.Text(quantities.text(ratio, "ratio"), style=style)
