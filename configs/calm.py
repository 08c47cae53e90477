"""The burst's model and policies at a rate that fits: slicing must cost nothing then.

Command: `python -m aqua_jax.run --config=configs/calm.py --workdir=out/calm`.
"""

from __future__ import annotations

import ml_collections

from configs import burst


def get_config() -> ml_collections.ConfigDict:
    """The burst with 200 requests at half of what the machine sustains, seeds 0 to 2."""
    config = burst.get_config()
    config.arms = "fcfs,cfs_peer"
    config.repeats = 3
    config.workload.requests = 200
    config.workload.load = 0.5
    config.workload.output_scale = 0.5
    return config
