"""Where a peer's memory beats the host's: long contexts on a fast small model, short quanta.

Command: `python -m aqua_jax.run --config=configs/burst_links.py --workdir=out/burst_links`.
Time: 2 minutes on 2 cores. Hardware: any CPU; what is emulated is printed first.
Expect (emulated): cfs_peer stalls the device 6 to 7 times less than cfs_host (0.4 against 3.0 s)
and gives 1.1 times the tokens a second; the same token ids in every arm, no late slice or copy.

Four documents of 32k tokens arrive within 2 s at Llama-3.1-8B on an H100 that leaves it 7 GiB for
their KV, less than two need, as where several models share the card; each quantum of 16 tokens
changes who is on the device. Nothing runs beside a page-in, so it shows: 4 GiB take 12 ms over
NVLink and 83 over PCIe. With pages for more sessions the copies hide behind the others' steps and
both tiers do the same: `--config.memory.pool_pages=73` (9 GiB, two) has no stall in either arm.

Time slices pay off for first tokens (p99 12 s, fcfs_reserve 17, fcfs 25), not for the mean end to
end (17, 13 and 21 s): documents of one length finish sooner one after the other.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.control import types
from aqua_jax.control.policies import base
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
KV_BYTES = 7 * types.GIB

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


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    peer = {"kind": "peer", "bytes": 512 * TINY_PAGE_BYTES, "link": "nvlink"}
    host = {"kind": "host", "bytes": 1024 * TINY_PAGE_BYTES, "link": "pcie"}
    return overrides.to_config_dict(
        settings.Experiment(
            model=settings.ModelSettings(build=build.causal, name="tiny"),
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
                baselines="fcfs,fcfs_reserve,cfs_host", derivation=_derivation()
            ),
        )
    )


def _derivation() -> str:
    """Where each emulated figure comes from, in words."""
    nvlink, pcie = (
        f"{link.latency_seconds * 1e6:.1f} us + bytes / {link.bytes_per_second / 1e9:.0f} GB/s,"
        f" a prompt's KV in {PROMPT_TOKENS * KV_TOKEN_BYTES / link.bytes_per_second * 1e3:.1f} ms"
        for link in (NVLINK, PCIE)
    )
    hbm = f"{HBM_BYTES_PER_SECOND / 1e12} TB/s x {HBM_REACHED}"
    flop = f"{FLOP_PER_SECOND / 1e12:.0f} TFLOP/s x {FLOP_REACHED}"
    lines = (
        f"Emulated: Llama-3.1-8B on an H100 of which {KV_BYTES / types.GIB:.0f} GiB hold KV.",
        f"  step     {STEP_SECONDS * 1e3:.2f} ms: {WEIGHT_BYTES / 1e9:.0f} GB of weights / ({hbm})",
        f"  context  {CONTEXT_SECONDS * 1e9:.1f} ns a token and step:"
        f" {KV_TOKEN_BYTES // 1024} KiB of KV / the same",
        f"  prefill  {PREFILL_SECONDS * 1e6:.1f} us a token: {PREFILL_FLOP / 1e9:.1f} GFLOP"
        f" (2 x 8e9, and attention over half a prompt) / ({flop})",
        f"  NVLink   {nvlink}",
        f"  PCIe     {pcie}",
        f"One token of the tiny model stands for {SCALE}, one of its steps for {SCALE}, one of its"
        f" pages for {PAGE_BYTES / types.MIB:.0f} MiB.",
        f"One second of the H100 takes {DILATION:g} of the clock, in every figure below.",
    )
    return "\n".join(lines)
