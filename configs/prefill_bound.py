"""Long prompts, short answers, overload: no policy can win here, and none may lose.

Command: `python -m aqua_jax.run --config=configs/prefill_bound.py --workdir=out/prefill_bound`.
"""

from __future__ import annotations

import ml_collections

from configs import burst


def get_config() -> ml_collections.ConfigDict:
    """The burst with prompts ten times as long and answers a sixteenth, seeds 0 to 2."""
    config = burst.get_config()
    config.arms = "fcfs,fcfs_reserve,cfs_peer"
    config.report.baselines = "fcfs,fcfs_reserve"
    config.repeats = 3
    config.workload.prompt_scale = 0.25
    config.workload.output_scale = 1 / 16
    config.workload.prompt_max = 448
    config.workload.output_max = 64
    return config
