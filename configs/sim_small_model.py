"""A small model with long contexts, where the link matters: Llama-3.1-8B, prompts of 12k tokens.

Llama-3.1-8B has half of the memory of an H100, beside another model; neighbours lend 240 GB.
300 consecutive requests of the Mooncake conversation trace in each of three windows, and a quantum
of 32 tokens. A session's KV is 1.5 GB in the mean and a step takes some 10 ms, so that a preemption
takes 3 steps over PCIe and less than one over NVLink.

Command: `python -m aqua_jax.run --config=configs/sim_small_model.py --workdir=out/sim_small_model`.
Hardware: any; everything is simulated. Time: 3 minutes on 2 cores.
The trace is not in the tree: mooncake_fast25_conversation_trace.jsonl is the conversation trace of
github.com/kvcache-ai/Mooncake; where it lies elsewhere, `--config.workload.trace=FILE`.
Expect (simulated): overlapped, copies hide behind slices over either link, and first tokens and
throughput differ by 1 %. In line with the slices, at 1.5 requests a second, the device waits 12 s
for copies over PCIe and 1.5 s over NVLink, which costs 7 % of the throughput and a third of the
p99 of the first token (two windows of 120 requests). Against fcfs_reserve: first tokens p50 2.4 and
p99 1.6 times sooner at 0.98 of the throughput, and the time per token twice as long.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.control.policies import base
from aqua_jax.experiments import overrides, settings
from aqua_jax.experiments import simulated_settings as simulated
from aqua_jax.simulation import cost, hardware, shapes

DEVICE = simulated.DeviceSettings(hardware="H100", model="Llama-3.1-8B")
PEER = {"kind": "peer", "bytes": 240 * 10**9}
HOST = {"kind": "host", "bytes": 400 * 10**9}
LANES_USUAL = 12
COST = cost.text_cost(hardware.load(DEVICE.hardware), shapes.text(DEVICE.model))
PREFILL_WEIGHT = round(COST.row_ps * LANES_USUAL / COST.step_ps, 3)


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    peer, host = {"tiers": {"peer": PEER, "host": HOST}}, {"tiers": {"host": HOST}}
    in_line = {"engine": {"overlap": False}}
    return overrides.simulated_config_dict(
        simulated.SimulatedExperiment(
            arm_settings={
                "fcfs": {"policy": {"name": "fcfs"}},
                "fcfs_reserve": {"policy": {"name": "fcfs_reserve"}},
                "cfs_host": {"memory": host},
                "cfs_peer": {"memory": peer},
                "cfs_peer_in_line": {"memory": peer} | in_line,
                "cfs_host_in_line": {"memory": host} | in_line,
            },
            rates="1,1.5",
            repeats=3,
            workload=settings.WorkloadSettings(
                trace="../shared/data/mooncake_fast25_conversation_trace.jsonl",
                requests=300,
                prompt_scale=1.0,
                output_scale=1.0,
                prompt_max=65_536,
                output_max=2_000,
            ),
            device=DEVICE,
            engine=simulated.SimulatedEngineSettings(units_max=67_584, chunk_tokens=2_048),
            memory=simulated.SimulatedMemory(fraction=0.5),
            policy=base.PolicySettings(
                quantum_tokens=32,
                prefill_quantum_tokens=4_096,
                weights=base.Weights(prefill=PREFILL_WEIGHT),
            ),
            report=simulated.SimulatedReport(baselines="fcfs,fcfs_reserve"),
        )
    )
