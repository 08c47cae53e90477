"""Two clients in overload: who gets how much of an A10G with Llama-2-7B, and who waits how long.

The trace of the VTC paper (Sheng et al., OSDI 2024, github.com/Ying1123/VTC-artifact, suite
"overload"): clients at 1.5 and 3 requests a second for six minutes, 256 tokens in and 256 out, of
which the device serves 1.7. Its files carry the latencies that were measured under FCFS and VTC,
which the report puts beside the simulated ones, client by client and by time of arrival.

What is as in that system: a pool of 10,000 tokens; input and output weighted 1 to 2; nobody is
admitted who might not fit to its end, so 19 requests of 512 tokens run (19.1 on average in its
FCFS file). There that follows from a look at what is left of each request, by which 28 run for
moments; here all arms have 19 lanes. What is not: there prompts are prefilled in a batch of their
own, at most every ten steps; here in chunks of 512 tokens that share a program with a step.
Assumed: the profile of the A10G, whose memory efficiency was checked against the time per token
of this very file, so that the rate as a whole is no finding, but who waits how long is. cfs,
eevdf, mlfq, srpt and buffered page to 200 GB of the host over PCIe (the A10G has no NVLink).

Command: `python -m aqua_jax.run --config=configs/sim_fair.py --workdir=out/sim_fair`.
The trace is not in the tree; where its files lie elsewhere, `--config.workload.trace=FILE`,
`--config.report.measured.fcfs=FILE` and `--config.report.measured.vtc=FILE`.
Hardware: any; everything is simulated. Time: 3 minutes on 2 cores.
Expect (simulated): of the measured latencies, mean and p99, client by client, 0.96 to 0.97 under
FCFS and 1.01 to 1.02 under VTC. Jain's index 0.90 under fcfs, mlfq, srpt and buffered, which know
no clients, 0.98 under eevdf, 1.00 under vtc and cfs; the largest gap in service 2,277 weighted
tokens under vtc and 1,654 under cfs, with weights 2 to 1 1,846 and 2,230. The p99 of the first
token 558 s under vtc and 245 s under cfs (0.7 s for the lighter client, of 253), with weights 558
and 219. It trades the end of the heavier client for that: end to end its p99 is 598 s, of 570, and
the mean over all 439 s, of 290, as prompts are prefilled when they come.
"""

from __future__ import annotations

import math

import ml_collections

from aqua_jax.control.policies import base
from aqua_jax.experiments import overrides, settings
from aqua_jax.experiments import simulated_settings as simulated
from aqua_jax.simulation import hardware, shapes

FCFS = "../shared/data/vtc_synthetic_overload_fcfs.csv"  # ten minutes of the same arrivals
VTC = "../shared/data/vtc_synthetic_overload_vtc.csv"  # six

DEVICE = simulated.DeviceSettings(hardware="A10G", model="Llama-2-7B")
POOL_TOKENS, PAGE_TOKENS, REQUEST_TOKENS = 10_000, 16, 512
A10G, LLAMA = hardware.load(DEVICE.hardware), shapes.text(DEVICE.model)
# Of the device's memory: the weights, and pages for the pool's tokens and for scratch.
MEMORY_BYTES = LLAMA.weight_bytes + (POOL_TOKENS // PAGE_TOKENS + 1) * LLAMA.page_bytes(PAGE_TOKENS)
FRACTION = math.ceil(MEMORY_BYTES / A10G.memory_bytes * 1e6) / 1e6

HOST = {"tiers": {"host": {"kind": "host", "bytes": 200 * 10**9}}}
TWO_TO_ONE = {"0": 2.0, "1": 1.0}
ARMS = {
    "fcfs": {"policy": {"name": "fcfs"}},
    "vtc": {"policy": {"name": "vtc"}},
    "cfs_host": {"memory": HOST},
    "vtc_2to1": {"policy": {"name": "vtc", "tenant_weights": TWO_TO_ONE}},
    "cfs_host_2to1": {"policy": {"tenant_weights": TWO_TO_ONE}, "memory": HOST},
    "eevdf": {"policy": {"name": "eevdf"}, "memory": HOST},
    "mlfq": {"policy": {"name": "mlfq"}, "memory": HOST},
    "srpt": {"policy": {"name": "srpt"}, "memory": HOST},
    "buffered": {"policy": {"name": "buffered"}, "memory": HOST},
}


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.simulated_config_dict(
        simulated.SimulatedExperiment(
            arm_settings=ARMS,
            workload=settings.WorkloadSettings(
                trace=VTC, requests=1_620, prompt_scale=1.0, output_scale=1.0
            ),
            device=DEVICE,
            engine=simulated.SimulatedEngineSettings(
                lanes=POOL_TOKENS // REQUEST_TOKENS,
                page_tokens=PAGE_TOKENS,
                units_max=REQUEST_TOKENS,
            ),
            memory=simulated.SimulatedMemory(fraction=FRACTION),
            policy=base.PolicySettings(weights=base.Weights(prefill=0.5, decode=1.0)),
            report=simulated.SimulatedReport(
                baselines="fcfs,vtc", measured={"fcfs": FCFS, "vtc": VTC}
            ),
        )
    )
