"""Where a peer's memory beats the host's: long contexts on a fast small model, short quanta.

Command: `python -m aqua_jax.run --config=configs/burst_links.py --workdir=out/burst_links`
"""

from __future__ import annotations

import textwrap

import ml_collections

from aqua_jax.control.policies import base
from aqua_jax.control.types import GIB, MIB
from aqua_jax.experiments import overrides, settings
from models import build

# Llama-3.1-8B: 32 layers, 32 query and 8 KV heads of 128, weights and KV of 2 bytes.
WEIGHTS = 8e9
WEIGHT_BYTES = 2 * WEIGHTS
KV_TOKEN_BYTES = 2 * 32 * 8 * 128 * 2  # 128 KiB; a page of 16 tokens is 2 MiB
ATTENTION_FLOP = 4 * 32 * 32 * 128  # of one token for each token before it

# One H100 SXM, nominal, and the share of it that is reached.
HBM_BYTES_PER_SECOND, HBM_REACHED = 3.35e12, 0.8
FLOP_PER_SECOND, FLOP_REACHED = 990e12, 0.6
NVLINK = settings.LinkSettings(latency_seconds=8.9e-6, bytes_per_second=370e9)  # as measured
PCIE = settings.LinkSettings(latency_seconds=10e-6, bytes_per_second=52e9)  # 5.0 x16, pinned

# The workload: documents, and what the model has left for their KV.
PROMPT_TOKENS = 32 * 1024
OUTPUT_TOKENS_MAX = 512
QUANTUM_TOKENS = 16
KV_BYTES = 7 * GIB

# The tiny model that runs in its place: one of its tokens stands for SCALE.
SCALE = 16
PAGE_TOKENS = 64
DILATION = 2.0  # clock seconds of an emulated one: the tiny model's must fit in, on two busy cores
TINY_PAGE_BYTES = 64 * 1024  # 2 layers, K and V, 64 tokens, 4 KV heads of 8, 4 bytes

PAGE_BYTES = PAGE_TOKENS * SCALE * KV_TOKEN_BYTES
STEP_SECONDS = WEIGHT_BYTES / (HBM_BYTES_PER_SECOND * HBM_REACHED)
CONTEXT_SECONDS = KV_TOKEN_BYTES / (HBM_BYTES_PER_SECOND * HBM_REACHED)
PREFILL_FLOP = 2 * WEIGHTS + ATTENTION_FLOP * PROMPT_TOKENS / 2
PREFILL_SECONDS = PREFILL_FLOP / (FLOP_PER_SECOND * FLOP_REACHED)
# Service is device time: a prefill token over a decode step alone on the device.
PREFILL_WEIGHT = PREFILL_SECONDS / (STEP_SECONDS + CONTEXT_SECONDS * PROMPT_TOKENS)

DERIVATION = textwrap.dedent(f"""\
    Emulated: Llama-3.1-8B on one H100 of which {KV_BYTES / GIB:.0f} GiB hold KV. For each token:
      decode step     {STEP_SECONDS * 1e3:.2f} ms = {WEIGHT_BYTES / 1e9:.0f} GB weights / \
({HBM_BYTES_PER_SECOND / 1e12} TB/s x {HBM_REACHED})
        and context   {CONTEXT_SECONDS * 1e9:.1f} ns a token = {KV_TOKEN_BYTES // 1024} KiB KV / \
the same; at {PROMPT_TOKENS:,} tokens {CONTEXT_SECONDS * PROMPT_TOKENS * 1e3:.2f} ms
      prefill         {PREFILL_SECONDS * 1e6:.1f} us = {PREFILL_FLOP / 1e9:.1f} GFLOP / \
({FLOP_PER_SECOND / 1e12:.0f} TFLOP/s x {FLOP_REACHED}); \
2 x 8e9 and attention over half a prompt
      NVLink          {NVLINK.latency_seconds * 1e6:.1f} us + bytes / \
{NVLINK.bytes_per_second / 1e9:.0f} GB/s: a prompt in \
{PROMPT_TOKENS * KV_TOKEN_BYTES / NVLINK.bytes_per_second * 1e3:.1f} ms
      PCIe            {PCIE.latency_seconds * 1e6:.1f} us + bytes / \
{PCIE.bytes_per_second / 1e9:.0f} GB/s: a prompt in \
{PROMPT_TOKENS * KV_TOKEN_BYTES / PCIE.bytes_per_second * 1e3:.1f} ms
    One token of the tiny model stands for {SCALE}, one step for {SCALE} steps, one page of \
{PAGE_TOKENS} tokens
    for {PAGE_BYTES / MIB:.0f} MiB. A second of the H100 takes {DILATION:.0f} of the clock, in all figures.""")


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    peer = {"kind": "peer", "bytes": 512 * TINY_PAGE_BYTES, "link": "nvlink"}
    host = {"kind": "host", "bytes": 1024 * TINY_PAGE_BYTES, "link": "pcie"}
    return overrides.to_config_dict(
        settings.Experiment(
            model=settings.ModelSettings(build=build.causal_llama, name="tiny"),
            arm_settings={
                "fcfs": {"policy": {"name": "fcfs"}},
                "fcfs_reserve": {"policy": {"name": "fcfs_reserve"}},
                "cfs_host": {"policy": {"name": "cfs"}, "memory": {"tiers": {"host": host}}},
                "cfs_peer": {
                    "policy": {"name": "cfs"},
                    "memory": {"tiers": {"peer": peer, "host": host}},
                },
            },
            workload=settings.WorkloadSettings(
                requests=4,
                rate=2.0 / DILATION,
                seed=1,
                prompt_scale=100 / SCALE,  # so that nearly all are cut to PROMPT_TOKENS
                prompt_max=PROMPT_TOKENS // SCALE,
                output_scale=2 / SCALE,
                output_max=OUTPUT_TOKENS_MAX // SCALE,
            ),
            engine=settings.EngineSettings(
                lanes=4,
                chunk_tokens=2048 // SCALE,
                chunks_max=4,
                page_tokens=PAGE_TOKENS,
                units_max=(PROMPT_TOKENS + 2 * OUTPUT_TOKENS_MAX) // SCALE,
                steps_max=4,
                steps_contended=1,
            ),
            memory=settings.MemorySettings(pool_pages=1 + KV_BYTES // PAGE_BYTES),
            policy=base.PolicySettings(
                quantum_tokens=QUANTUM_TOKENS // SCALE,
                weights=base.Weights(prefill=PREFILL_WEIGHT),
            ),
            emulate=settings.EmulateSettings(
                dilation=DILATION,
                step_seconds=SCALE * STEP_SECONDS,
                step_unit_seconds=SCALE * SCALE * CONTEXT_SECONDS,
                prefill_unit_seconds=SCALE * PREFILL_SECONDS,
                page_bytes=PAGE_BYTES,
                links={"nvlink": NVLINK, "pcie": PCIE},
            ),
            report=settings.ReportSettings(
                baselines="fcfs,fcfs_reserve,cfs_host", derivation=DERIVATION
            ),
        )
    )
