"""The benchmark of attention measures what it says; how fast it is is not judged here."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import attention_bench, benchmark, overrides, settings
from models import build
from tests.memory import parts

SMALL = {
    "contexts": "40", "batches": "1,3", "prefill_contexts": "20", "prefill_rows": 5,
    "working_set_bytes": 200_000, "step_context": 20, "repeats": 2, "head_dim": 16,
}  # fmt: skip


def made(**changes) -> attention_bench.AttentionBenchmark:
    model = settings.ModelSettings(build=build.causal, name="tiny")
    return attention_bench.AttentionBenchmark(model=model, **(SMALL | changes))


@parts.needs_native
def test_every_row_compares_both_and_decoding_memory_too():
    one = made()
    value = benchmark.run(one, config=overrides.as_json(one), on_row=lambda *row: None)
    rows = value["benchmark"]
    assert list(rows) == ["decode 40 x 1", "decode 40 x 3", "prefill 20 + 5", "step 20 x 32"]
    for name, row in rows.items():
        assert row["native_speedup"] == pytest.approx(row["xla_seconds"] / row["native_seconds"])
        if name.startswith("decode"):
            # 2 sides, 4 KV heads of 16 floats; as many layers as reach the working set.
            assert 200_000 <= row["kv_bytes"] < 200_000 + 3 * 40 * 2 * 4 * 16 * 4
            share = row["native_bytes_per_second"] / row["read_bytes_per_second"]
            assert row["read_share"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeats": 0}, "repeats is 0; give at least 1"),
        ({"contexts": "128,many"}, "contexts is '128,many'; give whole numbers"),
        ({"batches": "0"}, "batches is '0'; give whole numbers"),
        ({"dtype": "float23"}, r"unknown dtype 'float23' \(did you mean 'float32'\?\)"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(errors.ConfigError, match=message):
        made(**changes)
