"""Copies in flight: what is refused fails after all were submitted, and is tried again later."""

from __future__ import annotations

import math

from aqua_jax.control import types
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench as benches


def full_bench(faults: toy.ToyFaults) -> benches.Bench:
    """A bench whose pool is too small for its two sessions, so that pages leave."""
    clients = ()
    scenario = benches.Scenario(pool_pages=9, lanes=2, faults=faults, clients=clients)
    bench = benches.Bench(scenario)
    for first in (1, 2):
        bench.engine.submit(toy.request(range(first, first + 16), 12))
    return bench


def test_a_refused_copy_fails_and_is_worth_another_decision_soon() -> None:
    bench = full_bench(toy.ToyFaults(refuse=1.0))
    bench.run_until(lambda: bench.controller.counters.copy_errors > 0)
    wakes_at = bench.engine.wakes_at()
    assert bench.clock.now() < wakes_at <= bench.clock.now() + 0.02
    bench.run_until(lambda: bench.engine.idle)
    bench.check_all_free()


def test_copies_are_in_flight_until_they_are_taken_in() -> None:
    bench = full_bench(toy.ToyFaults())
    bench.run_until(lambda: bench.controller.memory.copies_in_flight > 0)
    assert not bench.engine.idle
    bench.run_until(lambda: bench.engine.idle)
    assert bench.controller.memory.copies_in_flight == 0
    assert bench.engine.wakes_at() == math.inf
    assert bench.controller.count_states()[types.State.RUNNING] == 0
