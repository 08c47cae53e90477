"""An arm of an emulated experiment on a virtual clock: its figures without a device, exactly.

Knows: settings, simulated devices that take the emulated times. Does not know: jax,
what an experiment is to show.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.engine import assemble
from aqua_jax.engine import engine as engines
from aqua_jax.experiments import machine, recorder, replay, settings
from aqua_jax.simulation import network
from aqua_jax.simulation import runner as runners
from aqua_jax.workloads import records


class Slots(NamedTuple):
    """Slots of a tier that is as large as anybody needs."""

    space: int
    slots: int = 1024


def run(arm: settings.Experiment) -> records.RunRecord:
    """The arm's record on simulated devices that take the emulated times."""
    clock = clocks.VirtualClock()
    engine_settings, emulate = arm.engine, arm.emulate
    tiers = {name: Slots(i) for i, (name, _) in enumerate(arm.memory.nearest_first, 1)}
    reads = machine.count_reads(arm, window=0)
    spaces = {name: tier.space for name, tier in tiers.items()}
    cost = machine.step_cost(arm, spaces, page_bytes=0, reads=reads)
    runner = runners.SimulatedRunner(
        clock,
        runners.Shape(
            pages=arm.memory.pool_pages,
            page_units=engine_settings.page_tokens,
            page_bytes=emulate.page_bytes,
            lanes=engine_settings.lanes,
            chunk_units=engine_settings.chunk_tokens,
            steps_max=engine_settings.steps_max,
            units_max=engine_settings.units_max,
        ),
        lambda batch: round(cost.seconds(batch) * emulate.dilation * 1e9),
    )
    mover = network.SimulatedMover(
        clock,
        network.Network(clock),
        routes={
            pair: _route(emulate.links[arm.memory.tiers[name].link], emulate.dilation)
            for name, tier in tiers.items()
            for pair in ((0, tier.space), (tier.space, 0))
        },
        page_bytes=emulate.page_bytes,
    )
    controller = assemble.make_controller(
        runner,
        tiers=tiers,
        policy=arm.policy,
        settings=controllers.ControllerSettings(
            lanes=engine_settings.lanes,
            chunk_units=engine_settings.chunk_tokens,
            steps_max=engine_settings.steps_max,
            chunks_max=engine_settings.chunks_max,
            steps_contended=engine_settings.steps_contended,
            early_pages=engine_settings.early_pages,
        ),
        attend_away=arm.memory.attends,
    )
    record = records.RunRecord(arm="simulated", evidence="simulated")
    keeper = recorder.Recorder(record, emulate.page_bytes, reads)
    engine = engines.Engine(controller, mover, runner, clock, observer=keeper)
    drawn = replay.arrivals(arm.workload, units_max=engine_settings.units_max).arrivals
    wanted = [
        dataclasses.replace(runners.request(a.prompt_tokens, a.output_tokens), tenant=a.tenant)
        for a in drawn
    ]
    replay.run(
        engine, keeper, drawn, wanted, on_sample=lambda sample, done: None, stopped=lambda: False
    )
    return record


def _route(link: settings.LinkSettings, dilation: float) -> network.Route:
    channel = network.Channel("link", round(link.bytes_per_second / dilation))
    return network.Route((channel,), round(link.latency_seconds * dilation * 1e9))
