"""Random plans through native code, byte for byte against the reference mover.

Copies overlap, share pages, are refused in the last moment; programs run
between them; arenas are closed with copies under way. What the copies did is
replayed afterwards in the order of submission on numpy stores, by the
reference mover, and every byte compared. A run is a function of its seed:

    python -c "from tests.memory import test_random_plans as t; t.run(4711)"
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets, types
from aqua_jax.memory import native, native_arenas, page_store, paged
from aqua_jax.memory.movers import ffi, reference
from tests.memory import parts

pytestmark = parts.needs_native

POOL, PEER, HOST = parts.POOL, parts.PEER, parts.HOST
PAGE_SHAPE = (2, 4, 1)  # [2, kv_heads, head_dim]
PAGES, SLOTS = 13, 9
PROGRAM_PAGES = 4
LAYOUTS = {"single": (0,), "mesh 2": (0, 1)}


@dataclasses.dataclass
class Tally:
    """How often the cases that matter were met."""

    plans: int = 0
    pages: int = 0
    programs: int = 0
    fences: int = 0
    chained: int = 0  # plans that touch a page that an open one writes
    aborted: int = 0
    freed_under_way: int = 0
    unreached: int = 0  # plans whose arena was closed before the pool had reached them


class NumpyStore:
    """Pages in numpy, for the reference mover. `void` ones hold anything."""

    sharding = None  # of no device
    dtype = np.dtype(np.float32)
    page_shape = PAGE_SHAPE
    page_bytes = 4 * 8

    def __init__(self, like: page_store.PageStore) -> None:
        self.label, self.space, self.indices = like.label, like.space, like.indices
        self.pages = np.zeros((like.indices.stop, *PAGE_SHAPE), np.float32)
        self.void = np.zeros(like.indices.stop, bool)

    def snapshot(self, indices: Sequence[int]) -> np.ndarray:
        return self.pages[list(indices)]

    def write(self, indices: Sequence[int], values: np.ndarray) -> None:
        self.pages[list(indices)] = values

    def check_indices(self, indices: Sequence[int]) -> None:
        assert set(indices) <= set(self.indices)


class FlakyPool(paged.PagedPool):
    """A pool that refuses to enqueue the next program when it is told to."""

    refuses = False

    def run(self, program: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
        if self.refuses:
            self.refuses = False
            raise OSError("injected: the program was not enqueued")
        return super().run(program, *args)


@dataclasses.dataclass
class Plan:
    """A submitted plan and what became of it."""

    moves: list[types.Move]
    ticket: tickets.Ticket


@dataclasses.dataclass
class Program:
    """`pages += value` on the pool."""

    pages: list[int]
    value: float


def _add(array: jax.Array, pages: jax.Array, value: jax.Array) -> tuple[jax.Array]:
    return (array.at[pages].add(value),)


def _dawdle(array: jax.Array) -> tuple[jax.Array]:
    """Takes milliseconds and changes nothing."""
    square = jnp.full((96, 96), np.float32(0.01))
    busy = jax.lax.fori_loop(0, 200, lambda _, x: jnp.tanh(x @ square), square)
    return (array.at[0, 0, 0, 0].set(busy[0, 0]),)  # scratch


_PROGRAM = jax.jit(_add, donate_argnums=0)
_SLOW_PROGRAM = jax.jit(_dawdle, donate_argnums=0)


class Run:
    """One mover's life over fresh arenas."""

    def __init__(self, seed: int, pool: FlakyPool, tally: Tally) -> None:
        self.rng = np.random.default_rng(seed)
        self.tally = tally
        self.pool = pool
        self.clock = clocks.MonotonicClock()
        self.stores: dict[int, page_store.PageStore] = {
            POOL: pool,
            PEER: _arena(PEER, pool, kind="device"),
            HOST: _arena(HOST, pool, kind=("host", "shared")[int(self.rng.integers(2))]),
        }
        self.mirror = {space: NumpyStore(store) for space, store in self.stores.items()}
        self.closed: set[int] = set()
        self.log: list[Plan | Program] = []
        self.open: list[Plan] = []
        self.mover = ffi.FfiMover(
            self.stores, self.clock, library=native.load(), threads=int(self.rng.integers(1, 3))
        )

    def go(self, count: int) -> None:
        self._fill()
        frees_at = int(self.rng.integers(2 * count))  # every other run closes an arena
        planned = 0
        while planned < count:
            match self.rng.choice(4, p=(0.7, 0.15, 0.1, 0.05)):
                case 0 if planned == frees_at:
                    self._free_an_arena()
                    frees_at = -1
                case 0:
                    planned += self._submit()
                case 1:
                    self._run_program(fenced=False)
                case 2:
                    self._take()
                case 3:
                    self._run_program(fenced=True)
        self._settle()
        self._compare()

    def _fill(self) -> None:
        for space, store in self.stores.items():
            values = self.rng.integers(0, 1 << 20, (len(store.indices), *PAGE_SHAPE))
            values = values.astype(np.float32)
            store.write(store.indices, values)
            self.mirror[space].write(store.indices, values)

    def _submit(self) -> int:
        spaces = [space for space in self.stores if space not in self.closed]
        source, target = (int(space) for space in self.rng.choice(spaces, size=2))
        count = int(self.rng.integers(1, 6))
        if self.rng.random() < 0.5:
            sources, targets = self._runs(source, target, count)
        else:
            order = self.rng.permutation(list(self.stores[target].indices)).tolist()
            targets = order[:count]
            others = set(self.stores[source].indices)
            others -= set(targets) if source == target else set()
            sources = self.rng.choice(sorted(others), size=count).tolist()  # some read twice
        if not targets:
            return 0
        moves = parts.moves(source, sources, target, targets)
        written = {move.target for plan in self.open for move in plan.moves}
        self.tally.chained += any(m.source in written or m.target in written for m in moves)
        aborts = POOL in (source, target) and self.rng.random() < 0.03
        self.pool.refuses = bool(aborts)
        plan = Plan(moves, self.mover.submit(moves))
        self.tally.aborted += int(aborts)
        self.log.append(plan)
        self.open.append(plan)
        self.tally.plans += 1
        self.tally.pages += len(moves)
        return 1

    def _runs(self, source: int, target: int, count: int) -> tuple[list[int], list[int]]:
        """Neighbours to neighbours, which merge into one copy."""
        first = [
            int(self.rng.choice(list(self.stores[space].indices)[: -count + 1 or None]))
            for space in (source, target)
        ]
        if source == target and abs(first[0] - first[1]) < count:
            return [], []
        return [*range(first[0], first[0] + count)], [*range(first[1], first[1] + count)]

    def _run_program(self, *, fenced: bool) -> None:
        """Adds to some pages: behind a fence to any, else to pages of no open plan."""
        pages = set(self.pool.indices)
        if fenced:
            self.mover.fence(POOL)
            self.tally.fences += 1
        else:
            self._take()
            pages -= {
                place.index
                for plan in self.open
                for move in plan.moves
                for place in (move.source, move.target)
                if place.space == POOL
            }
        chosen = self.rng.permutation(sorted(pages))[:PROGRAM_PAGES].tolist()
        padded = np.array((chosen + [self.pool.scratch] * PROGRAM_PAGES)[:PROGRAM_PAGES], np.int32)
        value = float(self.rng.integers(1, 9))
        self.pool.run(_PROGRAM, padded, np.float32(value))
        self.log.append(Program(chosen, value))
        self.tally.programs += 1

    def _take(self) -> None:
        done = {completion.ticket for completion in self.mover.poll()}
        self.open = [plan for plan in self.open if plan.ticket.id not in done]

    def _free_an_arena(self) -> None:
        """Closes an arena while the pool is busy, so that plans wait for it."""
        space = int(self.rng.choice([PEER, HOST]))
        self.pool.run(_SLOW_PROGRAM)
        for _ in range(6):
            self._submit()
        self.tally.freed_under_way += any(
            space in (plan.moves[0].source.space, plan.moves[0].target.space)
            and not plan.ticket.done()
            for plan in self.open
        )
        self.stores[space].close()
        self.closed.add(space)

    def _settle(self) -> None:
        parts.drain(self.mover, self.clock, [plan.ticket for plan in self.open])
        self.mover.close()

    def _compare(self) -> None:
        oracle = reference.ReferenceMover(self.mirror, clocks.VirtualClock())
        for entry in self.log:
            if isinstance(entry, Program):
                self.mirror[POOL].pages[entry.pages] += np.float32(entry.value)
                continue
            if entry.ticket.error is None:
                self._carry_void(entry.moves)
                oracle.submit(entry.moves)
                continue
            if "injected" not in str(entry.ticket.error):
                self.tally.unreached += 1
                # The arena was closed before the pool had reached the copy, in every part or in
                # some: whatever it was to write is void.
                assert self.closed, entry.ticket.error
                for move in entry.moves:
                    self.mirror[move.target.space].void[move.target.index] = True
        for space, store in self.stores.items():
            if space not in self.closed:
                mirror = self.mirror[space]
                known = [index for index in store.indices if not mirror.void[index]]
                np.testing.assert_array_equal(store.snapshot(known), mirror.snapshot(known))
                store.check_integrity()

    def _carry_void(self, moves: Sequence[types.Move]) -> None:
        for move in moves:
            source, target = self.mirror[move.source.space], self.mirror[move.target.space]
            target.void[move.target.index] = source.void[move.source.index]


def run(seed: int, *, plans: int = 100, layout: str = "single", tally: Tally | None = None) -> None:
    """One run: `plans` plans, then every byte compared and nothing left behind."""
    library = native.load()
    before = library.memory_live_bytes()
    pool = FlakyPool(POOL, PAGES, PAGE_SHAPE, jnp.float32, sharding=_sharding(layout))
    life = Run(seed, pool, tally or Tally())
    try:
        life.go(plans)
    except BaseException as error:
        error.add_note(f"replay: run({seed}, plans={plans}, layout={layout!r})")
        raise
    finally:
        life.mover.close()
        for store in life.stores.values():
            store.close()
    assert library.tickets_open() == 0, f"seed {seed} left tickets open"
    assert library.memory_live_bytes() == before, f"seed {seed} left memory behind"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_some_random_plans(layout: str) -> None:
    tally = Tally()
    for seed in range(8):
        run(seed, plans=60, layout=layout, tally=tally)
    _check_met(tally)


@pytest.mark.long
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_hundred_thousand_random_plans(layout: str) -> None:
    tally, seed = Tally(), 1000
    while tally.plans < 50_000:  # in each of two layouts
        run(seed, plans=500, layout=layout, tally=tally)
        seed += 1
    _check_met(tally)


def _check_met(tally: Tally) -> None:
    counts = dataclasses.asdict(tally)
    assert all(counts.values()), f"a case was never met: {counts}"


def _sharding(layout: str) -> jax.sharding.Sharding:
    devices = LAYOUTS[layout]
    if len(devices) == 1:
        return parts.on(*devices)
    mesh = jax.sharding.Mesh(np.array([jax.devices()[i] for i in devices]), ("tensor",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, None, "tensor"))


def _arena(
    space: int, pool: paged.PagedPool, *, kind: native_arenas.Kind
) -> native_arenas.NativeArena:
    return native_arenas.NativeArena(
        space,
        SLOTS,
        PAGE_SHAPE,
        jnp.float32,
        pool_sharding=pool.sharding,
        kind=kind,
        library=native.load(),
    )
