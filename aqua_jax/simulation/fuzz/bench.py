"""The production controller and engine over toy devices, as a scenario describes them.

Knows: how to put the parts together, and to check integrity after each step.
Does not know: who the clients are in time (`crowd.py`), what is random (`scenarios.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller, holdings, pages, residency, spare, types
from aqua_jax.control.policies import base, registry
from aqua_jax.engine import engine, protocols
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import leased, verdict

DEVICE = 0
TIER_NAMES = ("peer", "host")
STEPS_MAX = 30_000  # of the engine in one run: many times what the longest needs


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One request and how its client behaves.

    read_every_seconds: 0 reads at once, more reads late, None has a sink.
    abort_in: aborts when its session is first seen in this state; abort_at: at this second.
    """

    request: types.Request
    arrives_at: float = 0.0
    read_every_seconds: float | None = 0.0
    abort_in: types.State | None = None
    abort_at: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything a run needs; the same scenario runs the same way every time."""

    policy: base.PolicySettings = dataclasses.field(default_factory=base.PolicySettings)
    page_units: int = 4
    pool_pages: int = 33
    tier_pages: tuple[int, ...] = (64, 64)
    lanes: int = 4
    chunk_units: int = 8
    steps_max: int = 4
    controller: dict[str, int] = dataclasses.field(default_factory=dict)
    stream_tokens_max: int = 65_536
    page_seconds: float = 1e-4
    attend_away: types.AttendAway = types.AttendAway.OFF
    prefix_reuse: bool = False
    faults: toy.ToyFaults = dataclasses.field(default_factory=toy.ToyFaults)
    fail_at: frozenset[int] = frozenset()
    clients: tuple[Client, ...] = ()
    loans: tuple[Any, ...] = ()  # of `homes.py`, which knows this file
    lease: leased.Lease | None = None
    drain_at: float | None = None
    drain_seconds: float = 0.0
    is_punctual: bool = True  # nothing keeps the engine's thread from its turns


class Bench:
    """A controller and an engine over toy devices, as a scenario describes them."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        clock: clocks.Clock | None = None,
        device: clocks.Clock | None = None,
        parties: Callable[[Bench], Sequence[protocols.Party]] | None = None,
    ) -> None:
        """clock: default one of its own. device: by which slices run, where it is another.

        parties: to leases, made for the bench as far as it is put together.
        """
        spaces = {DEVICE: scenario.pool_pages}
        spaces |= dict(enumerate(scenario.tier_pages, 1))
        self.clock = clock or clocks.VirtualClock()
        self.memory = toy.ToyMemory(spaces, scenario.page_units)
        self.runner = toy.ToyRunner(
            self.memory,
            self.clock,
            lanes=scenario.lanes,
            chunk_units=scenario.chunk_units,
            steps_max=scenario.steps_max,
            fail_at=scenario.fail_at,
            device=device,
        )
        self.mover = toy.ToyMover(
            self.memory, self.clock, page_seconds=scenario.page_seconds, faults=scenario.faults
        )
        self.controller = make_controller(scenario, self.runner)
        joined = list(parties(self)) if parties else []
        self.leased: leased.Scene | None = None
        if scenario.lease is not None:
            self.leased = leased.Scene(scenario.lease, self.controller, self.memory, self.clock)
            joined.append(self.leased.borrower)
        self.engine = engine.Engine(
            self.controller,
            self.mover,
            self.runner,
            self.clock,
            settings=engine.EngineSettings(stream_tokens_max=scenario.stream_tokens_max),
            parties=joined,
        )

    @property
    def pools(self) -> list[pages.PagePool]:
        """The device's pool and every tier's slots."""
        memory = self.controller.memory
        return [memory.device, *(tier.slots for tier in memory.tiers)]

    def holding(self, session: types.Session) -> holdings.Holding:
        """Where its pages are."""
        return self.controller.memory._holdings.get(session.id, holdings.Holding())

    def step(self, until: float | None = None) -> bool:
        """One checked step of the engine."""
        done = self.engine.step(until)
        self.engine.check_integrity()
        return done

    def run_until(self, done: Callable[[], bool], *, steps_max: int = STEPS_MAX) -> None:
        """Checked steps until `done()`. Fails when that takes more than `steps_max`."""
        for _ in range(steps_max):
            if done():
                return
            self.step()
        raise verdict.BrokenPromiseError(f"not done after {steps_max} steps: {self.describe()}")

    def describe(self) -> str:
        """Where the sessions stand and what is free."""
        states = {s.value: n for s, n in self.controller.count_states().items() if n}
        return f"sessions {states}, free pages {[pool.free_count for pool in self.pools]}"

    def check_all_free(self) -> None:
        """Nothing is in flight, every page and slot is FREE."""
        verdict.promise(self.engine.idle, f"not idle: {self.describe()}")
        self.engine.check_integrity()
        for pool in self.pools:
            verdict.promise(pool.free_count == pool.capacity, f"a page leaks: {self.describe()}")


def make_controller(scenario: Scenario, runner: toy.ToyRunner) -> controller.Controller:
    """The production controller over the scenario's memory."""
    tiers = [
        spare.Tier(name, pages.PagePool(number, count))
        for number, (name, count) in enumerate(
            zip(TIER_NAMES, scenario.tier_pages, strict=False), 1
        )
    ]
    memory = residency.Residency(
        pages.PagePool(DEVICE, scenario.pool_pages, reserved=1),
        tiers,
        pages_needed=runner.pages_needed,
        units_in_page=runner.units_in_page,
        attend_away=scenario.attend_away,
        page_keys=runner.page_keys if scenario.prefix_reuse else None,
    )
    settings = controller.ControllerSettings(
        lanes=scenario.lanes,
        chunk_units=scenario.chunk_units,
        steps_max=scenario.steps_max,
        **scenario.controller,
    )
    return controller.Controller(settings, registry.make(scenario.policy), memory)
