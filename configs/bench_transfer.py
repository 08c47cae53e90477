"""How fast pages move, by size and by run length, and what decoding pays while they do.

Command: `python -m aqua_jax.run --config=configs/bench_transfer.py --workdir=out/transfer`.
Time: 6 minutes. Hardware: a CPU with two cores or more; the native library.
Expect: pages of 2 MiB by ffi at 0.85 of memcpy or more both ways, runs of 64 KiB pages at 0.7, 64
pages of 256 KiB 3 times as fast as by xla. Pinned, decoding pays 5 % at most for 4 GB/s and 25 %
for 8; unpinned, at most 1.3 times what memcpy at that rate costs it.

Rows of pages and runs: eight plans of 16 MiB between the pool and host memory, by memcpy of the
same ranges, the ffi mover, the xla mover, and layer by layer from one array a layer, as caches
are mostly laid out. Every page of a plan, or run of pages, lies apart from the next.

Rows of rates: sessions of the demo model decode while plans of 2 MiB pages go out and in at that
rate. Pinned, XLA has one core, Python and the transfer thread have the other; unpinned, all share
both.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import overlap_bench, overrides, settings, transfer_bench
from models import build


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    model = settings.ModelSettings(build=build.causal, name="demo")
    return overrides.benchmark_config_dict(
        transfer_bench.TransferBenchmark(overlap=overlap_bench.Overlap(model=model))
    )
