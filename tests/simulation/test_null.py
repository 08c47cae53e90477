"""The null devices keep the protocols: every session runs to its full length, at no cost."""

from __future__ import annotations

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller as controllers
from aqua_jax.control import pages, residency, spare, types
from aqua_jax.control.policies import base, registry
from aqua_jax.engine import engine
from aqua_jax.simulation import null


def make(policy: str, *, slots: int = 64) -> engine.Engine:
    """An engine on null devices: 12 pages of 4 units, slices of 1 ms a step and 2 a chunk."""
    clock = clocks.VirtualClock()
    runner = null.NullRunner(
        clock,
        pages=13,
        page_units=4,
        lanes=3,
        chunk_units=8,
        steps_max=4,
        units_max=48,
        seconds=lambda batch: 0.001 * batch.steps + 0.00025 * batch.prefill_units,
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
    return engine.Engine(controller, null.NullMover(clock, page_bytes=100), runner, clock)


@pytest.mark.parametrize("policy", sorted(registry.POLICIES))
def test_every_session_gets_every_token_it_may(policy: str) -> None:
    loop = make(policy)
    streams = [loop.submit(null.request(6 + count, 10 + count)) for count in range(8)]
    for _ in range(2000):
        if loop.idle:
            break
        loop.step()
        loop.check_integrity()
    assert [len(stream.read()) for stream in streams] == [10 + count for count in range(8)]
    assert {stream.reason for stream in streams} == {"length"}
    assert loop.controller.counters.overrun_tokens == 0
    moved = loop.controller.memory.moved
    assert (moved.out["host"] > 0) == (moved.into["host"] > 0) == (policy == "cfs")
    loop.close()


def test_slices_take_their_seconds_one_after_the_other() -> None:
    loop = make("fcfs")
    stream = loop.submit(null.request(8, 9))
    while not loop.idle:
        loop.step()
    # 8 rows, then 8 steps after the one that the prefill emits.
    assert stream.ended_at == pytest.approx(8 * 0.00025 + 8 * 0.001)


def test_a_copy_is_done_when_submitted_and_told_once() -> None:
    mover = null.NullMover(clocks.VirtualClock(), page_bytes=100)
    move = types.Move(types.Place(0, 1), types.Place(1, 0), 4)
    ticket = mover.submit([move, move])
    assert ticket.done()
    assert mover.poll() == [types.Completion(ticket.id, 200, 0.0)]
    assert mover.poll() == []
