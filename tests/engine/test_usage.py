"""Wall time by use, on a timeline made by hand and on the engine's."""

from __future__ import annotations

import pytest

from aqua_jax.control.policies import base
from aqua_jax.engine import usage
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench as benches

Use = usage.Use


def test_a_segment_counts_as_what_held_when_it_began() -> None:
    timeline = usage.Usage(10.0)
    timeline.mark(11.0, Use.RUNNING)  # empty for 1
    timeline.mark(13.0, Use.IDLE)  # ran for 2
    timeline.mark(13.5, Use.RUNNING)  # idle for 0.5
    timeline.mark(17.5, Use.IDLE)  # ran for 4
    timeline.correct(Use.STALL)  # it waited for a copy, as the next decision tells
    timeline.mark(20.5, Use.EMPTY)  # stalled for 3
    assert timeline.use is Use.EMPTY
    assert timeline.seconds == {Use.EMPTY: 1.0, Use.RUNNING: 6.0, Use.IDLE: 0.5, Use.STALL: 3.0}


def test_time_does_not_go_back() -> None:
    timeline = usage.Usage(1.0)
    timeline.mark(3.0, Use.RUNNING)
    timeline.mark(2.0, Use.IDLE)  # a completion told late
    timeline.mark(4.0, Use.EMPTY)
    assert sum(timeline.seconds.values()) == 3.0
    assert timeline.seconds[Use.RUNNING] == 0.0


def test_one_session_alone_keeps_the_device_busy() -> None:
    bench = benches.Bench(benches.Scenario(chunk_units=8, steps_max=4))
    bench.step(0.5)
    assert bench.clock.now() == 0.5
    bench.engine.submit(toy.request([1] * 16, 20))
    bench.run_until(lambda: bench.engine.idle)
    busy = bench.clock.now() - 0.5
    bench.step(bench.clock.now() + 0.25)
    bench.engine.usage.mark(bench.clock.now(), Use.EMPTY)
    seconds = bench.engine.usage.seconds
    # The slice that was dispatched before the last outcome was read runs past the end.
    assert seconds[Use.RUNNING] == pytest.approx(busy)
    assert seconds[Use.RUNNING] >= 2 * 0.002 + 19 * 0.001
    assert seconds[Use.EMPTY] == pytest.approx(0.75)
    assert seconds[Use.IDLE] == seconds[Use.STALL] == 0.0


def test_waiting_for_a_copy_and_nothing_else_is_a_stall() -> None:
    bench = benches.Bench(
        benches.Scenario(
            policy=base.PolicySettings(quantum_tokens=4),
            pool_pages=7,
            tier_pages=(64,),
            page_seconds=0.05,
        )
    )
    for seed in range(2):
        bench.engine.submit(toy.request([seed] * 12, 12))
    bench.run_until(lambda: bench.engine.idle)
    seconds = bench.engine.usage.seconds
    bench.engine.usage.mark(bench.clock.now(), Use.EMPTY)
    assert seconds[Use.STALL] > 0.1  # at least one page-in that nothing hides
    assert seconds[Use.IDLE] < 0.01
    assert sum(seconds.values()) == pytest.approx(bench.clock.now())
