"""What is timed: which slices count, what a link's times come to, which loads are run."""

from __future__ import annotations

import dataclasses

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import types
from aqua_jax.engine import pace
from aqua_jax.experiments import profiling, trial
from aqua_jax.simulation import cost, fits
from aqua_jax.simulation import runner as runners
from tests.experiments import tiny


class Engine:
    """What a meter reads of an engine."""

    def __init__(self) -> None:
        self.clock = clocks.VirtualClock()
        self.pace = pace.Pace()


def test_slices_that_begin_on_an_idle_device_are_left_out():
    timings, engine = profiling.Timings(), Engine()
    meter = profiling.Meter(32, timings)
    meter.begin(engine)  # pyright: ignore[reportArgumentType]  # no more of it is read
    session = types.Session(1, runners.request(40, 8), 0.0)
    batch = types.Batch((types.LanePlan(0, session, [1], 0, 40, 3, True),), 3)
    engine.pace.learn_host(0.002)
    engine.clock.at(3.5, lambda: None)
    engine.clock.run_next(10**10)
    for started_at, finished_at in ((1.0, 2.0), (2.0, 2.5), (2.75, 3.0), (3.0, 3.25)):
        meter.slice_done(batch, 2, started_at, finished_at)
    expected = cost.count(batch, 32)
    assert timings.slices == [fits.Slice(expected, 0.5), fits.Slice(expected, 0.25)]
    assert timings.read_seconds == [1.5, 1.0, 0.5, 0.25]
    timings.submit_seconds += [0.1, 0.3, 0.2]
    overhead = timings.overhead()
    assert dataclasses.astuple(overhead) == (2_000_000, 200_000_000, 750_000_000)


def test_a_link_is_fitted_to_the_medians_of_its_sizes():
    true = [fits.Copy(size, 1e-4 + size / 1e10) for size in (4096, 65536, 1 << 20)]
    timings = profiling.Timings()
    for direction in ("out", "in"):
        timings.copies["peer", direction] = [
            copy._replace(seconds=copy.seconds * factor)
            for copy in true
            for factor in (0.9, 1.0, 1.0, 1.1, 30.0)
        ]
    link = timings.links()["peer"]
    assert link.out == link.into
    assert link.out.latency_ns == pytest.approx(100_000, rel=1e-3)
    assert link.out.bytes_per_second == pytest.approx(1e10, rel=1e-3)


@pytest.mark.parametrize("slope", [0.0, -1e-11])
def test_copies_whose_times_do_not_grow_have_a_latency_and_the_least_rate(slope):
    copies = [fits.Copy(size, 1e-4 + size * slope) for size in (4096, 8192, 16384)]
    found = profiling.fit_direction(copies)
    assert found.latency_ns == pytest.approx(100_000, rel=0.01)
    assert found.bytes_per_second == pytest.approx(16384 / 1e-4, rel=0.01)
    assert 0.2 < found.error_median < 1.0
    assert profiling.fit_direction(copies[:1]).bytes_per_second == pytest.approx(4.1e7, rel=0.01)


def test_loads_reach_from_one_lane_to_all_and_repeat():
    assert profiling.loads(8) == [1, 2, 4, 8]
    assert profiling.loads(1) == [1]


def test_a_pass_meets_slices_of_every_make(shared):
    timings, whole = profiling.Timings(), tiny.experiment()
    profiling.time_slices(shared, whole, timings, seed="0")
    works = [one.work for one in timings.slices]  # how many is a question of the host's pace
    assert any(work.chunks for work in works)
    assert any(work.steps and not work.chunks for work in works)
    assert max(work.lane_steps for work in works) >= 8
    assert all(one.seconds > 0 for one in timings.slices)
    assert len(timings.read_seconds) == len(timings.dispatch_seconds) > 50
    assert len(works) < len(timings.read_seconds)  # each load's first finds the device idle


def test_copies_of_an_arm_are_timed_each_way_over_each_tier(shared):
    timings = profiling.Timings()
    arms = trial.Trial(tiny.with_arms({"none": {}, "both": tiny.paging()})).arms
    profiling.time_copies(shared, arms["none"], timings)
    assert not timings.copies
    profiling.time_copies(shared, arms["both"], timings)
    page_bytes = shared.runner.page_bytes
    for kind in ("peer", "host"):
        for direction in ("out", "in"):
            copies = timings.copies[kind, direction]
            assert {copy.bytes // page_bytes for copy in copies} == {1, 2, 4, 8}
            assert all(copy.seconds > 0 for copy in copies)
    assert len(timings.submit_seconds) == sum(map(len, timings.copies.values()))
    assert timings.links().keys() == {"peer", "host"}
