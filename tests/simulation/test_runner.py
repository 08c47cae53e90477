"""Simulated runners keep the protocol: every session runs to its full length, in its time."""

from __future__ import annotations

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.control import errors, pages, residency, spare, types
from aqua_jax.control.policies import base, registry
from aqua_jax.engine import engine
from aqua_jax.simulation import network
from aqua_jax.simulation import runner as runners

SHAPE = runners.Shape(
    pages=13, page_units=4, page_bytes=100, lanes=3, chunk_units=8, steps_max=4, units_max=48
)


def make(policy: str, *, slots: int = 64) -> engine.Engine:
    """An engine with 12 pages of 4 units, slices of 1 ms a step and 0.25 a row."""
    clock = clocks.VirtualClock()
    runner = runners.SimulatedRunner(
        clock, SHAPE, lambda batch: 1_000_000 * batch.steps + 250_000 * batch.prefill_units
    )
    memory = residency.Residency(
        pages.PagePool(0, 13, reserved=1),
        [spare.Tier("host", pages.PagePool(1, slots))],
        pages_needed=runner.pages_needed,
        units_in_page=runner.units_in_page,
    )
    controller = controllers.Controller(
        controllers.ControllerSettings(lanes=3, chunk_units=8, steps_max=4),
        registry.make(base.PolicySettings(name=policy, quantum_tokens=4)),
        memory,
    )
    route = network.Route((network.Channel("pcie", 10**6),), latency_ns=1_000)
    mover = network.SimulatedMover(
        clock, network.Network(clock), routes={(0, 1): route, (1, 0): route}, page_bytes=100
    )
    return engine.Engine(controller, mover, runner, clock)


@pytest.mark.parametrize("policy", sorted(registry.POLICIES))
def test_every_session_gets_every_token_it_may(policy: str) -> None:
    loop = make(policy)
    streams = [
        loop.submit(runners.request(6 + count, 10 + count, seed=count)) for count in range(8)
    ]
    for _ in range(2000):
        if loop.idle:
            break
        loop.step()
        loop.check_integrity()
    got = [list(stream.read()) for stream in streams]
    assert got == [runners.tokens(count, 6 + count, 10 + count) for count in range(8)]
    assert {stream.reason for stream in streams} == {"length"}
    assert loop.controller.counters.overrun_tokens == 0
    moved = loop.controller.memory.moved
    assert (moved.out["host"] > 0) == (moved.into["host"] > 0) == loop.controller.policy.pages_out
    loop.close()


def test_slices_take_their_seconds_one_after_the_other() -> None:
    loop = make("fcfs")
    stream = loop.submit(runners.request(8, 9))
    while not loop.idle:
        loop.step()
    # 8 rows, then 8 steps after the one that the prefill emits.
    assert stream.ended_at == pytest.approx(8 * 0.00025 + 8 * 0.001)


def test_tokens_differ_by_seed_and_position_and_fit_into_32_bits() -> None:
    made = [token for seed in range(50) for token in runners.tokens(seed, 0, 100)]
    assert len(set(made)) == len(made)
    assert 0 <= min(made) <= max(made) < 1 << 31


def test_a_payload_that_is_no_prompt_is_refused() -> None:
    with pytest.raises(errors.RequestError, match="expected a Prompt"):
        make("fcfs").submit(
            types.Request(prompt_units=2, steps_max=2, payload="text", kind="simulated")
        )
