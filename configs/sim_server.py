"""One server of 8 H100: four CodeLlama-34B in a burst, each next to one with memory to spare.

The lenders make images and sounds at a calm rate, or serve Llama-3.1-8B: with the largest batches
of the paper's table they leave 20 to 60 GB. Each text engine is paired with one of them by hand,
and borrows from the others what its own has not got.

Command: `python -m aqua_jax.run --config=configs/sim_server.py --workdir=out/sim_server`.
The trace is not in the tree; see `sim_burst.py`.
Hardware: any; everything is simulated. Time: 1 minute on 2 cores.
Expect (simulated): the same token ids in every arm; first tokens at the 99th percentile 40 times
sooner than under fcfs, throughput 1.16 times; with lenders nine tenths of what leaves a device goes
to its neighbours; 0 reclaims overdue.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from aqua_jax.experiments import cluster_settings, overrides
from aqua_jax.experiments import simulated_settings as simulated
from configs import sim_burst

_LENDERS = {"code0": "kandinsky", "code1": "audiogen", "code2": "diffusion", "code3": "chat"}
TEXTS = {
    name: cluster_settings.TextMemberSettings(
        model="CodeLlama-34B",
        route="code",
        share=0.9,
        borrow_bytes=50 * 10**9,
        host_bytes=200 * 10**9,
        pair=lender,
    )
    for name, lender in _LENDERS.items()
} | {
    "chat": cluster_settings.TextMemberSettings(
        model="Llama-3.1-8B", route="chat", share=0.1, lends=True
    )
}
ITEMS = {
    "kandinsky": cluster_settings.ItemMemberSettings(model="Kandinsky-2.2", phases="600:0.5"),
    "audiogen": cluster_settings.ItemMemberSettings(model="AudioGen-medium", phases="600:1.5"),
    "diffusion": cluster_settings.ItemMemberSettings(
        model="Stable-Diffusion-1.5", phases="600:1.0"
    ),
}
CLUSTER = cluster_settings.ClusterSettings(servers=1, devices=8, texts=TEXTS, items=ITEMS)
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
            rates="22",
            workload=dataclasses.replace(sim_burst.AZURE, requests=2_600),
            device=sim_burst.DEVICE,
            memory=simulated.SimulatedMemory(fraction=0.86),
            policy=sim_burst.POLICY,
            cluster=CLUSTER,
            report=simulated.SimulatedReport(sample_seconds=0.25),
        )
    )
