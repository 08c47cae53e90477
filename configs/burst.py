"""A burst of prompts on a small model whose KV memory is too small for it. The demo.

128 conversations (lengths as in the Azure trace, scaled to the model) arrive at twice the rate
that first come first served sustains, which is measured first. Memory binds, not lanes: about
ten sessions fit, in 32 lanes. On one CPU the peer device and the host are the same memory, so
`cfs_host` and `cfs_peer` differ by noise; `burst_links.py` emulates the links between them.

The model is `models/tiny_text`, which tells stories: prompts are beginnings of some that it was not
trained on, cut to the lengths of the trace, and when the arms have run some answers are printed.
Tokens are drawn by seed and position, so that they are the same in all arms all the same.

Command: `python -m aqua_jax.run --config=configs/burst.py --workdir=out/burst`
Hardware: any; on a CPU two devices are made.
Time: 60 s on 2 cores.
Expect: all answers identical; the p99 of the first token more than 10 times better than that of
fcfs, throughput at least 0.95 of it.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from aqua_jax.control import types
from aqua_jax.experiments import overrides, settings
from models import build

PEER = {"kind": "peer", "bytes": 64 * types.MIB}
HOST = {"kind": "host", "bytes": 64 * types.MIB}

TELLER = "models/tiny_text"

# With random weights and prompts, for those who measure other things with it.
EXPERIMENT = settings.Experiment(
    model=settings.ModelSettings(build=build.causal, name="demo"),
    arms="fcfs,cfs_host,cfs_peer",
    workload=settings.WorkloadSettings(
        prompt_scale=1 / 64, output_scale=0.75, prompt_max=32, output_max=224
    ),
    memory=settings.MemorySettings(pool_pages=65),
    report=settings.ReportSettings(
        note="On one CPU the peer and the host are the same memory: cfs_host and cfs_peer"
        " differ by noise. configs/burst_links.py emulates the links between them."
    ),
    arm_settings={
        "fcfs": {"policy": {"name": "fcfs"}},
        "fcfs_reserve": {"policy": {"name": "fcfs_reserve"}},
        "cfs_host": {"policy": {"name": "cfs"}, "memory": {"tiers": {"host": HOST}}},
        "cfs_recompute": {"policy": {"name": "cfs_recompute"}},
        "cfs_peer": {
            "policy": {"name": "cfs"},
            "memory": {"tiers": {"peer": PEER, "host": HOST}},
        },
    },
)


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    told = dataclasses.replace(
        EXPERIMENT,
        model=dataclasses.replace(EXPERIMENT.model, path=TELLER),
        workload=dataclasses.replace(
            EXPERIMENT.workload, texts=f"{TELLER}/prompts.txt", temperature=0.8, top_p=0.95
        ),
        report=dataclasses.replace(EXPERIMENT.report, samples=3),
    )
    return overrides.to_config_dict(told)
