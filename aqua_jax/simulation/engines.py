"""One simulated engine put together: devices, a text model, memory elsewhere, links.

Knows: which figures of hardware and model each part of an engine takes. Does
not know: requests, reports, what other engines there are. What comes out is the
production engine; runner, mover and clock are all that is simulated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.control import errors, slices, types
from aqua_jax.control.policies import base
from aqua_jax.engine import assemble, protocols
from aqua_jax.engine import engine as engines
from aqua_jax.engine import observer as observers
from aqua_jax.simulation import cost, in_line, network, shapes, streams
from aqua_jax.simulation import hardware as hardwares
from aqua_jax.simulation import runner as runners

_RUN_NS = 2_000  # one more copy behind another: an assumption, of what the host takes to ask for it

AwayReads = Callable[[types.Batch], Mapping[int, int]]
Parties = Callable[[controllers.Controller, network.SimulatedMover], Sequence[protocols.Party]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextEngine:
    """An engine that runs one text model on `shards` devices of a kind.

    memory_fraction: of the devices' memory for weights and KV. units_max: tokens of a session,
    prompt and output. limits: of its slices. fuses: a program carries prefill rows and a step
    (`cost.py`). overlaps: copies run beside slices; else they hold the device (`in_line.py`).
    attend_away: whose pages are attended in the tiers. away_reads: how often a batch reads such
    pages, by space; None: that costs nothing. away_hides: these reads run beside all else that a
    slice does, and the longer of both counts; else they are added.
    ahead_seconds: as in `engine.EngineSettings`.
    """

    hardware: hardwares.Hardware
    shape: shapes.TextShape
    limits: slices.ControllerSettings
    policy: base.PolicySettings
    shards: int = 1
    memory_fraction: float = shapes.MEMORY_FRACTION
    page_tokens: int = 16
    units_max: int = 16_384
    fuses: bool = True
    overlaps: bool = True
    attend_away: types.AttendAway = types.AttendAway.OFF
    away_reads: AwayReads | None = None
    away_hides: bool = True
    ahead_seconds: float = 0.004
    prefix_reuse: bool = False

    def __post_init__(self) -> None:
        if self.pool_pages < 2:
            raise errors.ConfigError(
                f"{self.shape.name} leaves {self.kv_bytes} bytes for KV, {self.pool_pages} pages of"
                f" {self.page_tokens} tokens; expected at least 2: lower page_tokens or use more"
                " devices"
            )

    @property
    def page_bytes(self) -> int:
        """Of all shards together."""
        return self.shape.page_bytes(self.page_tokens)

    @property
    def kv_bytes(self) -> int:
        """What is left for KV beside the weights. Raises ConfigError when they do not fit."""
        return shapes.kv_bytes(self.hardware, self.shape, self.shards, self.memory_fraction)

    @property
    def pool_pages(self) -> int:
        """Pages on the devices, the scratch page included."""
        return self.kv_bytes // self.page_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """The links of one kind of an engine's devices.

    both: shared by the two directions, where they are slower together than apart.
    """

    link: hardwares.LinkFit
    out: network.Channel
    into: network.Channel
    both: network.Channel | None


@dataclasses.dataclass(frozen=True, slots=True)
class Tier:
    """Memory elsewhere. out, into: the routes of pages that leave the devices and come back."""

    bytes: int
    out: network.Route
    into: network.Route


class Simulated(NamedTuple):
    """The engine, and its runner once more as what it is."""

    engine: engines.Engine
    runner: runners.SimulatedRunner


def port(name: str, link: hardwares.LinkFit, *, shards: int = 1) -> Port:
    """A port: each of the shards has the link, and copies use all of them evenly."""
    rate, duplex = shards * link.bytes_per_second, shards * link.duplex_bytes_per_second
    return Port(
        link,
        network.Channel(f"{name} out", rate),
        network.Channel(f"{name} in", rate),
        network.Channel(f"{name} both", duplex) if duplex < 2 * rate else None,
    )


def peer_tier(nbytes: int, borrower: Port, lender: Port) -> Tier:
    """Memory of another device: over the borrower's port and the lender's, whoever else uses it."""
    latency_ns = max(borrower.link.latency_ns, lender.link.latency_ns)
    both = _present(borrower.both, lender.both)
    return Tier(
        nbytes,
        network.Route((borrower.out, lender.into, *both), latency_ns, _RUN_NS),
        network.Route((lender.out, borrower.into, *both), latency_ns, _RUN_NS),
    )


def host_tier(nbytes: int, own: Port) -> Tier:
    """Pinned memory of the host, over the devices' own port."""
    latency_ns, both = own.link.latency_ns, _present(own.both)
    return Tier(
        nbytes,
        network.Route((own.out, *both), latency_ns, _RUN_NS),
        network.Route((own.into, *both), latency_ns, _RUN_NS),
    )


def make(
    clock: clocks.EventClock,
    over: network.Network,
    spec: TextEngine,
    *,
    tiers: Mapping[str, Tier],
    observer: observers.Observer | None = None,
    parties: Parties | None = None,
) -> Simulated:
    """The engine. tiers: name -> memory, nearest first; their spaces are 1, 2, ... in order.

    parties: makes the engine's sides of leases. Raises ConfigError when the model does not fit,
    by how much.
    """
    spaces = {name: space for space, name in enumerate(tiers, 1)}
    stream = streams.Stream()
    runner = _runner(clock, spec, stream, {spaces[name]: tier for name, tier in tiers.items()})
    page_bytes = spec.page_bytes
    controller = assemble.make_controller(
        runner,
        tiers={n: _Slots(spaces[n], tier.bytes // page_bytes) for n, tier in tiers.items()},
        policy=spec.policy,
        settings=spec.limits,
        attend_away=spec.attend_away,
        prefix_reuse=spec.prefix_reuse,
    )
    routes: dict[tuple[int, int], network.Route] = {}
    for name, tier in tiers.items():
        routes[runner.space, spaces[name]] = tier.out
        routes[spaces[name], runner.space] = tier.into
    mover = _mover(clock, over, spec, stream, routes)
    engine = engines.Engine(
        controller,
        mover,
        runner,
        clock,
        settings=engines.EngineSettings(ahead_seconds=spec.ahead_seconds),
        observer=observer,
        parties=_make_parties(parties, controller, mover),
    )
    return Simulated(engine, runner)


class _Slots(NamedTuple):
    space: int
    slots: int


def _present(*channels: network.Channel | None) -> tuple[network.Channel, ...]:
    return tuple(channel for channel in channels if channel is not None)


def _runner(
    clock: clocks.EventClock,
    spec: TextEngine,
    stream: streams.Stream,
    tiers: Mapping[int, Tier],
) -> runners.SimulatedRunner:
    limits = spec.limits
    shape = runners.Shape(
        pages=spec.pool_pages,
        page_units=spec.page_tokens,
        page_bytes=spec.page_bytes,
        lanes=limits.lanes,
        chunk_units=limits.chunk_units,
        steps_max=limits.steps_max,
        units_max=spec.units_max,
    )
    return runners.SimulatedRunner(clock, shape, _nanoseconds(spec, tiers), stream=stream)


def _nanoseconds(spec: TextEngine, tiers: Mapping[int, Tier]) -> runners.SliceNanoseconds:
    """What a slice takes, with what it reads away."""
    costs = cost.text_cost(spec.hardware, spec.shape, shards=spec.shards, fuses=spec.fuses)
    chunk_units, page_bytes, reads = spec.limits.chunk_units, spec.page_bytes, spec.away_reads
    if reads is None:
        return lambda batch: costs.nanoseconds(batch, chunk_units)
    rates = {space: _rate(tier.into) for space, tier in tiers.items()}

    def nanoseconds(batch: types.Batch) -> int:
        here_ns, away_ns = costs.nanoseconds(batch, chunk_units), 0
        for space, count in reads(batch).items():
            away_ns -= -count * page_bytes * 10**9 // rates[space]
        return max(here_ns, away_ns) if spec.away_hides else here_ns + away_ns

    return nanoseconds


def _rate(route: network.Route) -> int:
    """Bytes a second of a route that nobody else uses."""
    return min(channel.bytes_per_second for channel in route.channels)


def _mover(
    clock: clocks.EventClock,
    over: network.Network,
    spec: TextEngine,
    stream: streams.Stream,
    routes: Mapping[tuple[int, int], network.Route],
) -> network.SimulatedMover | in_line.InLineMover:
    if spec.overlaps:
        return network.SimulatedMover(clock, over, routes=routes, page_bytes=spec.page_bytes)
    return in_line.InLineMover(
        clock, over, stream=stream, routes=routes, page_bytes=spec.page_bytes
    )


def _make_parties(
    parties: Parties | None,
    controller: controllers.Controller,
    mover: network.SimulatedMover | in_line.InLineMover,
) -> Sequence[protocols.Party]:
    if parties is None:
        return ()
    if not isinstance(mover, network.SimulatedMover):
        raise errors.ConfigError(
            "an engine that borrows or lends has copies in line with slices: set overlaps, whose"
            " routes come and go with leases"
        )
    return parties(controller, mover)
