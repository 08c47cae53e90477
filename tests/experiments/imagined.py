"""A simulated experiment that is over in a moment: a small pool, short requests."""

from __future__ import annotations

import dataclasses
from typing import Any

from aqua_jax.control.policies import base
from aqua_jax.experiments import settings
from aqua_jax.experiments import simulated_settings as simulated
from aqua_jax.simulation import hardware, shapes

H100 = hardware.load("H100")
MODEL = shapes.text("CodeLlama-34B")
PAGES = 60
FRACTION = (MODEL.weight_bytes + PAGES * MODEL.page_bytes(16)) / H100.memory_bytes
TIERS = {"peer": {"kind": "peer", "bytes": 10**9}, "host": {"kind": "host", "bytes": 10**10}}
ARMS: dict[str, Any] = {
    "fcfs": {"policy": {"name": "fcfs"}},
    "cfs_peer": {"memory": {"tiers": TIERS}},
    "cfs_in_line": {"memory": {"tiers": TIERS}, "engine": {"overlap": False}},
}


def experiment(**changes: Any) -> simulated.SimulatedExperiment:
    """Thirty requests at 6 and at 20 a second; `workload__requests=3` changes a part of it."""
    made = simulated.SimulatedExperiment(
        arm_settings=ARMS,
        rates="6,20",
        repeats=2,
        workers=1,
        workload=settings.WorkloadSettings(
            requests=30, prompt_scale=0.2, output_scale=0.3, prompt_max=400, output_max=100
        ),
        engine=simulated.SimulatedEngineSettings(units_max=500, lanes=16),
        memory=simulated.SimulatedMemory(fraction=FRACTION),
        policy=base.PolicySettings(quantum_tokens=8, prefill_quantum_tokens=64),
    )
    for path, value in changes.items():
        head, _, name = path.rpartition("__")
        if head:
            value = dataclasses.replace(getattr(made, head), **{name: value})
        made = dataclasses.replace(made, **{head or name: value})
    return made
