"""Measures one part of the system alone, without requests and arms, and reports it.

Knows: what a benchmark's settings must be able to do, the report. Does not
know: what is measured, flags. A config that holds a benchmark returns
`overrides.benchmark_config_dict(settings)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from aqua_jax.workloads import report


class Benchmark(Protocol):
    """A frozen dataclass of settings that can measure what they describe."""

    @property
    def title(self) -> str:
        """What is measured, over the table."""
        ...

    @property
    def devices(self) -> list[str]:
        """The jax devices that it runs on, in words; none: the host alone."""
        ...

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """A row's name and figures, each row as soon as it is measured.

        Names of figures are those of `metrics.BENCHMARK`.
        """
        ...


def run(
    one: Benchmark,
    *,
    config: Mapping[str, Any],
    on_row: Callable[[str, dict[str, Any]], None],
) -> dict[str, Any]:
    """The value of `report.json`.

    on_row: is told the name of every row that is done, and the value as it is then: what was
    measured is not lost with what was still to come.
    """
    rows: dict[str, Mapping[str, Any]] = {}
    value: dict[str, Any] = {}
    for name, figures in one.rows():
        rows[name] = figures
        value = report.assemble_benchmark(one.title, rows, config=config, devices=one.devices)
        report.check(value)
        on_row(name, value)
    return value
