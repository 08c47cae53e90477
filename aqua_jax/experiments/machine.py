"""What all arms of an experiment share: the model's runner, the arenas, warm programs.

Knows: jax devices, settings. Does not know: flags, arrivals, reports. Arms run
one after another on the same programs and differ in policy and tiers only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, Sharding, SingleDeviceSharding

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.control import errors
from aqua_jax.engine import assemble, observer, protocols
from aqua_jax.engine import engine as engines
from aqua_jax.experiments import emulated, settings
from aqua_jax.loops import programs, text
from aqua_jax.memory import arenas, page_array
from aqua_jax.memory.movers import faults, links, reference, verified, xla

_POOL_SPACE = 0


@dataclasses.dataclass(slots=True)
class Arm:
    """An engine of one arm, and the decorators whose counts go into the report."""

    engine: engines.Engine
    runner: emulated.EmulatedRunner | None
    links: links.LinkedMover | None


class _Slots(NamedTuple):
    """The part of an arena that an arm uses: another arm may have asked for more."""

    space: int
    slots: int


class Machine:
    """Devices, pool, arenas and compiled programs. `close` releases the threads."""

    def __init__(
        self, experiment: settings.Experiment, arms: Sequence[settings.Experiment]
    ) -> None:
        self.clock = clocks.MonotonicClock()
        shards = experiment.model.shards
        devices = jax.devices()
        peers = any(t.kind == "peer" for arm in arms for t in arm.memory.tiers.values())
        if len(devices) < shards + peers:
            raise errors.ConfigError(
                f"{len(devices)} devices for {shards} shards{' and a peer' if peers else ''}:"
                f" set devices to at least {shards + peers}"
            )
        self.devices = devices[: shards + 1]
        self._verifies = any(arm.memory.verify for arm in arms)
        wanted = experiment.model
        model = wanted.build(wanted.name, seed=wanted.seed, path=wanted.path, dtype=wanted.dtype)
        self.vocab_size: int = model.facts.vocab
        self.runner = text.TextRunner(
            model,
            _limits(experiment),
            space=_POOL_SPACE,
            clock=self.clock,
            mesh=text.tensor_mesh(devices[:shards]),
        )
        self._arenas: dict[str, page_array.PageArray] = {}
        for name, tier in _largest_tiers(arms).items():
            self._arenas[name] = self._make_arena(name, tier, devices, shards)
        self._stores = {store.space: store for store in (self.runner.pool, *self._arenas.values())}

    def warm_up(self) -> None:
        """Compiles everything that the arms will run; nothing is compiled afterwards."""
        self.runner.warm_up()
        plain = xla.XlaMover(self._stores, self.clock)
        plain.warm_up()
        checking = verified.VerifiedMover(plain, self.clock, self._stores)
        if self._verifies:
            checking.warm_up()
        checking.close()

    def start(self, arm: settings.Experiment, keeper: observer.Observer | None = None) -> Arm:
        """An engine with the arm's policy and tiers on this machine's pool."""
        runner: protocols.Runner = self.runner
        emulating = None
        if arm.emulate.dilation:
            emulating = emulated.emulate(
                self.runner, self.clock, _step_cost(arm.emulate), dilation=arm.emulate.dilation
            )
            runner = emulating
        controller = assemble.make_controller(
            runner,
            tiers={
                name: _Slots(self._arenas[name].space, self._slots(tier))
                for name, tier in arm.memory.nearest_first
            },
            policy=arm.policy,
            settings=_controller_settings(arm),
            pool_pages=arm.memory.pool_pages,
        )
        mover, linked = self._mover(arm)
        engine = engines.Engine(
            controller,
            mover,
            runner,
            self.clock,
            settings=engines.EngineSettings(ahead_seconds=arm.engine.ahead_seconds),
            observer=keeper,
        )
        return Arm(engine, emulating, linked)

    def close(self) -> None:
        """Waits for what is in flight and ends the threads."""
        self.runner.close()

    def _make_arena(
        self, name: str, tier: settings.TierSettings, devices: Sequence[Any], shards: int
    ) -> page_array.PageArray:
        pool = self.runner.pool
        space = 1 + len(self._arenas)
        page_shape, dtype = pool.page_shape, pool.dtype
        if tier.kind == "host":
            return arenas.HostArena(
                space, self._slots(tier), page_shape, dtype, sharding=pool.sharding
            )
        sharding: Sharding = SingleDeviceSharding(devices[shards])
        if len(devices) >= 2 * shards and shards > 1:
            sharding = NamedSharding(
                text.tensor_mesh(devices[shards : 2 * shards]), programs.POOL_SPEC
            )
        return arenas.DeviceArena(space, self._slots(tier), page_shape, dtype, sharding=sharding)

    def _slots(self, tier: settings.TierSettings) -> int:
        slots = tier.bytes // self.runner.page_bytes
        if not slots:
            raise errors.ConfigError(
                f"a {tier.kind} tier of {tier.bytes} bytes holds no page of"
                f" {self.runner.page_bytes} bytes: make it larger"
            )
        return slots

    def _mover(self, arm: settings.Experiment) -> tuple[protocols.Mover, links.LinkedMover | None]:
        stores = {_POOL_SPACE: self._stores[_POOL_SPACE]}
        stores |= {self._arenas[name].space: self._arenas[name] for name in arm.memory.tiers}
        mover = _plain_mover(arm.memory.mover, stores, self.clock)
        rates = arm.memory.faults
        if rates.fail or rates.delay or rates.reorder or rates.corrupt:
            kinds = {
                faults.Fault.FAIL: rates.fail,
                faults.Fault.DELAY: rates.delay,
                faults.Fault.REORDER: rates.reorder,
                faults.Fault.CORRUPT: rates.corrupt,
            }
            mover = faults.FaultyMover(
                mover,
                self.clock,
                faults.Faults(
                    seed=rates.seed,
                    rates={kind: rate for kind, rate in kinds.items() if rate},
                    delay_seconds=rates.delay_seconds,
                ),
                corrupt=faults.byte_flipper(stores) if rates.corrupt else None,
            )
        if arm.memory.verify:
            mover = verified.VerifiedMover(mover, self.clock, stores)
        linked = self._links(arm)
        if not linked:
            return mover, None
        tier_names = {_POOL_SPACE: "device"}
        tier_names |= {self._arenas[name].space: name for name in arm.memory.tiers}
        wrapped = links.LinkedMover(
            mover, self.clock, links=linked, tiers=tier_names, dilation=arm.emulate.dilation
        )
        return wrapped, wrapped

    def _links(self, arm: settings.Experiment) -> dict[tuple[int, int], links.Link]:
        """Emulated links by (source, target) space; a page's bytes count as what they stand for."""
        pairs: dict[tuple[int, int], links.Link] = {}
        scale = 1.0
        if arm.emulate.page_bytes:
            scale = self.runner.page_bytes / arm.emulate.page_bytes
        for name, tier in arm.memory.tiers.items():
            if not tier.link:
                continue
            link = arm.emulate.links[tier.link]
            timed = links.Link(link.latency_seconds, link.bytes_per_second * scale)
            space = self._arenas[name].space
            pairs[_POOL_SPACE, space] = pairs[space, _POOL_SPACE] = timed
        return pairs


def _plain_mover(
    name: str, stores: Mapping[int, page_array.PageArray], clock: clocks.Clock
) -> reference.ReferenceMover | xla.XlaMover:
    return xla.XlaMover(stores, clock) if name == "xla" else reference.ReferenceMover(stores, clock)


def _limits(experiment: settings.Experiment) -> text.TextLimits:
    engine = experiment.engine
    return text.TextLimits(
        pages=experiment.memory.pool_pages,
        page_tokens=engine.page_tokens,
        units_max=engine.units_max,
        lanes=engine.lanes,
        chunk_units=engine.chunk_tokens,
        steps_max=engine.steps_max,
        tile_rows=engine.tile_rows,
        exact=engine.exact,
    )


def _controller_settings(arm: settings.Experiment) -> controllers.ControllerSettings:
    engine = arm.engine
    return controllers.ControllerSettings(
        lanes=engine.lanes,
        chunk_units=engine.chunk_tokens,
        steps_max=engine.steps_max,
        chunks_max=engine.chunks_max,
        steps_contended=engine.steps_contended,
        early_pages=engine.early_pages,
    )


def _step_cost(emulate: settings.EmulateSettings) -> emulated.StepCost:
    return emulated.StepCost(
        emulate.step_seconds, emulate.step_unit_seconds, emulate.prefill_unit_seconds
    )


def _largest_tiers(arms: Sequence[settings.Experiment]) -> dict[str, settings.TierSettings]:
    """Every tier that some arm has, at the largest size asked for."""
    largest: dict[str, settings.TierSettings] = {}
    for arm in arms:
        for name, tier in arm.memory.tiers.items():
            known = largest.get(name)
            if known is not None and known.kind != tier.kind:
                raise errors.ConfigError(
                    f"tier {name!r} is {known.kind} in one arm, {tier.kind} in another"
                )
            if known is None or tier.bytes > known.bytes:
                largest[name] = tier
    return largest
