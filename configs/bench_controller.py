"""The controller's own time for one dispatch, with 256 sessions running and 10,000 waiting.

Command: `python -m aqua_jax.run --config=configs/bench_controller.py --workdir=out/controller`
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import controller_bench, overrides


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.benchmark_config_dict(controller_bench.ControllerBenchmark())
