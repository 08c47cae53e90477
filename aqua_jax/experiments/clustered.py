"""One simulated run of a cluster: an arm's settings and a list of arrivals, on a virtual clock.

Knows: which members the settings name, how the records of their engines become
one. Does not know: other runs, reports, processes.
"""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable

from aqua_jax.control import errors, sources
from aqua_jax.experiments import (
    cluster_settings,
    lent,
    merging,
    recorder,
    simulated,
    simulated_settings,
)
from aqua_jax.simulation import cluster, hardware, items, shapes
from aqua_jax.simulation import runner as runners
from aqua_jax.workloads import measure, records, shaping

_LOOK_SECONDS = 1.0  # virtual, from one look to the next whether to stop
_ROUTES_SEED = 0x5EED  # beside that of the window: routes are drawn apart from it


def run(job: simulated.Job, stopped: Callable[[], bool]) -> simulated.Done:
    """Runs the job until all requests are done, or `stopped()`: then it is marked interrupted."""
    load = _Load(job)
    gc.collect()
    gc.freeze()  # as an arm of a real run does: else one dispatch pays for looking at everything
    begin = time.perf_counter()
    try:
        load.run(stopped)
    finally:
        gc.unfreeze()
    seconds = time.perf_counter() - begin
    record = load.record(interrupted=stopped())
    host = measure.summarise_host(record, seconds) | {"events": load.cluster.world.events}
    return simulated.Done(
        job.arm,
        job.rate,
        job.seed,
        measure.summarise(record),
        measure.summarise_tenants(record),
        host,
        record if job.keeps_record else None,
    )


def check(arm: simulated_settings.SimulatedExperiment, name: str) -> None:
    """That the arm can be put together. Raises ConfigError that names it."""
    try:
        cluster.Cluster(dataclasses.replace(spec_of(arm, seed=0), servers=[members_of(arm)]))
    except errors.ConfigError as error:
        raise errors.ConfigError(f"arm {name!r}: {error}") from None


def spec_of(arm: simulated_settings.SimulatedExperiment, *, seed: int) -> cluster.ClusterSpec:
    """The cluster that the settings describe. Raises ConfigError for what does not fit."""
    settings = arm.cluster
    return cluster.ClusterSpec(
        servers=[members_of(arm)] * settings.servers,
        devices=settings.devices,
        routing=settings.routing,
        times=cluster.LeaseTimes(
            unit_bytes=settings.unit_bytes,
            reclaim_seconds=settings.reclaim_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
        ),
        seed=seed,
    )


def members_of(arm: simulated_settings.SimulatedExperiment) -> cluster.Members:
    """The members of one server."""
    texts = {name: _text(arm, member) for name, member in arm.cluster.texts.items()}
    return texts | {name: _items(arm, member) for name, member in arm.cluster.items.items()}


class _Load:
    """A cluster, the requests that are to come, and what is kept of them."""

    def __init__(self, job: simulated.Job) -> None:
        arm = job.settings
        self._job = job
        self._keepers: dict[tuple[int, str], recorder.Recorder] = {}
        self._routed = shaping.with_tenants(
            job.arrivals, arm.cluster.shares, seed=job.seed ^ _ROUTES_SEED
        )
        self._reads = simulated.reads_of(arm)
        self._samples = merging.Samples()
        self.cluster = cluster.Cluster(spec_of(arm, seed=job.seed), observe=self._observe)
        self._lent = [lent.Watch(server) for server in self.cluster.servers]

    def run(self, stopped: Callable[[], bool]) -> None:
        """Until no request is left."""
        until = 0.0
        self._arrive(0)
        if self._job.keeps_record:
            self._sample()
        while (until <= self._routed[-1].at_seconds or self.cluster.living) and not stopped():
            until += _LOOK_SECONDS
            self.cluster.world.run(until)
        self.cluster.check_integrity()
        for text in self.cluster.texts:
            text.engine.drain(0.0)
            self._keepers[text.server, text.name].end(interrupted=stopped())
            self._keepers[text.server, text.name].record.stall_seconds += text.runner.held_ns / 1e9

    def record(self, *, interrupted: bool) -> records.RunRecord:
        """All that is kept."""
        parts = [keeper.record for keeper in self._keepers.values()]
        whole = merging.merge(self._job.arm, parts, self._samples.samples)
        whole.interrupted = interrupted
        whole.lenders = merging.merge_lenders([watch.records() for watch in self._lent])
        return whole

    def _observe(self, name: str, text: cluster.Text) -> recorder.Recorder:
        record = records.RunRecord(arm=self._job.arm, evidence="simulated")
        memory = text.engine.controller.memory
        record.capacity_pages = {"device": memory.device.capacity}
        page_bytes = text.member.spec.page_bytes
        keeper = recorder.Recorder(record, page_bytes, self._reads, keeps_timeline=False)
        keeper.begin(text.engine)
        self._keepers[text.server, name] = keeper
        return keeper

    def _arrive(self, number: int) -> None:
        """Request `number` is due, and all others of the same moment; then the next."""
        clock = self.cluster.world.clock
        while number < len(self._routed) and self._routed[number].at_seconds <= clock.now():
            self._submit(number, self._routed[number])
            number += 1
        if number < len(self._routed):
            clock.at(self._routed[number].at_seconds, lambda: self._arrive(number))

    def _submit(self, number: int, arrival: records.Arrival) -> None:
        to = self.cluster.choose(arrival.tenant)
        keeper = self._keepers[to.server, to.name]
        record = records.RequestRecord(
            id=number,
            tenant=arrival.tenant,
            prompt_tokens=arrival.prompt_tokens,
            scheduled_at=arrival.at_seconds,
        )
        request = runners.request(
            arrival.prompt_tokens, arrival.output_tokens, seed=number, tenant=arrival.tenant
        )
        sink = keeper.sink(record)
        try:
            stream = self.cluster.submit(to, request, sink)
        except (errors.RequestError, errors.QueueFullError):
            sink((), "refused", self.cluster.world.clock.now())
        else:
            keeper.admitted(record, stream.id)

    def _sample(self) -> None:
        clock = self.cluster.world.clock
        self._samples.take(clock.now(), self.cluster, self._keepers.values())
        for watch in self._lent:
            watch.sample(clock.now())
        later = clock.now() + self._job.settings.report.sample_seconds
        clock.at(later, self._sample)


def _text(
    arm: simulated_settings.SimulatedExperiment, member: cluster_settings.TextMemberSettings
) -> cluster.TextMember:
    device = dataclasses.replace(arm.device, model=member.model, shards=member.shards)
    spec = simulated.spec_of(dataclasses.replace(arm, device=device))
    lends = arm.cluster.lends
    retain_pages = member.retain_bytes // spec.page_bytes
    return cluster.TextMember(
        spec=spec,
        route=member.route,
        host_bytes=member.host_bytes,
        borrow_bytes=member.borrow_bytes if lends else 0,
        ahead_bytes=member.ahead_bytes,
        lends=sources.PoolLoad(retain_pages=retain_pages) if member.lends and lends else None,
        pair=member.pair,
    )


def _items(
    arm: simulated_settings.SimulatedExperiment, member: cluster_settings.ItemMemberSettings
) -> cluster.ItemMember:
    shape = shapes.items(member.model)
    batch_max = member.batch_max or shape.batch
    spec = items.ItemEngine(
        device=hardware.load(arm.device.lender or arm.device.hardware),
        shape=shape,
        batch_max=batch_max,
        batch_calm=member.batch_calm or batch_max,
        calm_seconds=member.calm_seconds,
    )
    return cluster.ItemMember(spec=spec, phases=member.phase_values(), lends=arm.cluster.lends)
