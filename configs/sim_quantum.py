"""The quantum, from 4 tokens to 1024, at one rate: time to first token against time per token.

The burst of `sim_burst.py` at 4 requests a second in five windows, under cfs with peer memory,
one arm for each quantum, and both kinds of first come first served, whose quantum is endless. A
short quantum serves newcomers sooner and gives each session fewer tokens at a time.

Command: `python -m aqua_jax.run --config=configs/sim_quantum.py --workdir=out/sim_quantum`.
Hardware: any; everything is simulated. Time: 3 minutes on 2 cores.
Expect (simulated): from a quantum of 4 tokens to one of 1024 the p99 of the first token goes from
28 to 5 times better than first come first served, throughput from 0.95 to 1.06 of it, and the time
per token p50 from 1.8 times to 1.6 times its own (two windows of 300 requests; see the plot).
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
            memory=simulated.SimulatedMemory(fraction=0.86),
            policy=sim_burst.POLICY,
            report=simulated.SimulatedReport(baselines="fcfs,fcfs_reserve"),
        )
    )
