"""The quantum, from 4 tokens to 1024, at one rate: time to first token against time per token.

The burst of `sim_burst.py` at 4 requests a second in five windows, under cfs with peer memory,
one arm for each quantum, and both kinds of first come first served, whose quantum is endless. A
short quantum serves newcomers sooner and gives each session fewer tokens at a time.

Command: `python -m aqua_jax.run --config=configs/sim_quantum.py --workdir=out/sim_quantum`.
Hardware: any; everything is simulated. Time: 1 minute on 2 cores.
Expect (simulated): since newcomers need no quantum, the p99 of the first token is 25 times better
than first come first served with a quantum of 4 tokens and 23 with one of 1024; throughput goes
from 0.92 to 1.09 of it, the mean end to end from 0.68 to 1.03, and the time per token p50 from 22
times to 12 times its own (medians of five windows; see the plot).
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import overrides
from aqua_jax.experiments import simulated_settings as simulated
from configs import sim_burst

QUANTA = (4, 16, 64, 256, 1024)
TIERS = {"tiers": {"peer": sim_burst.PEER, "host": sim_burst.HOST}}


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    arms = {name: sim_burst.ARMS[name] for name in ("fcfs", "fcfs_reserve")}
    arms |= {
        f"cfs_q{quantum}": {"policy": {"quantum_tokens": quantum}, "memory": TIERS}
        for quantum in QUANTA
    }
    return overrides.simulated_config_dict(
        simulated.SimulatedExperiment(
            arm_settings=arms,
            rates="4",
            repeats=5,
            workload=sim_burst.AZURE,
            device=sim_burst.DEVICE,
            memory=simulated.SimulatedMemory(fraction=sim_burst.MEMORY_FRACTION),
            policy=sim_burst.POLICY,
            report=simulated.SimulatedReport(baselines="fcfs,fcfs_reserve"),
        )
    )
