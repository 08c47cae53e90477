"""The rows that a report shows."""

from __future__ import annotations

from aqua_jax.workloads import report, rows
from tests.workloads import synthetic


def _report():
    runs = [
        synthetic.run("fcfs", first_token_seconds=4.0),
        synthetic.run("cfs", tenants=("x", "y")),
    ]
    return report.assemble(runs, config={}, devices=[])


def _rows(value):
    return {row.label: row for _, group in rows.arm_groups(value) for row in group}


def test_every_number_shown_has_a_definition():
    for label, row in _rows(_report()).items():
        assert row.definition, label
        assert len(row.cells) == 2, label
        assert len(row.ratios) == 1, label


def test_rows_carry_cells_per_arm_and_ratios_per_comparison():
    row = _rows(_report())["First token p99"]
    assert [str(cell) for cell in row.cells] == ["4.00 s", "1.00 s"]
    assert row.ratios == [4.0]


def test_every_ratio_of_a_comparison_has_its_row():
    value = _report()
    shown = {ratio for row in _rows(value).values() for ratio in row.ratios if ratio is not None}
    ratios = value["comparisons"]["cfs/fcfs"]
    assert {v for name, v in ratios.items() if name.endswith("_ratio")} == shown


def test_paging_is_left_out_of_runs_that_page_nothing():
    value = _report()
    assert "Paged out peer" in _rows(value)
    assert "Paged out host" not in _rows(value)
    for arm in value["arms"].values():
        arm["paged_bytes"] = {"out": {"peer": 0}, "in": {"peer": 0}, "wasted": 0}
        arm["copies"] = {"count": 0, "bytes_p50": None, "late": 0}
    labels = set(_rows(value))
    assert not {"Paged out peer", "Paged in peer", "Copies", "Copy size p50"} & labels
    assert {"Preemptions", "Recomputed", "Stall"} <= labels


def test_columns_of_tenants_have_a_cell_each():
    columns = rows.tenant_columns(_report(), "cfs")
    assert [column.label for column in columns][:3] == ["Requests", "Finished", "First token p50"]
    assert all(len(column.cells) == 2 for column in columns)


def test_a_sweeps_ratios_stand_with_the_least_of_the_windows():
    value = synthetic.swept()
    spread = value["sweep"]["4 requests/s"]["cfs"]["ratios"]["ttft_p99_ratio"]
    spread["min"] = 3.0
    names, columns = rows.sweep_ratios(value, "4 requests/s")
    assert names == ["cfs"]
    (column,) = [column for column in columns if column.label == "First token p99"]
    assert [str(cell) for cell in column.cells] == ["12.0x ≥ 3.00x"]
    assert "Stall" in {column.label for column in columns}


def test_a_ratio_that_nobody_has_is_left_out_and_one_window_has_no_least():
    value = synthetic.swept()
    ratios = value["sweep"]["4 requests/s"]["cfs"]["ratios"]
    ratios["stall_ratio"] = {"median": None, "min": None, "windows": [None, None]}
    ratios["ttft_p99_ratio"]["windows"] = [12.0]
    _, columns = rows.sweep_ratios(value, "4 requests/s")
    cells = {column.label: str(column.cells[0]) for column in columns}
    assert "Stall" not in cells
    assert cells["First token p99"] == "12.0x"


def test_a_sweeps_figures_are_columns_with_an_arm_each_line():
    names, columns = rows.sweep_columns(synthetic.swept(), "2 requests/s")
    assert names == ["fcfs", "cfs"]
    shown = {column.label: [str(cell) for cell in column.cells] for column in columns}
    assert shown["First token p99"] == ["6.00 s", "3.00 s"]
    assert not [label for label in shown if "ratio" in label]
