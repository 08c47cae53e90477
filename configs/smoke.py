"""The least that shows everything: sixteen requests on a tiny model, far more than its pool holds.

Command: `python -m aqua_jax.run --config=configs/smoke.py --workdir=out/smoke`
Hardware: any; on a CPU two devices are made.
Time: 15 s on 2 cores, 5 s where the programs were compiled before.
Expect: 16 of 16 requests finished in each arm and all answers identical. fcfs recomputes more
than 50 tokens, cfs_host and cfs_peer none: their pages go out to the host and to the peer.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.control import types
from aqua_jax.control.policies import base
from aqua_jax.experiments import overrides, settings
from models import build

PEER = {"kind": "peer", "bytes": types.MIB}
HOST = {"kind": "host", "bytes": types.MIB}


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.to_config_dict(
        settings.Experiment(
            model=settings.ModelSettings(build=build.causal, name="tiny"),
            arm_settings={
                "fcfs": {"policy": {"name": "fcfs"}},
                "cfs_host": {"memory": {"tiers": {"host": HOST}}},
                "cfs_peer": {"memory": {"tiers": {"peer": PEER, "host": HOST}}},
            },
            workload=settings.WorkloadSettings(
                requests=16,
                rate=4000.0,
                prompt_scale=1 / 64,
                output_scale=1 / 8,
                prompt_max=32,
                output_max=64,
            ),
            engine=settings.EngineSettings(
                lanes=8,
                chunk_tokens=32,
                page_tokens=8,
                units_max=96,
                steps_max=4,
                steps_contended=2,
            ),
            memory=settings.MemorySettings(pool_pages=17),
            policy=base.PolicySettings(quantum_tokens=4),
        )
    )
