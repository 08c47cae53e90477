"""An engine around a runner and a mover, with what lies between them made to fit.

Knows: which sizes of a runner its pool, controller and page tables must agree
with. Does not know: jax, arenas' memory, what a tier costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.control import pages, residency
from aqua_jax.control.policies import base, registry
from aqua_jax.engine import engine as engines
from aqua_jax.engine import observer as observers
from aqua_jax.engine import protocols


class Slots(Protocol):
    """Memory off the device as the control plane sees it: an arena, or the part of one in use."""

    @property
    def space(self) -> int:
        """The space id by which the mover knows it."""
        ...

    @property
    def slots(self) -> int:
        """Pages it may hold, in slots 0 to slots - 1."""
        ...


def make_engine(
    runner: protocols.Runner,
    mover: protocols.Mover,
    clock: clocks.Clock,
    *,
    tiers: Mapping[str, Slots],
    policy: base.PolicySettings | None = None,
    controller: controllers.ControllerSettings | None = None,
    engine: engines.EngineSettings | None = None,
    observer: observers.Observer | None = None,
) -> engines.Engine:
    """An engine of its own page pool, page tables, policy and controller.

    tiers: name -> memory, nearest first; none: what is preempted recomputes.
    policy: default cfs. controller: default the runner's sizes.
    Runner, mover and the tiers' memory stay the caller's; they must outlive the engine's
    work, and `Engine.close` closes runner and mover.
    """
    memory = residency.Residency(
        pages.PagePool(runner.space, runner.pages, reserved=1),
        [
            residency.Tier(name, pages.PagePool(tier.space, tier.slots))
            for name, tier in tiers.items()
        ],
        pages_needed=runner.pages_needed,
        units_in_page=runner.units_in_page,
    )
    sizes = controller or controllers.ControllerSettings(
        lanes=runner.lanes, chunk_units=runner.chunk_units, steps_max=runner.steps_max
    )
    chosen = registry.make(policy or base.PolicySettings())
    return engines.Engine(
        controllers.Controller(sizes, chosen, memory),
        mover,
        runner,
        clock,
        settings=engine,
        observer=observer,
    )
