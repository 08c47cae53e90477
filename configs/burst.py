"""A burst of prompts on a small model whose KV memory is too small for it. The demo.

Command: `python -m aqua_jax.run --config=configs/burst.py --workdir=out/burst`.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.control import types
from aqua_jax.experiments import overrides, settings
from models import build

PEER = {"kind": "peer", "bytes": 64 * types.MIB}
HOST = {"kind": "host", "bytes": 64 * types.MIB}


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.to_config_dict(
        settings.Experiment(
            model=settings.ModelSettings(build=build.causal_llama, name="demo"),
            arms="fcfs,cfs_host,cfs_peer",
            workload=settings.WorkloadSettings(
                prompt_scale=1 / 64, output_scale=0.75, prompt_max=32, output_max=224
            ),
            memory=settings.MemorySettings(pool_pages=81),
            arm_settings={
                "fcfs": {"policy": {"name": "fcfs"}},
                "fcfs_reserve": {"policy": {"name": "fcfs_reserve"}},
                "cfs_host": {"policy": {"name": "cfs"}, "memory": {"tiers": {"host": HOST}}},
                "cfs_recompute": {"policy": {"name": "cfs_recompute"}},
                "cfs_peer": {
                    "policy": {"name": "cfs"},
                    "memory": {"tiers": {"peer": PEER, "host": HOST}},
                },
            },
        )
    )
