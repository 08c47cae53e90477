"""Where peer memory wins over host memory: long contexts, short quanta, few sessions that fit.

    python -m aqua_jax.run --config=configs/burst_links.py --workdir=out/burst_links
"""

from __future__ import annotations

import ml_collections

from aqua_jax.control import types
from aqua_jax.control.policies import base
from aqua_jax.experiments import overrides, settings
from models import build

# The model emulated: Llama-3.1-8B, bf16.
WEIGHT_BYTES = 16e9
WEIGHTS = 8e9
KV_TOKEN_BYTES = 128 * 1024  # 32 layers, K and V, 8 KV heads of 128, 2 bytes
ATTENTION_FLOPS = 4 * 32 * 4096  # a token and a token of its context, all layers

# The device: one H100 SXM.
HBM_BYTES_PER_SECOND = 3.35e12
HBM_EFFICIENCY = 0.8
FLOPS_PER_SECOND = 990e12
FLOPS_EFFICIENCY = 0.6
KV_BYTES = 18 * types.GIB

NVLINK = settings.LinkSettings(latency_seconds=8.9e-6, bytes_per_second=370e9)
PCIE = settings.LinkSettings(latency_seconds=10e-6, bytes_per_second=52e9)

# What runs in its place.
TOKEN = 16  # emulated tokens that one token of the tiny model stands for
PAGE_TOKENS = 64
PROMPT_MEAN = 24_000 / TOKEN

step_bandwidth = HBM_BYTES_PER_SECOND * HBM_EFFICIENCY
STEP_SECONDS = TOKEN * WEIGHT_BYTES / step_bandwidth
STEP_UNIT_SECONDS = TOKEN * TOKEN * KV_TOKEN_BYTES / step_bandwidth
PREFILL_UNIT_SECONDS = (
    TOKEN * (2 * WEIGHTS + ATTENTION_FLOPS * 12_000) / (FLOPS_PER_SECOND * FLOPS_EFFICIENCY)
)
PAGE_BYTES = PAGE_TOKENS * TOKEN * KV_TOKEN_BYTES
POOL_PAGES = KV_BYTES // PAGE_BYTES + 1

REAL_PAGE = 2 * 2 * PAGE_TOKENS * 4 * 8 * 4
PEER = {"kind": "peer", "bytes": 1024 * REAL_PAGE, "link": "nvlink"}
HOST = {"kind": "host", "bytes": 4096 * REAL_PAGE, "link": "pcie"}


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.to_config_dict(
        settings.Experiment(
            model=settings.ModelSettings(build=build.random_llama, name="tiny"),
            arm_settings={
                "fcfs": {"policy": {"name": "fcfs"}},
                "cfs_host": {"policy": {"name": "cfs"}, "memory": {"tiers": {"host": HOST}}},
                "cfs_peer": {
                    "policy": {"name": "cfs"},
                    "memory": {"tiers": {"peer": PEER, "host": HOST}},
                },
            },
            workload=settings.WorkloadSettings(
                requests=14,
                rate=3.0,
                prompt_scale=20 / TOKEN,
                output_scale=2.5 / TOKEN,
                prompt_max=64 * 1024 // TOKEN - 128,
                output_max=128,
            ),
            engine=settings.EngineSettings(
                lanes=8,
                chunk_tokens=128,
                chunks_max=1,
                page_tokens=PAGE_TOKENS,
                units_max=64 * 1024 // TOKEN,
                steps_max=4,
                steps_contended=2,
            ),
            memory=settings.MemorySettings(pool_pages=POOL_PAGES),
            policy=base.PolicySettings(
                quantum_tokens=2, weights=base.Weights(prefill=0.02)
            ),
            emulate=settings.EmulateSettings(
                dilation=1.0,
                step_seconds=STEP_SECONDS,
                step_unit_seconds=STEP_UNIT_SECONDS,
                prefill_unit_seconds=PREFILL_UNIT_SECONDS,
                page_bytes=PAGE_BYTES,
                links={"nvlink": NVLINK, "pcie": PCIE},
            ),
        )
    )
