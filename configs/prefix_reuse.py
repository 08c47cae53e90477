"""A slice of Mooncake's conversations, with and without reuse of prefixes.

Lengths are scaled by 1/64, so that a block of 512 tokens that conversations share is a page of 8.
Both arms run the same requests under the same policy and tiers; in `reuse` pages that are there
already, on the device or in the host's memory, are not computed again.

The trace is not in the tree: mooncake_fast25_conversation_trace.jsonl of
github.com/kvcache-ai/Mooncake; where it lies elsewhere, `--config.workload.trace=FILE`.

Command: `python -m aqua_jax.run --config=configs/prefix_reuse.py --workdir=out/prefix_reuse`
Hardware: any; on a CPU two devices are made.
Time: 1 minute on 2 cores.
Expect: all answers identical; the reused share, 12.3 %, at least the reusable share of the slice,
13.0 %, less 5 points. Prefilled tokens fall by as much.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.control import types
from aqua_jax.experiments import overrides, settings
from models import build

HOST = settings.TierSettings(kind="host", bytes=256 * types.MIB)


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.to_config_dict(
        settings.Experiment(
            model=settings.ModelSettings(build=build.causal, name="tiny"),
            arms="alone,reuse",
            report=settings.ReportSettings(baselines="alone"),
            arm_settings={
                "alone": {"engine": {"prefix_reuse": False}},
                "reuse": {"engine": {"prefix_reuse": True}},
            },
            workload=settings.WorkloadSettings(
                trace="../shared/data/mooncake_fast25_conversation_trace.jsonl",
                requests=600,
                rate=200.0,
                prompt_scale=1 / 64,
                output_scale=1 / 64,
                prompt_max=1000,
                output_max=24,
            ),
            engine=settings.EngineSettings(
                lanes=16, chunk_tokens=128, page_tokens=8, units_max=1024
            ),
            memory=settings.MemorySettings(pool_pages=8193, tiers={"host": HOST}),
        )
    )
