"""Copies in line with slices: one at a time, in the order of submission."""

from __future__ import annotations

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, types
from aqua_jax.simulation import in_line, network, streams
from aqua_jax.simulation import runner as runners

SHAPE = runners.Shape(
    pages=9, page_units=4, page_bytes=1000, lanes=2, chunk_units=8, steps_max=4, units_max=64
)
MICROSECOND = 1000


class Device:
    """A runner whose slices take 10 us, and a mover over 1 byte a nanosecond, 1 us of latency."""

    def __init__(self) -> None:
        self.clock = clocks.VirtualClock()
        stream = streams.Stream()
        self.runner = runners.SimulatedRunner(
            self.clock, SHAPE, lambda batch: 10 * MICROSECOND, stream=stream
        )
        routes = {
            pair: network.Route((network.Channel(f"{pair}", 10**9),), MICROSECOND, 500)
            for pair in ((0, 1), (1, 0))
        }
        self.mover = in_line.InLineMover(
            self.clock, network.Network(self.clock), stream=stream, routes=routes, page_bytes=1000
        )

    def slice(self):
        session = types.Session(1, runners.request(4, 8), 0.0)
        plan = types.LanePlan(0, session, [1], 4, 0, 1, True)
        return self.runner.dispatch(types.Batch((plan,), 1))

    def copy(self, pages: int, after=None, *, source: int = 0, apart: bool = False):
        moves = [
            types.Move(types.Place(source, 1 + n * (1 + apart)), types.Place(1 - source, n), 4)
            for n in range(pages)
        ]
        return self.mover.submit(moves, after)

    def run(self) -> None:
        while self.clock.run_next(10**9):
            pass


def test_slices_and_copies_take_turns() -> None:
    device = Device()
    first = device.slice()
    out = device.copy(2, first)
    second = device.slice()
    back = device.copy(3, source=1)
    third = device.slice()
    device.run()
    ends = [round(t.finished_at * 1e6, 3) for t in (first, out, second, back, third)]
    assert ends == [10, 13, 23, 27, 37]
    assert device.runner.held_ns == 7 * MICROSECOND
    assert [completion.ticket for completion in device.mover.poll()] == [out.id, back.id]
    assert device.mover.poll() == []


def test_a_copy_nobody_waits_behind_holds_nobody() -> None:
    device = Device()
    device.copy(4)
    device.run()
    device.slice()
    device.run()
    assert device.clock.now_ns == 15 * MICROSECOND
    assert device.runner.held_ns == 0


def test_each_further_run_of_pages_costs_its_time() -> None:
    device = Device()
    ticket = device.copy(3, apart=True)
    device.run()
    assert ticket.finished_at == pytest.approx(5e-6)
    assert device.mover.poll()[0] == types.Completion(ticket.id, 3000, ticket.finished_at)


def test_a_copy_without_a_route_is_refused() -> None:
    device = Device()
    with pytest.raises(errors.MoveError, match="no route from space 2 to 3"):
        device.mover.submit([types.Move(types.Place(2, 0), types.Place(3, 0), 1)])
    with pytest.raises(errors.MoveError, match="empty plan"):
        device.mover.submit([])
