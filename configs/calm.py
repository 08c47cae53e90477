"""The burst's model and policies at a rate that fits: slicing must cost nothing then.

Command: `python -m aqua_jax.run --config=configs/calm.py --workdir=out/calm`
Hardware: any; on a CPU two devices are made.
Time: 5 minutes on 2 cores: three seeds of two arms.
Expect: ratios of cfs_peer to fcfs of 0.9 and more for the first token's p50 and for the p99 of
the time per token, medians of three seeds.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from aqua_jax.experiments import overrides
from configs import burst


def get_config() -> ml_collections.ConfigDict:
    """The burst with 200 requests at half of what the machine sustains, seeds 0 to 2."""
    base = burst.EXPERIMENT
    workload = dataclasses.replace(base.workload, requests=200, load=0.5, output_scale=0.5)
    calm = dataclasses.replace(base, arms="fcfs,cfs_peer", repeats=3, workload=workload)
    return overrides.to_config_dict(calm)
