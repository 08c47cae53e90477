"""A profile of this machine, and whether the simulator foretells the burst by it.

Times the burst's model in its own engine: slices of one to all lanes, copies to each tier and
back, the host's part. Fits a cost to them and saves it as `profile.json` in the workdir. With
`--config.verify=True` the burst runs in earnest between the passes of measuring, and the
simulator runs it again by the profile: same arrivals, lengths, policy, pool, lanes and slices.

Command: `python -m aqua_jax.run --config=configs/calibrate.py --workdir=out/calibrate`, to
compare also `--config.verify=True`.
Hardware: any, with nobody else on it: what shares the cores is in the times of one and not of
the other.
Time: 2 minutes, 7 with verify, on 2 cores.
Expect: the cost's median error over slices below 10 %; of TTFT p50, TTFT p99 and makespan, in
fcfs and in cfs_peer, the median error over five repeats within 20 %.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import overrides, profile_bench
from configs import burst


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.benchmark_config_dict(
        profile_bench.ProfileBenchmark(experiment=burst.EXPERIMENT)
    )
