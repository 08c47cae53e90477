"""The report in a terminal: aligned, and blind to markup."""

from __future__ import annotations

import io
import re

import pytest
import rich.console

from aqua_jax.workloads import headline, report, tables
from tests.workloads import synthetic


def _shown(runs) -> tuple[dict, str]:
    value = report.assemble(runs, config={}, devices=[])
    file = io.StringIO()
    tables.show(value, rich.console.Console(file=file, width=160))
    return value, file.getvalue()


def test_arms_stand_side_by_side_with_their_ratio_and_the_headline_last():
    value, text = _shown([synthetic.run("fcfs", first_token_seconds=4.0), synthetic.run("cfs")])
    assert re.search(r"First token p99 +4\.00 s +1\.00 s +4\.00x", text)
    assert re.search(r"fcfs +cfs +cfs/fcfs", text)
    assert text.rstrip().endswith(headline.headline(value))
    assert "Tenants" not in text


def test_numbers_of_a_column_end_above_each_other():
    _, text = _shown([synthetic.run("fcfs")])
    lines = text.splitlines()
    ends = {
        re.search(r"^ +[A-Z][a-z' ]+?(?: p\d\d| max| mean)? +[\d.]+", line).end()
        for line in lines
        if re.match(r" +(Requests|First token|End to end|Throughput|Makespan)\b.*\d", line)
    }
    assert len(ends) == 1


def test_names_are_not_read_as_markup():
    _, text = _shown([synthetic.run("[bold]arm", tenants=("[red]x", "y"))])
    assert "[bold]arm" in text
    assert "Tenants of [bold]arm" in text
    assert "[red]x" in text


def test_many_comparisons_get_a_table_of_their_own():
    runs = [synthetic.run(f"arm{i}", first_token_seconds=8.0 / (i + 1)) for i in range(4)]
    _, text = _shown(runs)
    assert "Comparisons" in text
    assert re.search(r"arm3/arm0 +4\.00x +4\.00x", text)
    assert "Comparisons" not in _shown(runs[:2])[1]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("arms", [1, 3, 6])
def test_no_number_is_cut_whatever_the_width(width, arms):
    names = ["fcfs", *(f"cfs_of_some_kind{i}" for i in range(1, arms))]
    runs = [synthetic.run(name, tenants=("a", "b")) for name in names]
    value = report.assemble(runs, config={}, devices=[])
    shown = {}
    for columns in (width, 400):
        file = io.StringIO()
        tables.show(value, rich.console.Console(file=file, width=columns))
        shown[columns] = file.getvalue().split("The slowest")[0]
    lines = [line.rstrip() for line in shown[width].splitlines()]
    assert max(map(len, lines)) <= width
    assert "…" not in shown[width]
    numbers = {w: sorted(re.findall(r"\d[\d.,]*(?:x| \w+(?:/s)?)", t)) for w, t in shown.items()}
    assert set(numbers[width]) == set(numbers[400])


def test_ratios_that_do_not_fit_beside_the_arms_have_a_table_of_their_own_rows_only():
    runs = [synthetic.run(name) for name in ("fcfs", "cfs_host", "cfs_peer")]
    value = report.assemble(runs, config={}, devices=[])
    file = io.StringIO()
    tables.show(value, rich.console.Console(file=file, width=80))
    arms, ratios = file.getvalue().split("Ratios")
    assert "1.00x" not in arms
    assert "Makespan" in arms
    assert "Makespan" not in ratios
    assert re.search(r"First token p99 +1\.00x +1\.00x", ratios)


def test_repeats_show_every_ratio_in_order_and_the_median():
    values = [
        report.assemble(
            [synthetic.run("fcfs", first_token_seconds=seconds), synthetic.run("cfs")],
            config={},
            devices=[],
        )
        for seconds in (2.0, 8.0, 3.0)
    ]
    cut = report.assemble([synthetic.run("fcfs")], config={}, devices=[])
    file = io.StringIO()
    tables.show_repeats([*values, cut], rich.console.Console(file=file, width=80))
    text = file.getvalue()
    assert "cfs/fcfs, by seed and their median:" in text
    assert "ttft_p99_ratio: 2.00, 8.00, 3.00; median 3.00" in text
    assert "token_ids_equal: yes, yes, yes" in text


def test_links_are_a_line_each_with_the_speeds_of_all_sizes():
    row = {
        "source": "device",
        "target": "host",
        "mover": "ffi",
        "latency_seconds": 2e-5,
        "bytes_per_second": 2e10,
        "plan_bytes_per_second": {"64KiB": 3e9, "1MiB": 2e10},
        "compared_bytes": 65536,
        "wrong_bytes": 0,
        "kept": True,
        "refused": None,
    }
    refused = {key: row[key] for key in ("source", "target", "mover")}
    refused |= {"kept": False, "refused": "1 of 65536 bytes arrived wrong"}
    file = io.StringIO()
    console = rich.console.Console(file=file, width=80)
    for table in tables.links({"device->host": row, "host->device": refused}, console.width):
        console.print(table)
    text = file.getvalue()
    assert re.search(r"device->host +20\.0 µs +3\.00 GB/s +20\.0 GB/s +yes", text)
    assert re.search(r"host->device +- +- +- +no", text)
    assert "arrived" not in text
    assert list(tables.links({}, 80)) == []


def test_rows_of_a_benchmark_with_other_figures_stand_in_a_table_of_their_own():
    rows = {
        "pages": {"ffi_share": {"out": 0.9, "in": 0.8}},
        "runs": {"ffi_share": {"out": 0.7, "in": 0.6}},
        "beside": {"step_seconds": 0.003},
    }
    value = report.assemble_benchmark("Made up", rows, config={})
    first, second = tables.benchmark(value, 80)
    shown = io.StringIO()
    rich.console.Console(file=shown, width=80).print(first, second)
    text = shown.getvalue()
    assert [len(table.columns) for table in (first, second)] == [3, 2]
    assert (text.count("Made up"), text.count("-")) == (1, 0)
    for wanted in ("ffi of memcpy out", "90.0 %", "60.0 %", "3.00 ms"):
        assert wanted in text


def test_a_sweep_shows_its_rates_and_not_the_arms_of_one_window():
    file = io.StringIO()
    tables.show(synthetic.swept(), rich.console.Console(file=file, width=160))
    text = file.getvalue()
    assert "Arms (simulated)" not in text
    assert re.search(r"Medians over windows, 4 requests/s", text)
    assert re.search(r"cfs +12\.0x ≥ 12\.0x", text)
    assert "To the better baseline of each window, 2 requests/s" in text
    assert "Shown: a window." in text
