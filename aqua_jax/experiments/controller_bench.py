"""How long the controller takes for one dispatch, with many sessions running and many more waiting.

Knows: the production engine and controller, simulated devices, the host's timer.
Does not know: jax, models, reports. Time on the devices is virtual and no
work is done there, so all that the host spends is the control plane's.

The load never lets up: the pool holds less than the running sessions want, a
session that ends is replaced by a newcomer, and what is preempted leaves for
a tier and comes back.
"""

from __future__ import annotations

import dataclasses
import gc
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, types
from aqua_jax.control.policies import base, registry
from aqua_jax.engine import assemble, observer
from aqua_jax.engine import engine as engines
from aqua_jax.simulation import network
from aqua_jax.simulation import runner as runners
from aqua_jax.workloads import measure

_PAGE_UNITS = 16
_CHUNK_UNITS = 512
_STEPS_MAX = 8
_STEP_NS, _PREFILL_UNIT_NS = 10_000_000, 40_000
_PAGE_BYTES = 2 * types.MIB
# (latency in nanoseconds, bytes a second): NVLink 4 and PCIe 5 of an H100.
_LINKS = {"peer": (8_900, 370 * 10**9), "host": (10_000, 52 * 10**9)}
_PROMPT_UNITS, _STEPS = (128, 512), (128, 768)  # of a session, drawn evenly


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ControllerBenchmark:
    """The settings.

    policies: names, comma-separated, one row each. running, waiting: sessions with and
    without a lane. pool_share: pages of the pool over those that the running sessions want at
    their full lengths. peer_share, host_share: slots of the tiers over pages of the pool.
    dispatches: measured, after `warm_up` others.
    """

    policies: str = "fcfs,cfs"
    running: int = 256
    waiting: int = 10_000
    pool_share: float = 0.8
    peer_share: float = 1.0
    host_share: float = 8.0
    quantum_tokens: int = 32
    dispatches: int = 2_000
    warm_up: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("running", "waiting", "quantum_tokens", "dispatches", "warm_up"):
            if getattr(self, name) < 1:
                raise errors.ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
        for name in ("pool_share", "peer_share", "host_share"):
            if not 0 < getattr(self, name) < float("inf"):
                raise errors.ConfigError(f"{name} is {getattr(self, name)}; give more than 0")
        for policy in self.policies.split(","):
            if policy not in registry.POLICIES:
                raise errors.ConfigError(
                    f"unknown policy {policy!r}{errors.close_match(policy, registry.POLICIES)}"
                )

    @property
    def title(self) -> str:
        """What the rows are."""
        return f"Controller, {self.running} running and {self.waiting:,} waiting"

    @property
    def devices(self) -> list[str]:
        """None: the devices are simulated."""
        return []

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(policy, its figures as `metrics.BENCHMARK` names them), each as it is measured."""
        for policy in self.policies.split(","):
            yield policy, _Load(self, policy).measure()


class _Slots(NamedTuple):
    space: int
    slots: int


class _Meter(observer.Observer):
    """What the engine says of each dispatch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.lanes: list[int] = []

    def decided(self, host_seconds: float) -> None:
        self.seconds.append(host_seconds)

    def slice_done(
        self, batch: types.Batch, chunks: int, started_at: float, finished_at: float
    ) -> None:
        self.lanes.append(len(batch.lanes))


class _Load:
    """Sessions that keep one engine under load."""

    def __init__(self, settings: ControllerBenchmark, policy: str) -> None:
        self._settings = settings
        self._random = random.Random(f"{settings.seed}/controller")
        self._meter = _Meter()
        self._engine = _engine(settings, policy, self._meter)
        self._ended = 0

    def measure(self) -> dict[str, Any]:
        """The figures over the measured dispatches."""
        settings, meter = self._settings, self._meter
        self._fill()
        meter.seconds.clear()
        meter.lanes.clear()
        before = self._counts()
        gc.collect()
        gc.freeze()  # as an arm does: else one dispatch pays for looking at every session
        begin = time.perf_counter()
        try:
            self._run(settings.dispatches)
        finally:
            gc.unfreeze()
        host_seconds = time.perf_counter() - begin
        self._engine.check_integrity()
        changes = {name: count - before[name] for name, count in self._counts().items()}
        return {
            "dispatches": len(meter.seconds),
            "lanes_mean": statistics.fmean(meter.lanes),
            "waiting": len(self._engine.controller.sessions) - settings.running,
            "controller_seconds": measure.distribution(meter.seconds),
            "engine_seconds_mean": host_seconds / len(meter.seconds),
        } | {f"{name}_per_dispatch": n / len(meter.seconds) for name, n in changes.items()}

    def _fill(self) -> None:
        """Fills the lanes at once and the queue evenly over the warm-up.

        So newcomers and sessions that were preempted stand mixed in it, as
        after a long time of too many arrivals.
        """
        for _ in range(self._settings.running):
            self._submit()
        waiting, dispatches = self._settings.waiting, self._settings.warm_up
        for number in range(dispatches):
            for _ in range(waiting * number // dispatches, waiting * (number + 1) // dispatches):
                self._submit()
            self._run(1)

    def _submit(self) -> None:
        request = runners.request(
            self._random.randint(*_PROMPT_UNITS), self._random.randint(*_STEPS)
        )
        self._engine.submit(request, sink=self._replace)

    def _replace(self, tokens: Sequence[Any], reason: str, at: float) -> None:
        """Whoever ends is followed by a newcomer."""
        if reason:
            self._ended += 1
            self._submit()

    def _run(self, dispatches: int) -> None:
        enough = len(self._meter.seconds) + dispatches
        while len(self._meter.seconds) < enough:
            self._engine.step()

    def _counts(self) -> dict[str, int]:
        controller = self._engine.controller
        moved = controller.memory.moved
        return {
            "ended": self._ended,
            "preemptions": controller.counters.preemptions,
            "pages_out": sum(moved.out.values()),
            "pages_in": sum(moved.into.values()),
        }


def _engine(settings: ControllerBenchmark, policy: str, meter: _Meter) -> engines.Engine:
    """The production engine on simulated devices and a virtual clock."""
    clock = clocks.VirtualClock()
    units = (sum(_PROMPT_UNITS) + sum(_STEPS)) // 2
    pages = int(settings.running * units / _PAGE_UNITS * settings.pool_share) + 1
    shares = {"peer": settings.peer_share, "host": settings.host_share}
    tiers = {name: _Slots(space, int(pages * shares[name])) for space, name in enumerate(_LINKS, 1)}
    runner = runners.SimulatedRunner(
        clock,
        runners.Shape(
            pages=pages,
            page_units=_PAGE_UNITS,
            page_bytes=_PAGE_BYTES,
            lanes=settings.running,
            chunk_units=_CHUNK_UNITS,
            steps_max=_STEPS_MAX,
            units_max=_PROMPT_UNITS[1] + _STEPS[1],
        ),
        lambda batch: batch.steps * _STEP_NS + batch.prefill_units * _PREFILL_UNIT_NS,
    )
    controller = assemble.make_controller(
        runner,
        tiers=tiers,
        policy=base.PolicySettings(name=policy, quantum_tokens=settings.quantum_tokens),
    )
    routes: dict[tuple[int, int], network.Route] = {}
    for name, tier in tiers.items():
        latency_ns, bytes_per_second = _LINKS[name]
        for pair in ((runner.space, tier.space), (tier.space, runner.space)):
            channel = network.Channel(f"{pair}", bytes_per_second)
            routes[pair] = network.Route((channel,), latency_ns)
    mover = network.SimulatedMover(
        clock, network.Network(clock), routes=routes, page_bytes=_PAGE_BYTES
    )
    return engines.Engine(controller, mover, runner, clock, observer=meter)
