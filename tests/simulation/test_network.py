"""Transfers share channels evenly; copies of one pair of memories go in order."""

from __future__ import annotations

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.simulation import network

GB = 10**9
SECOND_NS = 10**9


class Bench:
    """A network on which sends are noted with the nanosecond at which they arrive."""

    def __init__(self) -> None:
        self.clock = clocks.VirtualClock()
        self.network = network.Network(self.clock)
        self.arrived: dict[str, int] = {}

    def send(self, name: str, route: network.Route, nbytes: int) -> None:
        self.network.send(route, nbytes, lambda: self.arrived.__setitem__(name, self.clock.now_ns))

    def run(self) -> dict[str, int]:
        while self.clock.run_next(until_ns=100 * SECOND_NS):
            pass
        return self.arrived


def route(*channels: network.Channel, latency_ns: int = 0, run_ns: int = 0) -> network.Route:
    return network.Route(channels, latency_ns, run_ns)


def test_one_alone_gets_the_slowest_of_its_channels() -> None:
    bench = Bench()
    fast, slow = network.Channel("out", 4 * GB), network.Channel("in", GB)
    bench.send("one", route(fast, slow), 2 * GB)
    assert bench.run() == {"one": 2 * SECOND_NS}
    assert (fast.active, slow.active, slow.bytes) == (0, 0, 2 * GB)


def test_two_share_until_the_first_is_done() -> None:
    bench = Bench()
    lender = network.Channel("lender", 2 * GB)
    bench.send("small", route(lender), GB)
    bench.send("large", route(lender), 3 * GB)
    # Both at 1 GB/s for a second; then the large one has 2 GB left, at 2 GB/s.
    assert bench.run() == {"small": SECOND_NS, "large": 2 * SECOND_NS}


def test_a_third_that_comes_later_slows_those_under_way() -> None:
    bench = Bench()
    lender = network.Channel("lender", 2 * GB)
    bench.send("first", route(lender), 4 * GB)
    bench.clock.at_ns(SECOND_NS, lambda: bench.send("second", route(lender), GB))
    # 2 GB in the first second, then 1 GB/s until the second is there, then the last GB at 2.
    assert bench.run() == {"second": 2 * SECOND_NS, "first": 2 * SECOND_NS + SECOND_NS // 2}


def test_both_ways_at_once_are_as_fast_as_the_port_allows() -> None:
    bench = Bench()
    out, into, both = (network.Channel(n, r * GB) for n, r in (("o", 50), ("i", 50), ("b", 80)))
    bench.send("out", route(out, both), 40 * GB)
    bench.send("in", route(into, both), 40 * GB)
    assert bench.run() == {"out": SECOND_NS, "in": SECOND_NS}


def moves(*pairs: tuple[int, int], source: int = 0, target: int = 1) -> list[types.Move]:
    return [types.Move(types.Place(source, a), types.Place(target, b), 1) for a, b in pairs]


def mover(clock: clocks.VirtualClock, **fields: int) -> network.SimulatedMover:
    routes = {
        pair: network.Route((network.Channel("link", 10**9),), **fields)
        for pair in ((0, 1), (1, 0))
    }
    return network.SimulatedMover(clock, network.Network(clock), routes=routes, page_bytes=1000)


def test_copies_of_one_pair_go_in_order_each_with_its_latency_and_its_runs() -> None:
    clock = clocks.VirtualClock()
    copier = mover(clock, latency_ns=100, run_ns=10)
    first = copier.submit(moves((1, 1), (2, 2), (5, 3)))  # two runs: 110 + 3 x 1000
    second = copier.submit(moves((7, 7)))
    back = copier.submit(moves((4, 4), source=1, target=0))
    clock.wait([first, second], 1.0)
    clock.wait([second], 1.0)
    ends_ns = [round((t.finished_at or 0.0) * 1e9) for t in (back, first, second)]
    assert ends_ns == [1_100, 3_110, 4_210]
    assert [(c.ticket, c.bytes) for c in copier.poll()] == [
        (back.id, 1000), (first.id, 3000), (second.id, 1000)
    ]  # fmt: skip
    assert copier.poll() == []


def test_a_copy_waits_for_the_slice_that_it_follows() -> None:
    clock = clocks.VirtualClock()
    copier = mover(clock, latency_ns=0)
    slice_ = tickets.Ticket("slice")
    copy = copier.submit(moves((1, 1)), after=slice_)
    clock.at_ns(5_000, lambda: slice_.complete(at=clock.now()))
    clock.wait([slice_], 1.0)
    assert copier.poll() == []
    clock.wait([copy], 1.0)
    assert copy.finished_at == 6e-6


def test_a_copy_over_no_route_or_of_nothing_is_refused() -> None:
    copier = mover(clocks.VirtualClock(), latency_ns=0)
    with pytest.raises(errors.MoveError, match="no route from space 0 to 2"):
        copier.submit(moves((1, 1), target=2))
    with pytest.raises(errors.MoveError, match="empty plan"):
        copier.submit([])
