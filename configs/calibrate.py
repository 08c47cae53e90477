"""A profile of this machine, and whether the simulator foretells the burst by it.

Times the burst's model in its own engine: slices of one to all lanes, copies to each tier and
back, the host's part. Fits a cost to them and saves it as `profile.json` in the workdir. With
`--config.verify=True` the burst runs in earnest between the passes of measuring, and the
simulator runs it again by the profile: same arrivals, lengths, policy, pool, lanes and slices.

Command: `python -m aqua_jax.run --config=configs/calibrate.py --workdir=out/calibrate`, to
compare also `--config.verify=True`.
Hardware: any, with nobody else on it: what shares the cores is in the times of one and not of
the other.
Time: 1 minute, 4 with verify and `--config.repeats=5`, on 2 cores.
Expect: the cost's median error over slices below 10 %; median errors over 5 repeats of TTFT p50,
TTFT p99 and makespan of 17, 4 and 2 % in fcfs, of 16, 31 and 4 % in cfs_peer. The bound is 20 %;
what misses it is a tail of 0.1 s, six slices, in which single late slices of the host count.
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
