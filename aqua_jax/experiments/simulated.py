"""One simulated run: an arm's settings and a list of arrivals, on a virtual clock.

Knows: which simulated devices and links the settings name, replay, the record.
Does not know: other runs, reports, processes.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, slices, types
from aqua_jax.engine import observer
from aqua_jax.experiments import away_reads, recorder, replay, simulated_settings
from aqua_jax.simulation import engines, hardware, network, shapes
from aqua_jax.simulation import runner as runners
from aqua_jax.workloads import fairness, measure, records, reusable


class Job(NamedTuple):
    """What to run. rate: requests a second, 0: the trace's own. seed: of the window.

    keeps_record: the run's record comes back with its timeline, and not its figures alone.
    """

    arm: str
    settings: simulated_settings.SimulatedExperiment
    rate: float
    seed: int
    arrivals: Sequence[records.Arrival]
    keeps_record: bool = False


class Done(NamedTuple):
    """What came of it. summary, tenants: as in a report, the same in every run; host is not."""

    arm: str
    rate: float
    seed: int
    summary: dict[str, Any]
    tenants: dict[str, dict[str, Any]]
    host: dict[str, Any]
    record: records.RunRecord | None


def run(job: Job, stopped: Callable[[], bool]) -> Done:
    """Runs the job until all requests are done, or `stopped()`: then it is marked interrupted."""
    arm = job.settings
    record = records.RunRecord(
        arm=job.arm,
        evidence="simulated",
        fairness=fairness.Fairness(arm.policy.tenant_weights),
    )
    keeper = recorder.Recorder(
        record,
        spec_of(arm).page_bytes,
        reads_of(arm),
        sample_seconds=arm.report.sample_seconds,
        keeps_timeline=job.keeps_record,
    )
    if arm.engine.prefix_reuse:
        record.reusable_share = reusable.share(job.arrivals)
    made = make(arm, keeper)
    memory = made.engine.controller.memory
    record.capacity_pages = {"device": memory.device.capacity}
    record.capacity_pages |= {tier.name: tier.slots.capacity for tier in memory.tiers}
    gc.collect()
    gc.freeze()  # as an arm of a real run does: else one dispatch pays for looking at everything
    begin = time.perf_counter()
    try:
        replay.run(
            made.engine,
            keeper,
            job.arrivals,
            _requests(job.arrivals),
            on_sample=lambda sample, finished: None,
            stopped=stopped,
        )
    finally:
        gc.unfreeze()
    made.engine.check_integrity()
    record.stall_seconds += made.runner.held_ns / 1e9
    return Done(
        job.arm,
        job.rate,
        job.seed,
        measure.summarise(record),
        measure.summarise_tenants(record),
        measure.summarise_host(record, time.perf_counter() - begin),
        record if job.keeps_record else None,
    )


def make(
    arm: simulated_settings.SimulatedExperiment, keeper: observer.Observer | None = None
) -> engines.Simulated:
    """The arm's engine on a clock and a network of its own."""
    clock = clocks.VirtualClock()
    spec = spec_of(arm)
    return engines.make(
        clock, network.Network(clock), spec, tiers=_tiers(arm, spec), observer=keeper
    )


def spec_of(arm: simulated_settings.SimulatedExperiment) -> engines.TextEngine:
    """The engine that the settings describe.

    Raises ConfigError for unknown hardware and models, and for a model that does not fit.
    """
    device, engine = arm.device, arm.engine
    return engines.TextEngine(
        hardware=hardware.load(device.hardware),
        shape=shapes.text(device.model),
        limits=slices.ControllerSettings(
            lanes=engine.lanes,
            chunk_units=engine.chunk_tokens,
            chunks_max=engine.chunks_max,
            steps_max=engine.steps_max,
            steps_contended=engine.steps_contended,
            early_pages=engine.early_pages,
        ),
        policy=arm.policy,
        shards=device.shards,
        memory_fraction=arm.memory.fraction,
        page_tokens=engine.page_tokens,
        units_max=engine.units_max,
        fuses=engine.fuses,
        overlaps=engine.overlap,
        attend_away=arm.memory.attends,
        away_reads=reads_of(arm).count,
        away_hides=engine.away_hides,
        ahead_seconds=engine.ahead_seconds,
        prefix_reuse=engine.prefix_reuse,
    )


def check(arm: simulated_settings.SimulatedExperiment, name: str) -> None:
    """That the arm can be put together. Raises ConfigError that names it."""
    try:
        _tiers(arm, spec_of(arm))
    except errors.ConfigError as error:
        raise errors.ConfigError(f"arm {name!r}: {error}") from None


def _requests(arrivals: Sequence[records.Arrival]) -> Iterator[types.Request]:
    """One for each arrival, that runs to its recorded length, made when it is asked for."""
    for number, arrival in enumerate(arrivals):
        prompt = runners.Prompt(number, arrival.prefix_ids, max(1, arrival.prefix_block_tokens))
        yield runners.request(
            arrival.prompt_tokens, arrival.output_tokens, payload=prompt, tenant=arrival.tenant
        )


def reads_of(arm: simulated_settings.SimulatedExperiment) -> away_reads.AwayReads:
    """Counts the pages that a batch of the arm attends away."""
    engine = arm.engine
    return away_reads.AwayReads(chunk_units=engine.chunk_tokens, page_units=engine.page_tokens)


def _tiers(
    arm: simulated_settings.SimulatedExperiment, spec: engines.TextEngine
) -> dict[str, engines.Tier]:
    """Peers over NVLink, each with devices of its own; hosts over PCIe, which they share."""
    own = spec.hardware
    pcie = engines.port("pcie", own.pcie, shards=spec.shards)
    lender = hardware.load(arm.device.lender) if arm.device.lender else own
    tiers: dict[str, engines.Tier] = {}
    nvlink: engines.Port | None = None
    for name, tier in arm.memory.nearest_first:
        if tier.kind == "host":
            tiers[name] = engines.host_tier(tier.bytes, pcie)
            continue
        nvlink = nvlink or engines.port("nvlink", _nvlink(own, name), shards=spec.shards)
        lent = engines.port(name, _nvlink(lender, name), shards=spec.shards)
        tiers[name] = engines.peer_tier(tier.bytes, nvlink, lent)
    return tiers


def _nvlink(device: hardware.Hardware, tier: str) -> hardware.LinkFit:
    if device.nvlink is None:
        raise errors.ConfigError(
            f"memory.tiers.{tier} is a peer's, and {device.name} has no NVLink: give a tier of kind"
            " host, or other hardware"
        )
    return device.nvlink
