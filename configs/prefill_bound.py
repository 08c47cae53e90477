"""Long prompts, short answers, overload: no policy can win here, and none may lose.

Command: `python -m aqua_jax.run --config=configs/prefill_bound.py --workdir=out/prefill_bound`
Hardware: any; on a CPU two devices are made.
Time: 3 minutes on 2 cores: three seeds of three arms.
Expect: ratios of cfs_peer to the better of fcfs and fcfs_reserve of at least 0.9 for the first
token's p99 and 0.95 for throughput, medians of three seeds.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from aqua_jax.experiments import overrides
from configs import burst


def get_config() -> ml_collections.ConfigDict:
    """The burst with prompts sixteen times as long and answers a twelfth, seeds 0 to 2."""
    base = burst.EXPERIMENT
    workload = dataclasses.replace(
        base.workload, prompt_scale=0.25, output_scale=1 / 16, prompt_max=448, output_max=64
    )
    report = dataclasses.replace(base.report, baselines="fcfs,fcfs_reserve")
    bound = dataclasses.replace(
        base, arms="fcfs,fcfs_reserve,cfs_peer", repeats=3, workload=workload, report=report
    )
    return overrides.to_config_dict(bound)
