"""Medians and ratios over windows, on summaries with known figures."""

from __future__ import annotations

from aqua_jax.workloads import measure, metrics, sweep
from tests.workloads import synthetic


def window(rate: str, seed: int, **first_token_seconds: float) -> sweep.Window:
    """Arms whose first tokens all take so long."""
    arms = {
        name: measure.summarise(synthetic.run(name, first_token_seconds=seconds))
        for name, seconds in first_token_seconds.items()
    }
    return sweep.Window(rate, seed, arms)


WINDOWS = [
    window("4", 0, slow=4.0, steady=8.0, quick=1.0),
    window("4", 1, slow=9.0, steady=6.0, quick=2.0),
    window("4", 2, slow=5.0, steady=5.0, quick=0.5),
    window("6", 0, slow=3.0, quick=1.5),
]


def test_figures_are_medians_over_the_windows_of_a_rate():
    table = sweep.summarise(WINDOWS, ["slow", "steady"])
    assert list(table) == ["4", "6"]
    assert list(table["4"]) == ["slow", "steady", "quick"]
    assert table["4"]["slow"]["windows"] == 3
    assert table["4"]["slow"]["ttft_seconds"] == {"p50": 5.0, "p99": 5.0}
    assert table["4"]["quick"]["ttft_seconds"]["p50"] == 1.0
    assert table["4"]["quick"]["paged_bytes"] == 4096 + 1024
    assert "steady" not in table["6"]


def test_a_ratio_is_to_the_better_baseline_of_its_window():
    table = sweep.summarise(WINDOWS, ["slow", "steady"])
    ratio = table["4"]["quick"]["ratios"]["ttft_p99_ratio"]
    assert ratio == {"median": 4.0, "min": 3.0, "windows": [4.0, 3.0, 10.0]}
    assert "ratios" not in table["4"]["slow"]
    assert table["6"]["quick"]["ratios"]["ttft_p50_ratio"]["windows"] == [2.0]


def test_throughput_too_is_compared_with_the_better_one():
    fast = synthetic.run("fast", first_token_seconds=1.0)
    arms = {
        "fast": measure.summarise(fast),
        "slow": measure.summarise(synthetic.run("slow", first_token_seconds=3.0)),
        "same": measure.summarise(synthetic.run("same", first_token_seconds=1.0)),
    }
    table = sweep.summarise([sweep.Window("1", 0, arms)], ["slow", "fast"])
    assert table["1"]["same"]["ratios"]["throughput_ratio"]["median"] == 1.0


def test_what_has_no_value_is_none():
    broken = window("4", 0, slow=4.0, quick=1.0)
    broken.arms["quick"]["ttft_seconds"]["p99"] = None
    table = sweep.summarise([broken], ["slow"])
    assert table["4"]["quick"]["ttft_seconds"]["p99"] is None
    assert table["4"]["quick"]["ratios"]["ttft_p99_ratio"] == {
        "median": None,
        "min": None,
        "windows": [None],
    }


def test_without_a_baseline_there_are_no_ratios():
    assert "ratios" not in sweep.summarise(WINDOWS, ["absent"])["4"]["quick"]


def test_every_figure_is_defined():
    table = sweep.summarise(WINDOWS, ["slow"])
    assert metrics.undefined({"sweep": table}) == []
    assert metrics.undefined({"sweep": {"4": {"slow": {"unknown": 1}}}}) == ["sweep.4.slow.unknown"]
