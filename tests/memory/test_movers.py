"""The conformance suite: what every mover and every decorated mover must do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets
from aqua_jax.memory.movers import base, reference
from tests.memory import parts

POOL, PEER, HOST = parts.POOL, parts.PEER, parts.HOST


@dataclasses.dataclass
class Bench:
    """A mover with the stores and the clock it was made with."""

    mover: base.PageMover
    stores: parts.Stores
    clock: clocks.Clock

    def submit(self, source: int, sources: Any, target: int, targets: Any) -> tickets.Ticket:
        return self.mover.submit(parts.moves(source, sources, target, targets))

    def copy(self, source: int, sources: Any, target: int, targets: Any) -> None:
        ticket = self.submit(source, sources, target, targets)
        (completion,) = parts.drain(self.mover, self.clock, [ticket])
        assert completion.error is None
        assert completion.bytes == len(sources) * parts.PAGE_BYTES


def _virtual(stores: parts.Stores, clock: clocks.Clock) -> base.PageMover:
    return parts.linked(reference.ReferenceMover(stores, clock), clock)


CASES = [
    *(pytest.param((name, "single", clocks.MonotonicClock), id=name) for name in parts.MOVERS),
    *(
        pytest.param((name, layout, clocks.MonotonicClock), id=f"{name}, {layout}")
        for layout in parts.LAYOUTS
        if layout != "single"
        for name in ("reference", "xla")
    ),
    pytest.param(("virtual", "single", clocks.VirtualClock), id="linked, virtual clock"),
    pytest.param(("whole", "mesh 2 to mesh 2", clocks.MonotonicClock), id="whole, meshes"),
    *(
        pytest.param(
            (name, layout, clocks.MonotonicClock), id=f"{name}, {layout}", marks=parts.needs_native
        )
        for name, layout in (
            ("ffi", "single"),
            ("ffi", "mesh 2 to mesh 2"),
            ("ffi, verified", "mesh 2 to mesh 2"),
            ("ffi, whole", "single"),
            ("ffi", "single, native arenas"),
            ("ffi", "mesh 2, native arenas"),
            ("ffi", "mesh 4, native arenas"),
            ("ffi, verified", "mesh 2, native arenas"),
            ("ffi, whole", "mesh 4, native arenas"),
            ("reference", "mesh 4, native arenas"),
        )
    ),
]
MOVERS: dict[str, parts.Make] = {**parts.MOVERS, **parts.NATIVE_MOVERS, "virtual": _virtual}


@pytest.fixture(params=CASES)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    name, layout, make_clock = request.param
    stores, clock = parts.make_stores(layout), make_clock()
    mover = MOVERS[name](stores, clock)
    yield Bench(mover, stores, clock)
    mover.close()
    for store in stores.values():
        store.check_integrity()
        store.close()


def test_round_trip_over_every_tier(bench: Bench) -> None:
    values = parts.pages(3)
    bench.stores[POOL].write([1, 2, 3], values)
    bench.copy(POOL, [1, 2, 3], PEER, [0, 5, 8])
    bench.copy(PEER, [5, 0, 8], HOST, [8, 1, 0])  # a reclaim: peer to host
    bench.copy(HOST, [1, 8, 0], PEER, [2, 3, 4])
    bench.copy(PEER, [2, 3, 4], POOL, [12, 11, 10])
    bench.copy(POOL, [12, 11, 10], HOST, [5, 6, 7])
    bench.copy(HOST, [5, 6, 7], POOL, [4, 5, 6])
    np.testing.assert_array_equal(bench.stores[POOL].snapshot([4, 5, 6]), values)
    np.testing.assert_array_equal(bench.stores[POOL].snapshot([1, 2, 3]), values)


def test_copies_inside_one_pool(bench: Bench) -> None:
    values = parts.pages(2)
    bench.stores[POOL].write([7, 9], values)
    bench.copy(POOL, [7, 9], POOL, [1, 2])
    np.testing.assert_array_equal(bench.stores[POOL].snapshot([1, 2]), values)


def test_only_the_targets_change(bench: Bench) -> None:
    values = parts.pages(9)
    bench.stores[PEER].write(range(9), values)
    bench.stores[POOL].write([1, 2, 3], parts.pages(3, seed=1))
    bench.copy(POOL, [1, 2, 3], PEER, [2, 4, 6])  # 3 pages: padded to 4
    others = [0, 1, 3, 5, 7, 8]
    np.testing.assert_array_equal(bench.stores[PEER].snapshot(others), values[others])


def test_many_batches_in_flight(bench: Bench) -> None:
    values = parts.pages(12)
    bench.stores[POOL].write(range(1, 13), values)
    out = [bench.submit(POOL, [i + 1], PEER if i % 2 else HOST, [i // 2]) for i in range(12)]
    completions = parts.drain(bench.mover, bench.clock, out)
    assert sorted(c.ticket for c in completions) == sorted(t.id for t in out)
    odd, even = bench.stores[PEER].snapshot(range(6)), bench.stores[HOST].snapshot(range(6))
    np.testing.assert_array_equal(odd, values[1::2])
    np.testing.assert_array_equal(even, values[0::2])


def test_order_with_programs_on_the_pool(bench: Bench) -> None:
    """A copy sees every program enqueued before it and none enqueued behind a fence."""
    add_one = jax.jit(lambda array: (array + np.float32(1),), donate_argnums=0)
    values = np.round(parts.pages(1) * 8)  # integers, exact under addition
    pool = bench.stores[POOL]
    pool.write([1], values)
    pending = [bench.submit(POOL, [1], PEER, [0])]
    fences = [bench.mover.fence(POOL)]
    pool.run(add_one)
    pending.append(bench.submit(POOL, [1], HOST, [0]))
    fences.append(bench.mover.fence(POOL))
    pool.run(add_one)
    pending.append(bench.submit(PEER, [0], POOL, [2]))
    fences.append(bench.mover.fence(POOL))
    pool.run(add_one)
    pending.append(bench.submit(POOL, [2], PEER, [1]))
    parts.drain(bench.mover, bench.clock, pending)
    assert all(fence.done() and fence.error is None for fence in fences)
    np.testing.assert_array_equal(bench.stores[PEER].snapshot([0]), values)
    np.testing.assert_array_equal(bench.stores[HOST].snapshot([0]), values + 1)
    np.testing.assert_array_equal(pool.snapshot([1, 2]), np.concatenate([values + 3, values + 1]))
    np.testing.assert_array_equal(bench.stores[PEER].snapshot([1]), values + 1)


def test_a_plan_waits_for_the_dispatch_it_follows(bench: Bench) -> None:
    after = tickets.Ticket("dispatch", started_at=bench.clock.now())
    bench.stores[POOL].write([1], parts.pages(1))
    ticket = bench.mover.submit(parts.moves(POOL, [1], PEER, [0]), after)
    after.complete(at=bench.clock.now())
    parts.drain(bench.mover, bench.clock, [ticket])
    np.testing.assert_array_equal(bench.stores[PEER].snapshot([0]), parts.pages(1))


WRONG_PLANS = [
    ([], "empty plan"),
    (parts.moves(9, [1], PEER, [0]), "space"),
    (parts.moves(POOL, [1], 9, [0]), "space"),
    (parts.moves(POOL, [0], PEER, [0]), "index 0 of pool 1 is the scratch page"),
    (parts.moves(POOL, [13], PEER, [0]), "index 13 of pool 1 is out of range"),
    (parts.moves(POOL, [-1], PEER, [0]), "index -1 of pool 1 is out of range"),
    (parts.moves(POOL, [1], PEER, [9]), "index 9 of device arena 2 is"),
    (
        parts.moves(POOL, [1, 2], HOST, [4, 4]),
        r"\[4\] of host arena 3 are",
    ),
    (parts.moves(POOL, [1, 2], POOL, [2, 3]), "are source and target"),
    (
        parts.moves(POOL, [1], PEER, [0]) + parts.moves(HOST, [1], PEER, [1]),
        r"source spaces \[1, 3\] in one plan",
    ),
    (
        parts.moves(POOL, [1], PEER, [0]) + parts.moves(POOL, [2], HOST, [1]),
        r"target spaces \[2, 3\] in one plan",
    ),
]


def test_wrong_plans_are_refused_and_nothing_starts(bench: Bench) -> None:
    values = parts.pages(9)
    bench.stores[PEER].write(range(9), values)
    for plan, text in WRONG_PLANS:
        with pytest.raises(errors.MoveError, match=text):
            bench.mover.submit(plan)
    assert bench.mover.poll() == []
    np.testing.assert_array_equal(bench.stores[PEER].snapshot(range(9)), values)
    bench.copy(PEER, [3], POOL, [3])  # and the mover still works
    np.testing.assert_array_equal(bench.stores[POOL].snapshot([3]), values[3:4])


def test_only_pools_are_fenced(bench: Bench) -> None:
    assert bench.mover.fence(POOL).done()  # nothing to wait for
    for space in (PEER, 9):
        with pytest.raises(errors.MoveError, match=rf"space {space} is no pool.*\[1\]"):
            bench.mover.fence(space)


def test_one_completion_for_each_ticket(bench: Bench) -> None:
    pending = [
        bench.submit(POOL, [1, 2], PEER, [0, 1]),
        bench.submit(POOL, [3], HOST, [0]),
        bench.submit(HOST, [0], POOL, [4]),
    ]
    completions = parts.drain(bench.mover, bench.clock, pending)
    by_ticket = {c.ticket: c for c in completions}
    assert len(completions) == len(by_ticket) == 3
    assert [by_ticket[t.id].bytes for t in pending] == [
        2 * parts.PAGE_BYTES,
        parts.PAGE_BYTES,
        parts.PAGE_BYTES,
    ]
    assert all(c.error is None and c.seconds >= 0 for c in completions)
    assert all(t.done() and t.error is None for t in pending)
    bench.clock.wait([], bench.clock.now() + 0.01)
    assert bench.mover.poll() == []


def test_close_waits_for_copies_in_flight(bench: Bench) -> None:
    values = parts.pages(4)
    bench.stores[POOL].write([1, 2, 3, 4], values)
    pending = [bench.submit(POOL, [i + 1], PEER, [i]) for i in range(4)]
    bench.mover.close()
    completions = bench.mover.poll()
    assert {c.ticket for c in completions} == {t.id for t in pending}
    assert all(c.error is None for c in completions)
    np.testing.assert_array_equal(bench.stores[PEER].snapshot(range(4)), values)
    with pytest.raises(errors.MoveError, match="closed"):
        bench.submit(POOL, [1], PEER, [0])


@pytest.mark.parametrize("seed", [1, 2])
def test_random_plans_against_a_dictionary(bench: Bench, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model: dict[tuple[int, int], np.ndarray] = {}
    for space, store in bench.stores.items():
        values = parts.pages(len(store.indices), seed=seed * 10 + space)
        store.write(store.indices, values)
        model |= {(space, i): page for i, page in zip(store.indices, values, strict=True)}
    pending: list[tickets.Ticket] = []
    busy: set[tuple[int, int]] = set()  # pages of pending tickets are not written (invariant 1)
    for _ in range(25):
        source, target = (int(space) for space in rng.choice([POOL, PEER, HOST], size=2))
        free = [i for i in bench.stores[target].indices if (target, i) not in busy]
        targets = [int(i) for i in rng.permutation(free)[: rng.integers(1, 5)]]
        if not targets:
            assert all(c.error is None for c in parts.drain(bench.mover, bench.clock, pending))
            pending, busy = [], set()
            continue
        others = [i for i in bench.stores[source].indices if source != target or i not in targets]
        sources = [int(i) for i in rng.permutation(others)[: len(targets)]]
        targets = targets[: len(sources)]
        pending.append(bench.submit(source, sources, target, targets))
        busy.update((source, i) for i in sources)
        busy.update((target, i) for i in targets)
        moved = [model[source, i] for i in sources]
        model |= {(target, i): page for i, page in zip(targets, moved, strict=True)}
    assert all(c.error is None for c in parts.drain(bench.mover, bench.clock, pending))
    for space, store in bench.stores.items():
        expected = np.stack([model[space, i] for i in store.indices])
        np.testing.assert_array_equal(store.snapshot(store.indices), expected)
