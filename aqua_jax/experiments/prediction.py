"""An arm of an experiment on the machine of a profile, on a virtual clock: what it will show.

Knows: settings, arrivals, profiles, simulated devices. Does not know: jax, reports.
Controller, engine, policy, pool, lanes, slices and arrivals are those of the real
arm; slices, copies and the host's work take the profile's times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors
from aqua_jax.engine import assemble
from aqua_jax.engine import engine as engines
from aqua_jax.experiments import machine, recorder, replay, settings
from aqua_jax.simulation import host, network, profile
from aqua_jax.simulation import runner as runners
from aqua_jax.workloads import records

_POOL_SPACE = 0


class _Slots(NamedTuple):
    space: int
    slots: int


def predict(
    arm: settings.Experiment, drawn: Sequence[records.Arrival], measured: profile.Profile
) -> records.RunRecord:
    """The record of the arm's run. Raises ConfigError for a tier that the profile has no link of.

    Pages attended away are not foretold: raises ConfigError for an arm that has some.
    """
    if arm.memory.attends.is_on:
        raise errors.ConfigError(
            "memory.attend_away: a profile does not say what slices pay for pages attended away;"
            " leave it off"
        )
    clock = clocks.VirtualClock()
    sizes = arm.engine
    simulated = runners.SimulatedRunner(
        clock,
        runners.Shape(
            pages=arm.memory.pool_pages,
            page_units=sizes.page_tokens,
            page_bytes=measured.page_bytes,
            lanes=sizes.lanes,
            chunk_units=sizes.chunk_tokens,
            steps_max=sizes.steps_max,
            units_max=sizes.units_max,
        ),
        lambda batch: measured.cost.nanoseconds(batch, sizes.chunk_tokens),
        space=_POOL_SPACE,
    )
    runner = host.HostRunner(simulated, clock, measured.overhead)
    tiers = {
        name: _Slots(space, tier.bytes // measured.page_bytes)
        for space, (name, tier) in enumerate(arm.memory.nearest_first, _POOL_SPACE + 1)
    }
    links = network.SimulatedMover(
        clock,
        network.Network(clock),
        routes=_routes(arm, tiers, measured),
        page_bytes=measured.page_bytes,
    )
    controller = assemble.make_controller(
        runner, tiers=tiers, policy=arm.policy, settings=machine.controller_settings(arm)
    )
    record = records.RunRecord(arm="predicted", evidence="simulated")
    keeper = recorder.Recorder(record, measured.page_bytes, machine.count_reads(arm, window=0))
    engine = engines.Engine(
        controller,
        host.HostMover(links, clock, measured.overhead, behind=runner),
        runner,
        clock,
        settings=engines.EngineSettings(ahead_seconds=sizes.ahead_seconds),
        observer=keeper,
    )
    wanted = [
        dataclasses.replace(
            runners.request(one.prompt_tokens, one.output_tokens, seed=number), tenant=one.tenant
        )
        for number, one in enumerate(drawn)
    ]
    replay.run(
        engine, keeper, drawn, wanted, on_sample=lambda sample, done: None, stopped=lambda: False
    )
    engine.check_integrity()
    return record


def arrivals(real: records.RunRecord) -> list[records.Arrival]:
    """What came to a run in which every request ended by its length."""
    return [
        records.Arrival(one.scheduled_at, one.prompt_tokens, len(one.token_ids), one.tenant)
        for one in real.requests
    ]


def _routes(
    arm: settings.Experiment, tiers: dict[str, _Slots], measured: profile.Profile
) -> dict[tuple[int, int], network.Route]:
    """Each direction of each tier's link is a channel of its own."""
    routes: dict[tuple[int, int], network.Route] = {}
    for name, tier in tiers.items():
        link = measured.link(arm.memory.tiers[name].kind)
        for what, direction, ends in (
            ("out", link.out, (_POOL_SPACE, tier.space)),
            ("in", link.into, (tier.space, _POOL_SPACE)),
        ):
            channel = network.Channel(f"{name} {what}", direction.bytes_per_second)
            routes[ends] = network.Route((channel,), direction.latency_ns)
    return routes
