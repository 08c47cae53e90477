"""The controller's own time for one dispatch, with 256 sessions running and 10,000 waiting.

Command: `python -m aqua_jax.run --config=configs/bench_controller.py --workdir=out/controller`.
Time: 25 seconds. Hardware: the host alone; figures from 2 cores of an AMD EPYC under load from
others, where an empty Python call takes 60 ns.
Expect: p50 1.2 ms under fcfs and 2.7 ms under cfs, p99 2.2 and 6.1 ms (medians of three runs). The
goal is below 1 ms. Nearly all of fcfs is work for each of the 256 sessions, of cfs half is for the
pages that 1.6 preemptions a dispatch move out and in. The largest are Python's garbage collector.

What counts is all that the controller does for a dispatch: outcomes and copies taken in, the slice
and its copies planned, 60 pages copied each way. Devices and links are simulated, so is their time.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import controller_bench, overrides


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.benchmark_config_dict(controller_bench.ControllerBenchmark())
