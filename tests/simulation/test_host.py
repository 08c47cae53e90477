"""The host's time: what it delays, and what goes on meanwhile."""

from __future__ import annotations

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import types
from aqua_jax.simulation import host, network, profile
from aqua_jax.simulation import runner as runners

DISPATCH, COPY, READ, SLICE = 1_000, 200, 300, 5_000
LATENCY, PAGE_NS = 40, 10
OVERHEAD = profile.Overhead(dispatch_ns=DISPATCH, copy_ns=COPY, read_ns=READ)
SHAPE = runners.Shape(
    pages=9, page_units=4, page_bytes=PAGE_NS, lanes=2, chunk_units=8, steps_max=4, units_max=32
)


class Rig:
    """A runner and a mover whose host takes its time."""

    def __init__(self) -> None:
        self.clock = clocks.VirtualClock()
        simulated = runners.SimulatedRunner(self.clock, SHAPE, lambda batch: SLICE)
        self.runner = host.HostRunner(simulated, self.clock, OVERHEAD)
        route = network.Route((network.Channel("link", 10**9),), LATENCY)
        inner = network.SimulatedMover(
            self.clock,
            network.Network(self.clock),
            routes={(0, 1): route, (1, 0): route},
            page_bytes=SHAPE.page_bytes,
        )
        self.mover = host.HostMover(inner, self.clock, OVERHEAD, behind=self.runner)

    def run_out(self) -> None:
        while self.clock.run_next(10**12):
            self.mover.poll()


def batch() -> types.Batch:
    session = types.Session(1, runners.request(4, 8), 0.0)
    return types.Batch((types.LanePlan(0, session, [1, 2], 0, 4, 0, True),), 0)


def moves(source: int, target: int) -> list[types.Move]:
    return [types.Move(types.Place(source, 1), types.Place(target, 2), 4)]


def ns(seconds: float | None) -> int:
    assert seconds is not None
    return round(seconds * 1e9)


def test_a_slice_begins_when_the_host_has_dispatched_it_and_is_known_when_it_is_read():
    rig = Rig()
    ticket = rig.runner.dispatch(batch())
    assert rig.clock.now_ns == DISPATCH
    assert rig.runner.last is ticket
    rig.run_out()
    assert ns(ticket.finished_at) == DISPATCH + SLICE
    (outcome,) = rig.runner.collect(ticket)
    assert outcome.prefill_units == 4
    assert rig.clock.now_ns == DISPATCH + SLICE + READ


def test_the_device_goes_on_while_the_host_dispatches():
    rig = Rig()
    first = rig.runner.dispatch(batch())
    for _ in range(2):
        rig.runner.dispatch(batch())
    last = rig.runner.dispatch(batch())
    assert not first.done()
    host.spend(rig.clock, 4 * SLICE)
    assert ns(first.finished_at) == DISPATCH + SLICE
    assert ns(last.finished_at) == DISPATCH + 4 * SLICE  # never idle: slices follow one another


@pytest.mark.parametrize("ends", [(0, 1), (1, 0)], ids=["out", "in"])
def test_a_copy_runs_behind_the_slice_dispatched_before_it_in_either_direction(ends):
    rig = Rig()
    alone = rig.mover.submit(moves(*ends))
    assert rig.clock.now_ns == COPY
    rig.run_out()
    assert ns(alone.finished_at) == LATENCY + PAGE_NS
    slice_ = rig.runner.dispatch(batch())
    behind = rig.mover.submit(moves(*ends))
    rig.run_out()
    assert ns(behind.finished_at) == ns(slice_.finished_at) + LATENCY + PAGE_NS


def test_time_that_is_spent_is_exact_and_nothing_in_it_is_left_out():
    clock = clocks.VirtualClock()
    seen: list[int] = []
    for at in (3, 7, 10, 11):
        clock.at_ns(at, lambda: seen.append(clock.now_ns))
    host.spend(clock, 10)
    assert clock.now_ns == 10
    assert seen == [3, 7, 10]
    host.spend(clock, 0)
    assert clock.now_ns == 10
