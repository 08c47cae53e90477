"""Attention of decode and prefill: XLA's gather against the native library and memory's own speed.

Command: `python -m aqua_jax.run --config=configs/bench_attention.py --workdir=out/attention`.
Time: 80 seconds. Hardware: CPU; the caches must be smaller than a quarter of `working_set_bytes`.
Expect: at 1,024 tokens of context 3 times XLA or more, and 50 % of memory's rate or more.

A row is one layer's call, its KV written and attended: `decode CONTEXT x ROWS` with pages of its
own for every row, `prefill CONTEXT + ROWS` for a chunk of one session. `step` is a decode step of
the demo model, all layers and the rest of it, 32 sessions at once. Needs the native library.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import attention_bench, overrides, settings
from models import build


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.benchmark_config_dict(
        attention_bench.AttentionBenchmark(
            model=settings.ModelSettings(build=build.causal, name="demo")
        )
    )
