"""An engine around a runner and a mover, with what lies between them made to fit.

Knows: which sizes of a runner its page pool, controller and page tables must
agree with. Does not know: jax, arenas' memory, what a tier costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.control import errors, pages, residency, spare, types
from aqua_jax.control.policies import base, registry
from aqua_jax.engine import engine as engines
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
) -> engines.Engine:
    """An engine around `runner` and `mover`, with a controller of `make_controller`.

    For other limits or an observer: `Engine(make_controller(...), ...)`. Runner, mover
    and the tiers' memory stay the caller's and must outlive what is in flight;
    `Engine.close` closes runner and mover.
    """
    controller = make_controller(runner, tiers=tiers, policy=policy)
    return engines.Engine(controller, mover, runner, clock)


def make_controller(
    runner: protocols.Runner,
    *,
    tiers: Mapping[str, Slots],
    policy: base.PolicySettings | None = None,
    settings: controllers.ControllerSettings | None = None,
    pool_pages: int | None = None,
    attend_away: types.AttendAway = types.AttendAway.OFF,
    prefix_reuse: bool = False,
) -> controllers.Controller:
    """A controller with page pool, page tables and policy for `runner`.

    tiers: name -> memory, nearest first; none: what is preempted recomputes.
    policy: default cfs. settings: default the runner's sizes. pool_pages: of the
    runner's pool to use, scratch included; default all. attend_away: whose pages the
    runner attends in the tiers' slots; for any but off a session may be larger than the pool.
    prefix_reuse: full pages that are there already, of requests with the same salt, are shared.
    Raises ConfigError for what the runner does not have.
    """
    settings = settings or controllers.ControllerSettings(
        lanes=runner.lanes, chunk_units=runner.chunk_units, steps_max=runner.steps_max
    )
    pool_pages = runner.pages if pool_pages is None else pool_pages
    for name, asked, most in (
        ("pool_pages", pool_pages, runner.pages),
        ("lanes", settings.lanes, runner.lanes),
        ("steps_max", settings.steps_max, runner.steps_max),
    ):
        if asked > most:
            raise errors.ConfigError(
                f"{name} is {asked}, but the runner was made with {most}: give at most that"
            )
    memory = residency.Residency(
        pages.PagePool(runner.space, pool_pages, reserved=1),
        [spare.Tier(name, pages.PagePool(tier.space, tier.slots)) for name, tier in tiers.items()],
        pages_needed=runner.pages_needed,
        units_in_page=runner.units_in_page,
        attend_away=attend_away,
        page_keys=runner.page_keys if prefix_reuse else None,
    )
    policy = policy or base.PolicySettings()
    return controllers.Controller(settings, registry.make(policy), memory)
