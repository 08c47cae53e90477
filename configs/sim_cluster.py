"""32 servers of 8 H100, as in `sim_server.py`: requests to the least loaded engine, or round robin.

Command: `python -m aqua_jax.run --config=configs/sim_cluster.py --workdir=out/sim_cluster`.
The trace is not in the tree; see `sim_burst.py`.
Hardware: any; everything is simulated. Time: 5 minutes on 2 cores.
Expect (simulated): the same token ids in both arms; first tokens at the 99th percentile 1.5 times
sooner where the least loaded of the 128 engines gets a request. The table Host has this machine's
seconds, events a second and memory: 1.8 GiB for 256 devices.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from aqua_jax.experiments import overrides
from aqua_jax.experiments import simulated_settings as simulated
from configs import sim_burst, sim_server

ARMS = {
    "round_robin": {"cluster": {"routing": "round_robin"}},
    "least_loaded": {"cluster": {"routing": "least_loaded"}},
}


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.simulated_config_dict(
        simulated.SimulatedExperiment(
            arm_settings=ARMS,
            rates="600",
            workload=dataclasses.replace(sim_burst.AZURE, requests=12_000),
            device=sim_burst.DEVICE,
            memory=simulated.SimulatedMemory(fraction=0.86),
            policy=sim_burst.POLICY,
            cluster=dataclasses.replace(sim_server.CLUSTER, servers=32),
            report=simulated.SimulatedReport(baselines="round_robin", sample_seconds=0.5),
        )
    )
