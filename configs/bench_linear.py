"""Linear layers by the native library against XLA's product and what the machine can do at most.

Command: `python -m aqua_jax.run --config=configs/bench_linear.py --workdir=out/linear`
Hardware: CPU with a C++ compiler; the native library is needed. Time: 2 minutes.
Expect: with 1 and 16 rows at least 2 times XLA, whose loops copy each layer's weights first.

A row is `ROWS x INxOUT`; the sizes are those of layers of the shapes `100m` and `500m`.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import linear_bench, overrides


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.benchmark_config_dict(linear_bench.LinearBenchmark())
