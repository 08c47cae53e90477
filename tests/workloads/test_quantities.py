"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqua_jax.workloads import quantities


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (11.234, "s", "11.2 s"),
        (0.9996, "s", "1,000 ms"),
        (9.996, "s", "10.0 s"),
        (123.4, "s", "123 s"),
        (0.0123, "s", "12.3 ms"),
        (5.2e-5, "s", "52.0 µs"),
        (0.0, "s", "0 s"),
        (0, "bytes", "0 B"),
        (512, "bytes", "512 B"),
        (3 * 1024**3, "bytes", "3.00 GiB"),
        (3.7e11, "bytes/s", "370 GB/s"),
        (0.4321, "share", "43.2 %"),
        (12.43, "ratio", "12.4x"),
        (1234567, "tokens", "1,234,567 tok"),
        (0.741, "index", "0.741"),
        (128, "requests", "128"),
        (True, "", "yes"),
        (None, "s", "-"),
        ("a" * 64, "", "a" * 12),
        ("device 0", "", "device 0"),
    ],
)
def test_text(value, unit, expected):
    assert quantities.text(value, unit) == expected


def test_cells_side_by_side_share_the_unit_of_the_largest():
    cells = quantities.cells([11.2, 0.0934, None, 0.0, 0.0001], "s")
    assert [str(cell) for cell in cells] == ["11.2 s", "0.093 s", "-", "0 s", "<0.001 s"]


@given(st.floats(1e-3, 1e12))
def test_digits_keep_three_significant_figures(value):
    read_back = float(quantities.cells([value], "index")[0].number.replace(",", ""))
    assert read_back == pytest.approx(value, rel=0.006, abs=0.0006)
