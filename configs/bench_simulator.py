"""What an event of the simulator costs: early and late in a long run, with 1 server and with 16.

Command: `python -m aqua_jax.run --config=configs/bench_simulator.py --workdir=out/simulator`.
Time: 5 minutes. Hardware: the host alone; figures from a core of an AMD EPYC under load from
others.
Expect: an event costs the same when 800 requests have ended as when 200 have, and the same with 16
servers as with 1: ratios within 1.2 on a quiet machine.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import overrides, simulator_bench


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.benchmark_config_dict(simulator_bench.SimulatorBenchmark())
