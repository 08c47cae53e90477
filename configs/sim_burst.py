"""A burst on CodeLlama-34B: one H100, a neighbour that lends 50 GB, a host; rates 2 to 6.

600 consecutive requests of the Azure conversation trace in each of five windows, their gaps scaled
to each rate. Besides the arms that matter, three that leave a part out: paging without early
copies of clean pages, and paging in line with the slices over either link, with as much memory
behind it as there is need of.

Command: `python -m aqua_jax.run --config=configs/sim_burst.py --workdir=out/sim_burst`.
All rates of the picture: `--config.rates=1,2,3,4,5,6,7,8`.
The trace is not in the tree: it is AzureLLMInferenceTrace_2023_conv.csv of
github.com/Azure/AzurePublicDataset; where it lies elsewhere, `--config.workload.trace=FILE`.
Hardware: any; everything is simulated. Time: 5 minutes on 2 cores.
Expect (simulated), the same token ids in every arm, to the better kind of first come first served:
at 4 and 6 requests a second the p99 of the first token 23 and 37 times better in the median
window, 16 and 5.2 in the worst, with 1.08 times the throughput (1.04 at least), a mean end to end
of 0.97 and 0.93 (0.87 at least), whose p99 is better too. The price is the time between tokens: its
median is 10 times that of first come first served, since many more sessions share the device than
fit. At 2 a second only the window of seed 0 fits into memory, and there all arms are alike; with
`--config.memory.fraction=0.9` all five do. At 6, prefill alone needs 1.3 times the device in
windows 3 and 4, which bounds any policy to about 5.6 there. Copies beside slices hide either link:
peer and host are alike; in line with slices they hold the device 7 times longer over PCIe.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.control.policies import base
from aqua_jax.experiments import overrides, settings
from aqua_jax.experiments import simulated_settings as simulated
from aqua_jax.simulation import cost, hardware, shapes

DEVICE = simulated.DeviceSettings(hardware="H100", model="CodeLlama-34B")
PEER = {"kind": "peer", "bytes": 50 * 10**9}  # of a neighbour that has an image model
PEERS = {"kind": "peer", "bytes": 400 * 10**9}  # of as many as it takes, for the link alone
HOST = {"kind": "host", "bytes": 400 * 10**9}
# What an engine with vLLM's 0.9 has for weights and KV, less 4.8 GiB for the activations of a
# prefill up to the model's context, CUDA graphs and workspaces: 4 GiB of KV, 22 thousand tokens.
MEMORY_FRACTION = 0.84
# Sessions of the trace that the pool holds: what its pages carry of the mean prompt and half of
# the mean output.
LANES_USUAL = 17

COST = cost.text_cost(hardware.load(DEVICE.hardware), shapes.text(DEVICE.model))
# A row of prefill is charged the device's time that it takes, over that of a lane's share of a
# decode step when as many lanes as usual decode: 0.0054 of a step's time x 17 = 0.09.
PREFILL_WEIGHT = round(COST.row_ps * LANES_USUAL / COST.step_ps, 3)

AZURE = settings.WorkloadSettings(
    trace="../shared/data/AzureLLMInferenceTrace_2023_conv.csv",
    requests=600,
    prompt_scale=1.0,
    output_scale=1.0,
    prompt_max=14_050,
    output_max=1_000,
)
POLICY = base.PolicySettings(
    quantum_tokens=64,
    prefill_quantum_tokens=8_192,
    weights=base.Weights(prefill=PREFILL_WEIGHT),
)
ARMS = {
    "fcfs": {"policy": {"name": "fcfs"}},
    "fcfs_reserve": {"policy": {"name": "fcfs_reserve"}},
    "cfs_host": {"memory": {"tiers": {"host": HOST}}},
    "cfs_peer": {"memory": {"tiers": {"peer": PEER, "host": HOST}}},
    "cfs_peer_no_early": {
        "memory": {"tiers": {"peer": PEER, "host": HOST}},
        "engine": {"early_pages": 0},
    },
    "cfs_peer_in_line": {"memory": {"tiers": {"peer": PEERS}}, "engine": {"overlap": False}},
    "cfs_host_in_line": {"memory": {"tiers": {"host": HOST}}, "engine": {"overlap": False}},
}


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.simulated_config_dict(
        simulated.SimulatedExperiment(
            arm_settings=ARMS,
            rates="2,4,6",
            repeats=5,
            workload=AZURE,
            device=DEVICE,
            memory=simulated.SimulatedMemory(fraction=MEMORY_FRACTION),
            policy=POLICY,
            report=simulated.SimulatedReport(baselines="fcfs,fcfs_reserve"),
        )
    )
