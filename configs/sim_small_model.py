"""A small model with long contexts, where the link matters: Llama-3.1-8B, prompts of 12k tokens.

Llama-3.1-8B has half of the memory of an H100, beside another model; neighbours lend 240 GB.
300 consecutive requests of the Mooncake conversation trace in each of three windows, and a quantum
of 32 tokens. A session's KV is 1.5 GB in the mean and a step takes some 10 ms, so that a preemption
takes 3 steps over PCIe and less than one over NVLink.

Command: `python -m aqua_jax.run --config=configs/sim_small_model.py --workdir=out/sim_small_model`.
Hardware: any; everything is simulated. Time: 3 minutes on 2 cores.
The trace is not in the tree: mooncake_fast25_conversation_trace.jsonl is the conversation trace of
github.com/kvcache-ai/Mooncake; where it lies elsewhere, `--config.workload.trace=FILE`.
Expect (simulated): overlapped, copies hide behind slices over either link; in line with the slices,
the device waits 27 s for copies over PCIe and 4.3 s over NVLink at 1 request a second, 49 and 20 s
at 1.5, which costs 6 to 8 % of the throughput and, at 1.5, a third of the p99 of the first token.
Against fcfs_reserve at 1.5: first tokens p50 12 and p99 1.3 times sooner at 0.97 of the throughput;
sessions end later, at 0.64 in the mean, and the time per token p50 is 8 times longer.
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
