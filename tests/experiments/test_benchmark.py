"""A benchmark through settings, report and table, with figures made up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import rich.console

from aqua_jax.control import errors
from aqua_jax.experiments import benchmark, overrides
from aqua_jax.workloads import report, tables


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Settings of a benchmark that measures nothing."""

    lanes: int = 4
    figure: str = "lanes_mean"

    @property
    def title(self) -> str:
        return "Made up"

    @property
    def devices(self) -> list[str]:
        return []

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield "one", {self.figure: float(self.lanes), "controller_seconds": {"p50": 0.5e-3}}
        yield "two", {self.figure: 2.0 * self.lanes, "controller_seconds": {"p50": None}}


def test_flags_change_its_settings() -> None:
    config = overrides.benchmark_config_dict(Made())
    overrides.check_key(config, "lanes", "7")
    config.lanes = 7
    assert overrides.benchmark_of(config) == Made(lanes=7)
    with pytest.raises(errors.ConfigError, match="did you mean 'lanes'"):
        overrides.check_key(config, "lane", "7")
    with pytest.raises(errors.ConfigError, match="expected a whole number"):
        overrides.check_key(config, "lanes", "many")


def test_its_rows_are_reported_as_they_come() -> None:
    told: dict[str, dict[str, Any]] = {}
    one = Made()
    value = benchmark.run(one, config=overrides.as_json(one), on_row=told.__setitem__)
    assert list(told) == ["one", "two"]
    assert list(told["one"]["benchmark"]) == ["one"]  # there should the second never come
    report.check(json.loads(json.dumps(told["one"])))
    assert told["two"] == value
    assert value["evidence"] == "measured"
    assert value["config"]["lanes"] == 4
    assert list(value["benchmark"]) == ["one", "two"]
    assert value["benchmark"]["two"]["lanes_mean"] == 8.0
    report.check(json.loads(json.dumps(value)))


def test_a_figure_without_a_definition_is_our_bug() -> None:
    one = Made(figure="speed")
    with pytest.raises(errors.InternalError, match=r"benchmark\.one\.speed has no definition"):
        benchmark.run(one, config={}, on_row=lambda *row: None)


def test_the_report_is_complete_and_holds_nothing_else() -> None:
    value = benchmark.run(Made(), config={}, on_row=lambda *row: None)
    with pytest.raises(errors.InternalError, match=r"missing \['title'\], unknown \['arms'\]"):
        report.check({k: v for k, v in value.items() if k != "title"} | {"arms": {}})


@pytest.mark.parametrize("width", [20, 100])
def test_the_table_shows_every_figure(width: int) -> None:
    value = benchmark.run(Made(), config={}, on_row=lambda *row: None)
    console = rich.console.Console(width=width)
    with console.capture() as shown:
        for table in tables.benchmark(value, width):
            console.print(table)
    for text in ("one", "two", "4.00", "8.00", "500 µs", "-"):
        assert text in shown.get()


def test_the_file_is_written_whole(tmp_path) -> None:
    value = benchmark.run(Made(), config={}, on_row=lambda *row: None)
    path = report.write_json(tmp_path / "new", value)
    assert json.loads(path.read_text()) == value
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]
