"""A prompt whose keys and values are twice the pool: half of them are attended where they are.

Command: `python -m aqua_jax.run --config=configs/long_prompt.py --workdir=out/long_prompt`.
Time: 100 s on 2 cores. Hardware: any CPU with the native library; what is emulated comes first.
Expect (emulated): the same token ids in every arm, no preemption, nothing recomputed; the time per
token, one of which stands for 4, is 49 ms where all fits, 144 with half at a peer, 720 with half at
the host. Times of first tokens, 10 % apart, are lower bounds and no forecast.

One prompt of 128k tokens at Llama-3.1-8B on an H100 that has 8 GiB for its 16 GiB of KV. While it
is prefilled its oldest pages are copied out beside the slices, then read where they are. A step
reads 8 GiB of them: 24 ms over NVLink, 169 over PCIe.

Prefill is taken to run at 0.6 of the rate of tensor cores, and to bring each page that is away over
its link once for 8k tokens. That asks for an attention kernel that keeps a page for all rows of a
chunk. The CUDA kernel here does not do that yet: it reads the page again for every two rows of this
model, and uses no tensor cores. So nothing here says how long a prompt waits for its first token
with the kernel that there is, least of all behind PCIe; only what such a kernel could reach.
With short requests of another client beside it, which on the same assumption have their first
tokens within 2 s: `--config=configs/long_prompt.py:beside`.
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
KV_TOKEN_BYTES = 2 * 32 * 8 * 128 * 2  # 128 KiB
ATTENTION_FLOP = 4 * 32 * 32 * 128  # of one token for each token before it

# One H100 SXM, nominal, and the share of it that is reached.
HBM_BYTES_PER_SECOND, HBM_REACHED = 3.35e12, 0.8
FLOP_PER_SECOND, FLOP_REACHED = 990e12, 0.6
NVLINK = settings.LinkSettings(latency_seconds=8.9e-6, bytes_per_second=370e9)  # as measured
PCIE = settings.LinkSettings(latency_seconds=10e-6, bytes_per_second=52e9)  # 5.0 x16, pinned

PROMPT_TOKENS = 128 * 1024  # 16 GiB of KV
OUTPUT_TOKENS = 192
CHUNK_TOKENS = 8 * 1024  # of one prefill program

# The small model that runs in its place: one of its tokens stands for SCALE of the prompt, one of
# its steps for STEP_SCALE.
SCALE, STEP_SCALE = 64, 4
PAGE_TOKENS = 16
DEMO_PAGE_BYTES = 64 * 1024  # 4 layers, K and V, 16 tokens, 4 KV heads of 32, 4 bytes
DILATION = 1.0

PAGE_BYTES = PAGE_TOKENS * SCALE * KV_TOKEN_BYTES
PAGES = (PROMPT_TOKENS // SCALE + OUTPUT_TOKENS // STEP_SCALE) // PAGE_TOKENS
STEP_SECONDS = WEIGHT_BYTES / (HBM_BYTES_PER_SECOND * HBM_REACHED)
CONTEXT_SECONDS = KV_TOKEN_BYTES / (HBM_BYTES_PER_SECOND * HBM_REACHED)
PREFILL_FLOP = 2 * WEIGHTS + ATTENTION_FLOP * PROMPT_TOKENS / 2
PREFILL_SECONDS = PREFILL_FLOP / (FLOP_PER_SECOND * FLOP_REACHED)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value. variant: "" or "beside"."""
    peer = {"kind": "peer", "bytes": 2 * PAGES * DEMO_PAGE_BYTES, "link": "nvlink"}
    host = {"kind": "host", "bytes": 2 * PAGES * DEMO_PAGE_BYTES, "link": "pcie"}
    return overrides.to_config_dict(
        settings.Experiment(
            model=settings.ModelSettings(build=build.causal, name="demo"),
            arm_settings={
                "fits": {},
                "peer": {"memory": {"pool_pages": 1 + PAGES // 2, "tiers": {"peer": peer}}},
                "host": {"memory": {"pool_pages": 1 + PAGES // 2, "tiers": {"host": host}}},
            },
            workload=_beside() if variant == "beside" else _alone(),
            engine=settings.EngineSettings(
                lanes=4,
                chunk_tokens=CHUNK_TOKENS // SCALE,
                chunks_max=1,
                page_tokens=PAGE_TOKENS,
                units_max=PAGES * PAGE_TOKENS,
                steps_max=4,
                steps_contended=2,
            ),
            memory=settings.MemorySettings(
                pool_pages=1 + 2 * PAGES, mover="ffi", attention="native", attend_away="long"
            ),
            policy=base.PolicySettings(quantum_tokens=8, prefill_quantum_tokens=64),
            emulate=settings.EmulateSettings(
                dilation=DILATION,
                step_seconds=STEP_SCALE * STEP_SECONDS,
                step_unit_seconds=STEP_SCALE * SCALE * CONTEXT_SECONDS,
                prefill_unit_seconds=SCALE * PREFILL_SECONDS,
                page_bytes=PAGE_BYTES,
                step_reads=STEP_SCALE,
                links={"nvlink": NVLINK, "pcie": PCIE},
            ),
            report=settings.ReportSettings(baselines="fits,host", derivation=_derivation()),
        )
    )


def _alone() -> settings.WorkloadSettings:
    return settings.WorkloadSettings(
        requests=1,
        rate=1.0,
        prompt_scale=1e3,  # cut to PROMPT_TOKENS
        prompt_max=PROMPT_TOKENS // SCALE,
        output_scale=1e3,
        output_max=OUTPUT_TOKENS // STEP_SCALE,
    )


def _beside() -> settings.WorkloadSettings:
    """The prompt, and a short request of another client every two seconds."""
    return settings.WorkloadSettings(
        trace="configs/long_prompt.csv",
        requests=6,
        rate=0.5 / DILATION,
        prompt_scale=1 / SCALE,
        prompt_max=PROMPT_TOKENS // SCALE,
        output_scale=1 / STEP_SCALE,
        output_max=OUTPUT_TOKENS // STEP_SCALE,
    )


def _derivation() -> str:
    """How each emulated time follows from the figures above."""
    hbm = f"{HBM_BYTES_PER_SECOND / 1e12:.2f} TB/s x {HBM_REACHED}"
    flop = f"{FLOP_PER_SECOND / 1e12:.0f} TFLOP/s x {FLOP_REACHED}"
    away_bytes = PAGES * PAGE_BYTES / 2
    lines = [
        "Emulates Llama-3.1-8B on an H100 SXM that has half of what the prompt's KV takes,"
        f" {PROMPT_TOKENS // 1024}k tokens:",
        f"  step     {STEP_SECONDS * 1e3:.2f} ms: {WEIGHT_BYTES / 1e9:.0f} GB of weights / ({hbm})",
        f"  context  {CONTEXT_SECONDS * 1e9:.1f} ns a token and step:"
        f" {KV_TOKEN_BYTES // 1024} KiB of KV / the same",
        f"  prefill  {PREFILL_SECONDS * 1e6:.1f} us a token: {PREFILL_FLOP / 1e9:.1f} GFLOP"
        f" (2 x 8e9, and attention over half a prompt) / ({flop})",
        "  away     every page attended away crosses its link in each step, and once for each"
        f" {CHUNK_TOKENS // 1024}k tokens of prefill; nothing hides it:",
        "           For prefill that is a lower bound: it asks for an attention kernel that brings"
        " a page over once a",
        "           chunk, on tensor cores, which the CUDA kernel here does not do yet. First-token"
        " times are no forecast.",
    ]
    lines += [
        f"           {name} {link.bytes_per_second / 1e9:.0f} GB/s, {away_bytes / types.GIB:.1f}"
        f" GiB in {away_bytes / link.bytes_per_second * 1e3:.0f} ms"
        for name, link in (("NVLink", NVLINK), ("PCIe", PCIE))
    ]
    lines.append(
        f"One token of the demo model's prompt stands for {SCALE}, one of its steps for"
        f" {STEP_SCALE}, one of its pages for {PAGE_BYTES / types.MIB:.0f} MiB."
    )
    return "\n".join(lines)
