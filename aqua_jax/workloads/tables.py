"""The report in a terminal: the same rows as the web page, drawn by rich.

Knows: a report and rich. Does not know: which numbers matter (`rows.py`).
Columns that a narrow terminal has no room for stand in a further table below:
no number is ever cut. Text from outside (names of arms and tenants) is never
read as markup.
"""

from __future__ import annotations

import itertools
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import rich.cells
import rich.console
import rich.table
import rich.text

from aqua_jax.workloads import headline, metrics, quantities, rows

_STYLES = {"better": "green", "worse": "red", "": ""}
_HEADING_LETTERS = 12
_GAP = 2  # letters between columns
_INDENT = "  "
# Of a link: its name says where it leads, the last column its bandwidth, a sentence of its own
# that it is refused.
_LINK_HIDDEN = (
    "source", "target", "mover", "bytes_per_second", "compared_bytes", "wrong_bytes", "refused",
)  # fmt: skip


def show(report: Mapping[str, Any], console: rich.console.Console) -> None:
    """Prints the arms, comparisons and tenants where there are several, and the headline.

    Of a sweep its medians and ratios; its arms in the window that is shown are on the page.
    """
    tables = [*sweep(report, console.width)]
    if not tables:
        tables = [*arms(report, console.width)]
        if not rows.has_ratio_columns(report):
            tables += comparisons(report, console.width)
        tables += tenants(report, console.width)
    for table in [*tables, *measured(report, console.width), *lenders(report, console.width)]:
        console.print(table)
    samples(report, console)
    for note in report.get("notes", ()):
        console.print(rich.text.Text(note))
    console.print(rich.text.Text(headline.headline(report), style="bold"))


def samples(report: Mapping[str, Any], console: rich.console.Console) -> None:
    """Prints some prompts, in bold, and how they go on."""
    told = report.get("samples", {})
    for name, sample in told.items():
        heading = rich.text.Text(f"\nRequest {name}, {sample['arm']}:", style="dim")
        console.print(heading)
        console.print(rich.text.Text.assemble((sample["prompt"], "bold"), sample["answer"]))
    if told:
        console.print()


def show_repeats(reports: Sequence[Mapping[str, Any]], console: rich.console.Console) -> None:
    """Prints every ratio of several reports, in their order, and its median.

    Arms that an interrupted run lacks are left out of its part.
    """
    for pair, first in reports[0]["comparisons"].items():
        compared = [r["comparisons"][pair] for r in reports if pair in r["comparisons"]]
        console.print(rich.text.Text(f"\n{pair}, by seed and their median:", style="bold"))
        for name in first:
            line = _repeated([comparison[name] for comparison in compared])
            console.print(f"  {name}: {line}", highlight=False)


def _repeated(values: Sequence[Any]) -> str:
    """`2.10, none, 2.30; median 2.20`, or the values as they are where they are no numbers."""
    if any(isinstance(value, bool) for value in values):
        return ", ".join("yes" if value else "no" for value in values)
    known = [value for value in values if value is not None]
    shown = ", ".join("none" if value is None else f"{value:.2f}" for value in values)
    return f"{shown}; median {statistics.median(known):.2f}" if known else shown


def arms(report: Mapping[str, Any], width: int) -> Iterator[rich.table.Table]:
    """Arms side by side, then the ratios of each comparison, at most `width` letters wide."""
    groups = dict(rows.arm_groups(report))
    members = [row for group in groups.values() for row in group]
    labels = [_Label(row.label, group) for group, rows_in in groups.items() for row in rows_in]
    cells = [
        _column(name, [row.cells[index] for row in members])
        for index, name in enumerate(report["arms"])
    ]
    pairs = list(report["comparisons"]) if rows.has_ratio_columns(report) else []
    ratios = [
        _Column(_wrapped(name), [_ratio(row.ratios[index]) for row in members])
        for index, name in enumerate(pairs)
    ]
    title = f"Arms ({report['evidence']})"
    if len(list(_parts([*cells, *ratios], width - _letters(labels)))) == 1:
        yield from _tables(title, labels, [*cells, *ratios], width)
    else:
        yield from _tables(title, labels, cells, width)
        yield from _tables("Ratios", labels, ratios, width)


def comparisons(report: Mapping[str, Any], width: int) -> Iterator[rich.table.Table]:
    """One line per pair of arms, for reports with more pairs than fit beside the arms."""
    pairs = report["comparisons"]
    yield from _lines(
        "Comparisons", list(pairs), rows.columns("comparisons.*", list(pairs.values())), width
    )


def tenants(report: Mapping[str, Any], width: int) -> Iterator[rich.table.Table]:
    """One table of tenants per arm, for runs with several."""
    for arm, members in report.get("tenants", {}).items():
        if members:
            columns = rows.tenant_columns(report, arm)
            yield from _lines(f"Tenants of {arm}", list(members), columns, width)


def measured(report: Mapping[str, Any], width: int) -> Iterator[rich.table.Table]:
    """One table per arm that was measured on a real system too: clients, whole and by arrival."""
    for arm, members in report.get("measured", {}).items():
        columns = rows.columns("measured.*.*", list(members.values()))
        yield from _lines(f"{arm}: measured and simulated", list(members), columns, width)


def lenders(report: Mapping[str, Any], width: int) -> Iterator[rich.table.Table]:
    """One table per arm in which memory is lent."""
    for arm, members in report.get("lenders", {}).items():
        columns = rows.columns("lenders.*.*", list(members.values()))
        yield from _lines(f"Lenders of {arm}", list(members), columns, width)


def sweep(report: Mapping[str, Any], width: int) -> Iterator[rich.table.Table]:
    """For each rate of a sweep the arms' figures, then their ratios, median and least."""
    for rate in report.get("sweep", {}):
        arms, columns = rows.sweep_columns(report, rate)
        yield from _lines(f"Medians over windows, {rate}", arms, columns, width)
        candidates, ratios = rows.sweep_ratios(report, rate)
        if ratios:
            title = f"To the better baseline of each window, {rate}"
            yield from _lines(title, candidates, ratios, width)


def links(table: Mapping[str, Mapping[str, Any]], width: int) -> Iterator[rich.table.Table]:
    """One line per probed link (`metrics.LINK`): its speed, not why it was refused."""
    shown = [
        {name: value for name, value in row.items() if name not in _LINK_HIDDEN}
        for row in table.values()
    ]
    if table:
        columns = rows.columns("links.*", shown)
        yield from _lines("Links (measured)", list(table), columns, width)


def benchmark(report: Mapping[str, Any], width: int) -> Iterator[rich.table.Table]:
    """One line per figure of a benchmark, one column per row of its report.

    Rows with other figures stand in a table of their own.
    """
    title = f"{report['title']} ({report['evidence']})"
    for _, rows_alike in itertools.groupby(report["benchmark"].items(), _figures):
        measured = dict(rows_alike)
        figures = rows.columns("benchmark.*", list(measured.values()))
        columns = [
            _column(name, [figure.cells[index] for figure in figures])
            for index, name in enumerate(measured)
        ]
        labels = [_Label(figure.label) for figure in figures]
        yield from _tables(title, labels, columns, width)
        title = ""


def _figures(row: tuple[str, Mapping[str, Any]]) -> list[str]:
    return [path for path, _ in metrics.flatten(row[1])]


class _Label(NamedTuple):
    """What stands before a row, and the group that it is part of ("": none)."""

    text: str
    group: str = ""

    @property
    def indented(self) -> str:
        """The text, below its group's name where it has one."""
        return f"{_INDENT}{self.text}" if self.group else self.text


class _Column(NamedTuple):
    """A heading in lines and a text for each row, "" where there is nothing to say."""

    heading: list[str]
    cells: list[rich.text.Text]

    @property
    def letters(self) -> int:
        return max(map(rich.cells.cell_len, (*self.heading, *(c.plain for c in self.cells))))


def _lines(
    title: str, names: Sequence[str], columns: Sequence[rows.Row], width: int
) -> Iterator[rich.table.Table]:
    """Tables with one line per name and long headings wrapped."""
    texts = [_column(column.label, column.cells) for column in columns]
    return _tables(title, [_Label(name) for name in names], texts, width)


def _tables(
    title: str, labels: Sequence[_Label], columns: Sequence[_Column], width: int
) -> Iterator[rich.table.Table]:
    """As many tables as it takes to show all columns in `width` letters."""
    for part in _parts(columns, width - _letters(labels)):
        table = rich.table.Table(
            title=rich.text.Text(title),
            title_justify="left",
            title_style="bold",
            box=None,
            padding=(0, 0, 0, _GAP),
            pad_edge=False,
        )
        table.add_column("")
        for column in part:
            heading = "\n".join(f"{line:>{column.letters}}" for line in column.heading)
            table.add_column(rich.text.Text(heading), vertical="bottom", no_wrap=True)
        _add_rows(table, labels, part)
        yield table
        title = ""


def _letters(labels: Sequence[_Label]) -> int:
    return max(rich.cells.cell_len(label.indented) for label in labels)


def _parts(columns: Sequence[_Column], letters: int) -> Iterator[list[_Column]]:
    """The columns, in order, in lists that fit; a column wider than `letters` stands alone."""
    part: list[_Column] = []
    left = letters
    for column in columns:
        if part and column.letters + _GAP > left:
            yield part
            part, left = [], letters
        part.append(column)
        left -= column.letters + _GAP
    if part:
        yield part


def _add_rows(table: rich.table.Table, labels: Sequence[_Label], part: Sequence[_Column]) -> None:
    """The rows in which some column of `part` says something, under the names of their groups."""
    group = ""
    for index, label in enumerate(labels):
        if not any(column.cells[index].plain for column in part):
            continue
        cells = [_to_the_right(column.cells[index], column.letters) for column in part]
        if label.group != group:
            group = label.group
            table.add_row(rich.text.Text(group, style="bold"))
        table.add_row(rich.text.Text(label.indented), *cells)


def _to_the_right(text: rich.text.Text, letters: int) -> rich.text.Text:
    """Padded here: rich, aligning to the right, would drop the spaces behind a short unit."""
    padded = text.copy()
    padded.pad_left(letters - text.cell_len)
    return padded


def _column(heading: str, cells: Sequence[quantities.Cell]) -> _Column:
    """Numbers that end above each other, units behind them.

    What has no unit and is longer than the numbers that have one (a digest) takes the
    units' room as well.
    """
    unit_letters = max((len(cell.unit) + 1 for cell in cells if cell.unit), default=0)
    number_letters = max((len(cell.number) for cell in cells if cell.unit), default=0)
    texts = []
    for cell in cells:
        room = unit_letters if cell.unit or len(cell.number) <= number_letters else 0
        unit = f" {cell.unit}" if cell.unit else ""
        texts.append(rich.text.Text.assemble(cell.number, (f"{unit:<{room}}", "dim")))
    return _Column(_wrapped(heading), texts)


def _wrapped(heading: str) -> list[str]:
    """A heading in short lines; a pair of arms breaks behind its slash."""
    if len(heading) > _HEADING_LETTERS and "/" in heading:
        candidate, _, baseline = heading.partition("/")
        return [f"{candidate}/", baseline]
    return textwrap.wrap(heading, _HEADING_LETTERS)


def _ratio(ratio: float | None) -> rich.text.Text:
    if ratio is None:
        return rich.text.Text("")
    return rich.text.Text(quantities.text(ratio, "ratio"), style=_STYLES[rows.verdict(ratio)])
