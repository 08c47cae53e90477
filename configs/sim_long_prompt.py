"""One long prompt on OPT-30B, half of whose keys and values are away: at a peer or at the host.

8192 prompt tokens and 64 more on an H100 beside a model that leaves it half of the 11 GB of KV
that they need. The oldest pages are copied out while the prompt is prefilled, then read where they
are, 5.5 GB of them at each step. In the arms `peer` and `host` these reads run beside the rest of a
step, as with a kernel that fetches a layer ahead: a step takes the longer of both. In `peer_behind`
and `host_behind` nothing hides them.

Command: `python -m aqua_jax.run --config=configs/sim_long_prompt.py --workdir=out/sim_long_prompt`.
Hardware: any; everything is simulated. Time: 5 seconds.
Expect (simulated): a token every 26.6 ms in `peer`, 25.8 where all fits, and every 109 in `host`:
4.1 times the tokens a second once the prompt is in. Over the whole request, prompt included, it is
2.9 times, and could not be more than 3.0, which `fits` reaches: prefill takes 1.1 s of its 2.7.
With nothing hidden 42 and 136 ms, 3.2 times. What bounds each is said below the report.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.control.policies import base
from aqua_jax.experiments import overrides, settings
from aqua_jax.experiments import simulated_settings as simulated
from aqua_jax.simulation import cost, hardware, shapes

H100 = hardware.load("H100")
MODEL = shapes.text("OPT-30B")
PROMPT_TOKENS, OUTPUT_TOKENS = 8_192, 64
PAGE_TOKENS = 16
KV_BYTES = (PROMPT_TOKENS + OUTPUT_TOKENS) * MODEL.kv_token_bytes
SCRATCH_PAGES = 1
# Of the device: the weights, and half of the KV, rounded up by half a page.
POOL_BYTES = KV_BYTES // 2 + (2 * SCRATCH_PAGES + 1) * MODEL.page_bytes(PAGE_TOKENS) // 2
COST = cost.text_cost(H100, MODEL)
HALF = (MODEL.weight_bytes + POOL_BYTES) / H100.memory_bytes
WHOLE = (MODEL.weight_bytes + 2 * POOL_BYTES) / H100.memory_bytes

PEER = {"tiers": {"peer": {"kind": "peer", "bytes": KV_BYTES}}}
HOST = {"tiers": {"host": {"kind": "host", "bytes": KV_BYTES}}}
BEHIND = {"engine": {"away_hides": False}}


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.simulated_config_dict(
        simulated.SimulatedExperiment(
            arm_settings={
                "fits": {"memory": {"fraction": WHOLE}},
                "peer": {"memory": PEER},
                "host": {"memory": HOST},
                "peer_behind": {"memory": PEER} | BEHIND,
                "host_behind": {"memory": HOST} | BEHIND,
            },
            rates="1",
            workload=settings.WorkloadSettings(
                requests=1,
                prompt_scale=1e4,  # cut to PROMPT_TOKENS
                prompt_max=PROMPT_TOKENS,
                output_scale=1e4,
                output_max=OUTPUT_TOKENS,
            ),
            device=simulated.DeviceSettings(hardware=H100.name, model=MODEL.name),
            engine=simulated.SimulatedEngineSettings(
                lanes=4, chunk_tokens=512, page_tokens=PAGE_TOKENS, units_max=16_384
            ),
            memory=simulated.SimulatedMemory(fraction=HALF, attend_away="long"),
            policy=base.PolicySettings(name="cfs"),
            report=simulated.SimulatedReport(
                baselines="host,host_behind", sample_seconds=0.01, note=_bounds()
            ),
        )
    )


def _bounds() -> str:
    """What a step and the whole are bound by, from the figures above."""
    assert H100.nvlink is not None
    away_bytes = KV_BYTES / 2
    nvlink_ms = away_bytes / H100.nvlink.bytes_per_second * 1e3
    pcie_ms = away_bytes / H100.pcie.bytes_per_second * 1e3
    weights_ms = COST.step_ps / 1e9
    kv_ms = COST.context_ps * (PROMPT_TOKENS + OUTPUT_TOKENS // 2) / 1e9
    rows_ms = COST.row_ps * PROMPT_TOKENS / 1e9
    rows_ms += COST.row_context_ps * PROMPT_TOKENS * PROMPT_TOKENS / 2 / 1e9
    return (
        f"A step reads {MODEL.weight_bytes / 1e9:.0f} GB of weights in {weights_ms:.1f} ms and KV"
        f" in {kv_ms:.1f} ms of the device's memory; the {away_bytes / 1e9:.1f} GB that are away"
        f" take {nvlink_ms:.1f} ms over NVLink, so the weights bound `peer`, and {pcie_ms:.0f} ms"
        f" over PCIe, which bounds `host`. The prompt takes {rows_ms:.0f} ms of arithmetic whatever"
        " the link, so the throughput of the whole gains less than that of tokens after the first."
    )
