"""A burst of prompts on a small model whose KV memory is too small for it. The demo.

    python -m aqua_jax.run --config=configs/burst.py --workdir=out/burst
"""

from __future__ import annotations

import ml_collections

from aqua_jax.control.types import MIB
from aqua_jax.experiments import overrides, settings
from models import build

PEER = {"kind": "peer", "bytes": 64 * MIB}
HOST = {"kind": "host", "bytes": 256 * MIB}


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.to_config_dict(
        settings.Experiment(
            model=settings.ModelSettings(build=build.random_llama, name="demo"),
            arm_settings={
                "fcfs": {"policy": {"name": "fcfs"}},
                "cfs_host": {"policy": {"name": "cfs"}, "memory": {"tiers": {"host": HOST}}},
                "cfs_peer": {
                    "policy": {"name": "cfs"},
                    "memory": {"tiers": {"peer": PEER, "host": HOST}},
                },
            },
        )
    )
