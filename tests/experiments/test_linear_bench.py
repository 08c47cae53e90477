"""Both products of a row do the same work; settings that cannot be are refused by name."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import benchmark, linear_bench
from tests.memory import parts


def test_a_row_of_either_dtype():
    if parts.NO_COMPILER:
        pytest.skip(parts.NO_COMPILER)
    one = linear_bench.LinearBenchmark(
        sizes="40x24", rows_of_x="3", working_set_bytes=1 << 14, repeats=1
    )
    value = benchmark.run(one, config={}, on_row=lambda *row: None)
    assert set(value["benchmark"]) == {"3 x 40x24 float32", "3 x 40x24 bfloat16"}
    figures = value["benchmark"]["3 x 40x24 float32"]
    products = 2 * 3 * 40 * 24 / figures["native_seconds"]
    assert figures["native_products_per_second"] == pytest.approx(products)
    assert figures["native_speedup"] == pytest.approx(
        figures["xla_seconds"] / figures["native_seconds"]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": "40"}, "sizes names '40'; give INxOUT"),
        ({"sizes": "40x0"}, "sizes names '40x0'"),
        ({"rows_of_x": "1,none"}, "rows_of_x is '1,none'; give whole numbers"),
        ({"dtypes": "float16"}, "float16"),
        ({"repeats": 0}, "repeats"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(errors.ConfigError, match=message):
        linear_bench.LinearBenchmark(**changes)
