"""Offer, reclaim, offer: CodeLlama-34B borrows from a neighbour whose images come in a burst.

For 100 seconds few images arrive, then for a minute more than small batches can make: the neighbour
calls its memory back for batches of 11, the borrower's pages move to the host's memory within the
second that it gives them, and when the images are made it lends again. In `cfs_host` it never does.

Command: `python -m aqua_jax.run --config=configs/sim_elastic.py --workdir=out/sim_elastic`.
The trace is not in the tree; see `sim_burst.py`.
Hardware: any; everything is simulated. Time: 1 minute on 2 cores.
Expect (simulated): the same token ids in every arm; under `cfs_peer` 1 reclaim and 0 overdue, no
page of a peer from second 105 to 170, and images as fast as where nothing is lent (p50 9.2 s).
"""

from __future__ import annotations

import dataclasses

import ml_collections

from aqua_jax.experiments import cluster_settings, overrides
from aqua_jax.experiments import simulated_settings as simulated
from configs import sim_burst

CLUSTER = cluster_settings.ClusterSettings(
    servers=1,
    devices=2,
    texts={
        "text": cluster_settings.TextMemberSettings(
            model="CodeLlama-34B",
            borrow_bytes=60 * 10**9,
            host_bytes=400 * 10**9,
            pair="images",
        )
    },
    items={
        "images": cluster_settings.ItemMemberSettings(
            model="SDXL", phases="100:0.05,160:0.6,400:0.05", batch_max=11, batch_calm=1
        )
    },
)
ARMS = {
    "fcfs": {"policy": {"name": "fcfs"}, "cluster": {"lends": False}},
    "cfs_host": {"cluster": {"lends": False}},
    "cfs_peer": {"cluster": {"lends": True}},
}


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.simulated_config_dict(
        simulated.SimulatedExperiment(
            arm_settings=ARMS,
            rates="4.5",
            workload=dataclasses.replace(sim_burst.AZURE, requests=1_200),
            device=sim_burst.DEVICE,
            memory=simulated.SimulatedMemory(fraction=0.86),
            policy=sim_burst.POLICY,
            cluster=CLUSTER,
            report=simulated.SimulatedReport(sample_seconds=0.25),
        )
    )
