"""The table of definitions: complete, and able to tell what is missing."""

from __future__ import annotations

from aqua_jax.workloads import metrics


def test_every_metric_is_defined_in_words():
    for section, table in metrics.SECTIONS.items():
        for path, metric in table.items():
            assert metric.title, (section, path)
            assert len(metric.definition) > 8, (section, path)


def test_lookup_finds_members_of_distributions_and_named_tiers():
    assert metrics.lookup("arms.*", "ttft_seconds.p90") == metrics.ARM["ttft_seconds"]
    assert metrics.lookup("arms.*", "paged_bytes.out.peer") == metrics.ARM["paged_bytes.out.*"]
    assert metrics.lookup("arms.*", "paged_bytes.wasted") == metrics.ARM["paged_bytes.wasted"]
    assert metrics.lookup("arms.*", "ttft_seconds.p75") is None
    assert metrics.lookup("arms.*", "surprise") is None


def test_undefined_numbers_are_found_in_every_section():
    report = {
        "arms": {"a": {"requests": 1, "surprise": 2, "ttft_seconds": {"p50": 1, "p1": 2}}},
        "comparisons": {"b/a": {"ttft_p50_ratio": 2.0, "luck_ratio": 1.0}},
        "tenants": {"a": {"x": {"mood": 1}}},
        "programs": {"a": {"decode": {"calls": 1, "colour": 2}}},
    }
    assert metrics.undefined(report) == [
        "arms.a.surprise",
        "arms.a.ttft_seconds.p1",
        "comparisons.b/a.luck_ratio",
        "tenants.a.x.mood",
        "programs.a.decode.colour",
    ]
