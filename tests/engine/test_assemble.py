"""Assembling an engine: sizes agree, tiers keep their order, the parts are the given ones."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.control import errors
from aqua_jax.control.policies import base
from aqua_jax.engine import assemble
from aqua_jax.engine import engine as engines
from aqua_jax.simulation import toy

TIERS = {"peer": 4, "host": 32}  # more than all sessions of these tests need


class Slots(NamedTuple):
    space: int
    slots: int


class Machine:
    """A toy runner of 7 pages and a toy mover with two tiers."""

    def __init__(self) -> None:
        self.clock = clocks.VirtualClock()
        self.tiers = {name: Slots(1 + i, count) for i, (name, count) in enumerate(TIERS.items())}
        spaces = {0: 7} | {tier.space: tier.slots for tier in self.tiers.values()}
        memory = toy.ToyMemory(spaces, page_units=4)
        self.runner = toy.ToyRunner(memory, self.clock, lanes=3, chunk_units=8, steps_max=4)
        self.mover = toy.ToyMover(memory, self.clock)

    def engine(self, **settings: object) -> engines.Engine:
        return assemble.make_engine(
            self.runner, self.mover, self.clock, tiers=self.tiers, **settings
        )


def test_sizes_are_the_runners() -> None:
    engine = Machine().engine()
    memory = engine.controller.memory
    assert memory.device.capacity == 6  # the scratch page is nobody's
    assert [(tier.name, tier.slots.capacity) for tier in memory.tiers] == list(TIERS.items())
    settings = engine.controller.settings
    assert (settings.lanes, settings.chunk_units, settings.steps_max) == (3, 8, 4)
    assert engine.controller.policy.pages_out


def test_what_does_not_fit_moves_and_every_token_is_right() -> None:
    engine = Machine().engine(policy=base.PolicySettings(quantum_tokens=4))
    requests = [toy.request([seed] * 5, 12) for seed in range(6)]
    streams = [engine.submit(request) for request in requests]
    engine.close(deadline_seconds=60.0)
    assert [stream.read() for stream in streams] == [toy.expected_tokens(r) for r in requests]
    assert engine.controller.memory.moved.into["peer"] > 0
    assert engine.controller.counters.recomputed_tokens == 0
    engine.check_integrity()


def test_without_tiers_the_preempted_recompute() -> None:
    machine = Machine()
    machine.tiers = {}
    engine = machine.engine()
    requests = [toy.request([seed] * 5, 12) for seed in range(6)]
    streams = [engine.submit(request) for request in requests]
    engine.close(deadline_seconds=60.0)
    assert [stream.read() for stream in streams] == [toy.expected_tokens(r) for r in requests]
    assert engine.controller.counters.recomputed_tokens > 0


def test_given_settings_are_kept() -> None:
    machine = Machine()
    controller = assemble.make_controller(
        machine.runner,
        tiers=machine.tiers,
        policy=base.PolicySettings(name="fcfs"),
        settings=controllers.ControllerSettings(lanes=2, chunk_units=8, steps_max=3),
        pool_pages=5,
    )
    assert not controller.policy.pages_out
    assert (controller.settings.lanes, controller.settings.steps_max) == (2, 3)
    assert controller.memory.device.capacity == 4


@pytest.mark.parametrize(
    ("lanes", "steps_max", "pool_pages", "text"),
    [
        (4, 4, 7, "lanes is 4, but the runner was made with 3"),
        (3, 5, 7, "steps_max is 5, but the runner was made with 4"),
        (3, 4, 8, "pool_pages is 8, but the runner was made with 7"),
    ],
)
def test_more_than_the_runner_has_is_refused(
    lanes: int, steps_max: int, pool_pages: int, text: str
) -> None:
    machine = Machine()
    settings = controllers.ControllerSettings(lanes=lanes, chunk_units=8, steps_max=steps_max)
    with pytest.raises(errors.ConfigError, match=text):
        assemble.make_controller(
            machine.runner, tiers=machine.tiers, settings=settings, pool_pages=pool_pages
        )


def test_a_mistyped_policy_is_named() -> None:
    with pytest.raises(errors.ConfigError, match="did you mean 'cfs'"):
        Machine().engine(policy=base.PolicySettings(name="cfx"))


def test_close_aborts_what_its_deadline_leaves() -> None:
    engine = Machine().engine()
    stream = engine.submit(toy.request([1], 20))
    engine.close()
    assert stream.reason == "abort"
    assert stream.read() == []
