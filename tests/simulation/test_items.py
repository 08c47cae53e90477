"""An engine of items: batches by memory, offers when it is calm, calls back when it is not."""

from __future__ import annotations

import itertools

import pytest

from aqua_jax.control import errors, lease_line, lease_types, leases, lending, types
from aqua_jax.simulation import cost, hardware, items, shapes, world

H100 = hardware.load("H100")
SDXL = shapes.items("SDXL")
SPEC = items.ItemEngine(device=H100, shape=SDXL, batch_max=11, batch_calm=2, calm_seconds=1.0)
UNIT_BYTES = 64 * types.MIB


class Scene:
    """The engine, a ledger, and a borrower that takes everything and gives back when it is told."""

    def __init__(self, arriving_ns: list[int], *, lends: bool = True) -> None:
        self.world = world.World()
        self.ledger = leases.Ledger(unit_bytes=UNIT_BYTES)
        self.ledger.join("taker", lease_types.Role.BORROWER, incarnation=1, now=0.0)
        self._requests = itertools.count(1)
        seat = self.world.seat()
        self.engine = items.SimulatedItems(
            "images",
            seat,
            SPEC,
            lease_line.DirectPort(self.ledger),
            unit_bytes=UNIT_BYTES,
            settings=lending.LenderSettings(),
            arriving_ns=iter(arriving_ns),
            lends=lends,
        )
        seat.take(self.engine)

    def run(self, until: float, *, gives_back: bool = True) -> None:
        while self.world.clock.now() < until - 0.1:
            self.world.run(self.world.clock.now() + 0.1)
            self.world.clock.wait([], self.world.clock.now() + 0.1)
            self.engine.check_integrity()
            now = self.world.clock.now()
            standing = self.ledger.heartbeat("taker", incarnation=1, now=now)
            for call in standing.calls if gives_back else ():
                (whole,) = (g for g in standing.grants if g.generation == call.generation)
                self.ledger.release(
                    self._stamp(), grant=whole.id, generation=whole.generation, units=whole.units,
                    now=now,
                )  # fmt: skip
            self.ledger.grant(self._stamp(), units_count=10_000, now=now)

    def _stamp(self) -> lease_types.Stamp:
        return lease_types.Stamp("taker", 1, next(self._requests))


def test_calm_it_lends_all_but_a_small_batch_and_a_buffer() -> None:
    scene = Scene([])
    scene.run(1.0)
    left = H100.memory_bytes - SDXL.memory_bytes(2) - 5 * types.GIB
    assert scene.engine.lent_bytes == left // UNIT_BYTES * UNIT_BYTES


def test_an_item_takes_its_time_and_a_batch_less_than_its_items() -> None:
    scene = Scene([0, 0, 500])
    scene.run(20.0)
    one = cost.item_cost(H100, SDXL)
    single_ns, pair_ns = (
        -(-(one.dispatch_ps + 50 * (one.step_ps + n * one.lane_ps)) // 1000) for n in (1, 2)
    )
    assert single_ns < pair_ns < 2 * single_ns
    assert list(scene.engine.done_ns) == [pair_ns, pair_ns, pair_ns + single_ns]
    assert list(scene.engine.arrived_ns) == [0, 0, 500]
    assert scene.engine.batches == 2


def test_busy_it_calls_memory_back_for_larger_batches_and_lends_again() -> None:
    scene = Scene([10**9 + n for n in range(40)])
    scene.run(0.9)
    lent = scene.engine.lent_bytes
    scene.run(8.0)
    assert scene.engine.lent_bytes == 0
    scene.run(150.0)
    assert scene.engine.waiting == 0
    assert len(scene.engine.done_ns) == 40
    assert scene.engine.batches < 40 / 11 + 3  # one of 2, one while memory was away, then whole
    assert scene.engine.lent_bytes == lent


def test_memory_that_does_not_come_back_is_not_used() -> None:
    scene = Scene([10**9 + n for n in range(40)])
    scene.run(0.9)
    scene.run(60.0, gives_back=False)
    assert 0 < len(scene.engine.done_ns) <= 2 * scene.engine.batches
    assert scene.ledger.reclaim_status("images")[0].overdue


def test_who_does_not_lend_has_all_of_it() -> None:
    scene = Scene([0] * 11, lends=False)
    scene.run(100.0)
    assert (scene.engine.batches, scene.engine.lent_bytes) == (1, 0)


def test_arrivals_are_of_a_seed_and_of_their_phases() -> None:
    phases = (items.Phase(10.0, 2.0), items.Phase(20.0, 0.0), items.Phase(120.0, 5.0))
    times = list(items.arrivals("0", phases))
    assert times == sorted(times) == list(items.arrivals("0", phases))
    assert times != list(items.arrivals("1", phases))
    counts = [sum(a <= ns / 1e9 < b for ns in times) for a, b in ((0, 10), (10, 20), (20, 120))]
    assert counts[1] == 0
    assert 10 < counts[0] < 35
    assert 400 < counts[2] < 600
    assert sum(counts) == len(times)


def test_a_batch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="use a batch of 12 at most"):
        items.ItemEngine(device=H100, shape=SDXL, batch_max=13, batch_calm=1)
    with pytest.raises(errors.ConfigError, match="the first no more than the second"):
        items.ItemEngine(device=H100, shape=SDXL, batch_max=2, batch_calm=3)
    assert SPEC.fits(0) == 11
    assert SPEC.fits(H100.memory_bytes - SDXL.memory_bytes(3)) == 3
