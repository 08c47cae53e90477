"""What all arms of an experiment share: the model's runner, the arenas, warm programs.

Knows: jax devices, settings. Does not know: flags, arrivals, reports. Arms run
one after another on the same programs and differ in policy and tiers only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.engine import assemble, observer, protocols
from aqua_jax.engine import engine as engines
from aqua_jax.experiments import away_reads, backing, data_path, emulated, link_checks, settings
from aqua_jax.loops import text
from aqua_jax.memory.movers import links

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
    """Devices, pool, arenas and compiled programs. `close` releases threads and arenas.

    path: which mover, attention and linear layers the arms get. links: as `check_links` found them.
    """

    def __init__(
        self,
        experiment: settings.Experiment,
        arms: Sequence[settings.Experiment],
        path: data_path.DataPath,
    ) -> None:
        self.clock = clocks.MonotonicClock()
        self.links = link_checks.Report([], "")
        shards = experiment.model.shards
        devices = jax.devices()
        backing.check_devices(arms, path, devices)
        self.devices = devices[: shards + 1]
        self._memory = experiment.memory
        wanted = experiment.model
        mesh = text.tensor_mesh(devices[:shards])
        model = wanted.build(
            wanted.name, seed=wanted.seed, path=wanted.path, dtype=wanted.dtype, mesh=mesh
        )
        self.path = path.fitted(model.facts)
        self.vocab_size: int = model.facts.vocab
        self.context_tokens: int = model.facts.context_tokens
        self._window: int = model.facts.window
        self.runner = text.TextRunner(
            model,
            _limits(experiment, self.path),
            space=_POOL_SPACE,
            clock=self.clock,
            mesh=mesh,
            takes_weights=True,
        )
        self._backing = backing.Backing(
            self.runner.pool, arms, self.path, clock=self.clock, devices=devices
        )

    def warm_up(self) -> None:
        """Compiles everything that the arms will run; nothing is compiled afterwards."""
        self.runner.warm_up()
        self._backing.warm_up()

    def check_links(self) -> None:
        """Probes the links, before the first arm; a tier behind a bad one is left out of all."""
        self.links = self._backing.check_links(self._memory)

    def start(self, arm: settings.Experiment, keeper: observer.Observer | None = None) -> Arm:
        """An engine with the arm's policy and tiers on this machine's pool."""
        runner: protocols.Runner = self.runner
        emulating = None
        if arm.emulate.dilation:
            spaces = {name: space for name, (space, _) in self._backing.tiers(arm.memory).items()}
            page_bytes, reads = self.runner.page_bytes, self.away_reads(arm)
            cost = step_cost(arm, spaces, page_bytes=page_bytes, reads=reads)
            emulating = emulated.emulate(
                self.runner, self.clock, cost, dilation=arm.emulate.dilation
            )
            runner = emulating
        if arm.memory.attends.is_on:
            for space, arena in self._backing.attendable(arm.memory).items():
                self.runner.attend_in(space, arena)
        controller = assemble.make_controller(
            runner,
            tiers={
                name: _Slots(space, slots)
                for name, (space, slots) in self._backing.tiers(arm.memory).items()
            },
            policy=arm.policy,
            settings=controller_settings(arm),
            pool_pages=arm.memory.pool_pages,
            attend_away=arm.memory.attends,
            prefix_reuse=arm.engine.prefix_reuse,
        )
        mover, linked = self._backing.mover(arm)
        engine = engines.Engine(
            controller,
            mover,
            runner,
            self.clock,
            settings=engines.EngineSettings(ahead_seconds=arm.engine.ahead_seconds),
            observer=keeper,
        )
        return Arm(engine, emulating, linked)

    def away_reads(self, arm: settings.Experiment) -> away_reads.AwayReads:
        """How often the arm's slices read pages attended away."""
        return count_reads(arm, window=self._window)

    def close(self) -> None:
        """Waits for what is in flight and ends the threads."""
        self.runner.close()
        self._backing.close()


def count_reads(arm: settings.Experiment, *, window: int) -> away_reads.AwayReads:
    """How often slices of a model with such a window read pages attended away."""
    return away_reads.AwayReads(
        chunk_units=arm.engine.chunk_tokens,
        page_units=arm.engine.page_tokens,
        window=window,
        step_reads=arm.emulate.step_reads,
    )


def step_cost(
    arm: settings.Experiment,
    spaces: Mapping[str, int],
    *,
    page_bytes: int,
    reads: away_reads.AwayReads,
) -> emulated.StepCost:
    """What the arm's slices cost. spaces: of its tiers; page_bytes: of a page that stands for none.

    A page attended away crosses its tier's link.
    """
    emulate = arm.emulate
    stands_for = emulate.page_bytes or page_bytes
    links_used = {spaces[name]: arm.memory.tiers[name].link for name in spaces}
    return emulated.StepCost(
        emulate.step_seconds,
        emulate.step_unit_seconds,
        emulate.prefill_unit_seconds,
        away_page={
            space: stands_for / emulate.links[link].bytes_per_second
            for space, link in links_used.items()
            if link
        },
        reads=reads,
    )


def controller_settings(arm: settings.Experiment) -> controllers.ControllerSettings:
    """The limits of the arm's slices."""
    engine = arm.engine
    return controllers.ControllerSettings(
        lanes=engine.lanes,
        chunk_units=engine.chunk_tokens,
        steps_max=engine.steps_max,
        chunks_max=engine.chunks_max,
        steps_contended=engine.steps_contended,
        early_pages=engine.early_pages,
    )


def _limits(experiment: settings.Experiment, path: data_path.DataPath) -> text.TextLimits:
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
        attention=path.attention,
        linear=path.linear,
    )
