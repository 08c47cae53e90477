"""Numbers as people read them: three significant digits and a unit that suits their size.

Knows: units. Does not know: what is measured. Numbers that stand side by
side share one unit (`cells`), so they compare at a glance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NONE = "-"
_DIGEST_LETTERS = 12

# unit -> (size, name) from large to small; the first whose size is reached is used.
_SCALES: Mapping[str, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "bytes": (
        (1024.0**4, "TiB"),
        (1024.0**3, "GiB"),
        (1024.0**2, "MiB"),
        (1024.0, "KiB"),
        (1.0, "B"),
    ),
    "bytes/s": ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")),
    "share": ((0.01, "%"),),
    "tokens/s": ((1.0, "tok/s"),),
    "tokens": ((1.0, "tok"),),
    "weighted tokens": ((1.0, "wtok"),),
}
_PLAIN = ((1.0, ""),)


class Cell(NamedTuple):
    """A number's text and its unit's, apart so that columns align."""

    number: str
    unit: str

    def __str__(self) -> str:
        return f"{self.number} {self.unit}".rstrip()


def text(value: Any, unit: str) -> str:
    """One value with its unit.

    >>> text(0.0123, "s"), text(12.43, "ratio"), text(3 * 1024**2, "bytes")
    ('12.3 ms', '12.4x', '3.00 MiB')
    """
    return str(cells([value], unit)[0])


def cells(values: Sequence[Any], unit: str) -> list[Cell]:
    """The values side by side, in the unit that suits the largest of them.

    >>> [str(cell) for cell in cells([11.2, 0.0934, None], "s")]
    ['11.2 s', '0.093 s', '-']
    """
    largest = max((abs(v) for v in values if _is_number(v)), default=0.0)
    size, name = _suited(largest, _SCALES.get(unit, _PLAIN))
    shown = [_cell(value, size, name) for value in values]
    if unit == "ratio":  # its sign stands close: 12.4x
        return [cell if cell.number == NONE else Cell(f"{cell.number}x", "") for cell in shown]
    return shown


def _suited(largest: float, scales: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """The largest scale that `largest` reaches; for 0 the scale nearest to 1."""
    if largest == 0:
        return min(scales, key=lambda scale: abs(math.log(scale[0])))
    return next((scale for scale in scales if largest >= scale[0]), scales[-1])


def _cell(value: Any, size: float, unit: str) -> Cell:
    if value is None:
        return Cell(NONE, "")
    if isinstance(value, bool):
        return Cell("yes" if value else "no", "")
    if isinstance(value, str):
        return Cell(value if len(value) != 64 else value[:_DIGEST_LETTERS], "")
    if isinstance(value, int) and size == 1:
        return Cell(f"{value:,}", unit)
    return Cell(_digits(value / size), unit)


def _digits(value: float) -> str:
    """Three significant digits, at most three behind the point."""
    if value == 0:
        return "0"
    if abs(value) < 0.0005:
        return "<0.001" if value > 0 else ">-0.001"
    # Rounded first, so that 9.996 counts as 10.0 and not as 10.00.
    magnitude = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    return f"{value:,.{min(3, max(0, 2 - magnitude))}f}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
