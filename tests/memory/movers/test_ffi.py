"""The ffi mover beyond the conformance suite: overlap, fences, refusals, lost pools, leaks."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors
from aqua_jax.memory import arenas, native, native_arenas, paged
from aqua_jax.memory.movers import ffi
from tests.memory import parts

pytestmark = parts.needs_native

POOL, PEER, HOST = parts.POOL, parts.PEER, parts.HOST
ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(params=["single", "mesh 2, native arenas"])
def stores(request: pytest.FixtureRequest) -> Iterator[parts.Stores]:
    library = native.load()
    before = library.memory_live_bytes()
    made = parts.make_stores(request.param)
    yield made
    for store in made.values():
        store.close()
    assert library.tickets_open() == 0
    assert library.memory_live_bytes() == before


@pytest.fixture
def clock() -> clocks.MonotonicClock:
    return clocks.MonotonicClock()


@pytest.fixture
def mover(stores: parts.Stores, clock: clocks.MonotonicClock) -> Iterator[ffi.FfiMover]:
    made = parts.one_sided(stores, clock)
    made.warm_up()
    yield made
    made.close()


@contextlib.contextmanager
def _held_back(mover: ffi.FfiMover, space: int) -> Iterator[None]:
    """Programs enqueued on the pool meanwhile do not run before the block is left.

    A fence waits for a ticket that no pool ever reaches.
    """
    library, memory = native.load(), np.zeros(2, np.uint8)
    gate = library.store_register("gate", [memory.ctypes.data], devices=[-1], pages=2, page_bytes=1)
    never = library.copy_open(gate, gate, sources=[0], targets=[1], pool=gate)
    pool = mover._stores.of(space)
    assert isinstance(pool, paged.PagedPool)
    library.fence_open(mover.handle(space), [never], seconds=20)
    pool.run(*ffi._program("aqua_fence", pool))
    try:
        yield
    finally:
        library.ticket_abandon(never, "test")
        library.store_retire(gate, "test")


def _everywhere(pool: paged.PagedPool) -> jax.sharding.Sharding:
    if isinstance(pool.sharding, jax.sharding.NamedSharding):
        return jax.sharding.NamedSharding(pool.sharding.mesh, jax.sharding.PartitionSpec())
    return pool.sharding


# -- order ---------------------------------------------------------------------------------------


def test_submitting_waits_for_nothing_and_follows_what_was_enqueued(
    stores: parts.Stores, mover: ffi.FfiMover, clock: clocks.MonotonicClock
) -> None:
    add_one = jax.jit(lambda array: (array + np.float32(1),), donate_argnums=0)
    values = np.round(parts.pages(2) * 8)
    stores[POOL].write([1, 2], values)
    with _held_back(mover, POOL):
        stores[POOL].run(add_one)
        ticket = mover.submit(parts.moves(POOL, [1, 2], PEER, [4, 5]))
        assert not ticket.done()
        assert mover.poll() == []
    parts.drain(mover, clock, [ticket])
    np.testing.assert_array_equal(stores[PEER].snapshot([4, 5]), values + 1)


def test_copies_between_arenas_do_not_wait_for_the_pool(
    stores: parts.Stores, mover: ffi.FfiMover, clock: clocks.MonotonicClock
) -> None:
    stores[PEER].write([1], parts.pages(1))
    with _held_back(mover, POOL):
        parts.drain(mover, clock, [mover.submit(parts.moves(PEER, [1], HOST, [2]))])
    np.testing.assert_array_equal(stores[HOST].snapshot([2]), parts.pages(1))


def test_programs_go_on_beside_a_copy(clock: clocks.MonotonicClock) -> None:
    """32 MiB are still on their way when a program enqueued after the copy is over.

    Not each time, where others want the cores; if it waited for the copy, never.
    """
    stores = _large()
    mover = parts.one_sided(stores, clock)
    mover.warm_up()
    program = jax.jit(lambda array: (array, array[0, :1] + 0), donate_argnums=0)
    (warm,) = stores[POOL].run(program)
    jax.block_until_ready(warm)
    beside = 0
    for _ in range(20):
        ticket = mover.submit(parts.moves(POOL, range(1, 9), PEER, range(8)))
        (after,) = stores[POOL].run(program)
        jax.block_until_ready(after)
        beside += not ticket.done()
        parts.drain(mover, clock, [ticket])
        if beside:
            break
    mover.close()
    assert beside


def test_a_fence_without_copies_enqueues_nothing(
    stores: parts.Stores, mover: ffi.FfiMover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores[POOL], "run", None)
    fence = mover.fence(POOL)
    assert (fence.done(), fence.error) == (True, None)


def test_a_fence_that_does_not_hold_fails_and_is_logged(
    clock: clocks.MonotonicClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It lets the pool go on: late copies are no reason to hang."""
    monkeypatch.setattr(ffi, "FENCE_SECONDS", 1e-3)
    stores = parts.make_stores()
    stores[9] = paged.PagedPool(9, 3, parts.PAGE_SHAPE, jnp.float32, sharding=parts.on(2))
    mover = parts.one_sided(stores, clock)
    mover.warm_up()
    with caplog.at_level(logging.ERROR), _held_back(mover, 9):
        pending = [
            mover.submit(parts.moves(9, [1], PEER, [0])),  # waits for its pool
            mover.submit(parts.moves(POOL, [1], PEER, [0])),  # follows: the same slot
        ]
        fence = mover.fence(POOL)
        stores[POOL].snapshot([1])  # goes on
        assert not any(ticket.done() for ticket in pending)
        clock.wait([fence], clock.now() + parts.WAIT_SECONDS)
    completions = parts.drain(mover, clock, pending)
    mover.close()
    assert all(completion.error is None for completion in completions)
    assert "a fence on pool 1 did not hold: TIMEOUT" in str(fence.error)
    assert "a fence on pool 1 did not hold: TIMEOUT" in caplog.text


def test_submitting_transfers_nothing_implicitly(
    stores: parts.Stores, mover: ffi.FfiMover, clock: clocks.MonotonicClock
) -> None:
    with jax.transfer_guard("disallow"):
        pending = [
            mover.submit(parts.moves(POOL, [1, 2, 3], PEER, [0, 1, 2])),
            mover.submit(parts.moves(PEER, [0, 1, 2], HOST, [0, 1, 2])),
            mover.submit(parts.moves(HOST, [0, 1, 2], POOL, [4, 5, 6])),
        ]
        mover.fence(POOL)
    assert all(c.error is None for c in parts.drain(mover, clock, pending))


def test_nothing_compiles_after_warm_up(
    clock: clocks.MonotonicClock, caplog: pytest.LogCaptureFixture
) -> None:
    sharding, library = parts.on(0), native.load()
    pool = paged.PagedPool(POOL, 70, (11,), jnp.float32, sharding=sharding)
    arena = native_arenas.NativeArena(
        PEER, 70, (11,), jnp.float32, pool_sharding=sharding, library=library
    )
    mover = ffi.FfiMover({POOL: pool, PEER: arena}, clock, library=library)
    mover.warm_up()
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        for count in (1, 3, 33, 69):
            out = mover.submit(parts.moves(POOL, range(1, count + 1), PEER, range(count)))
            mover.fence(POOL)
            back = mover.submit(parts.moves(PEER, range(count), POOL, range(1, count + 1)))
            parts.drain(mover, clock, [out, back])
    assert "Compiling" not in caplog.text
    mover.close()
    arena.close()


# -- bad input -----------------------------------------------------------------------------------


def test_a_closed_arena_is_refused(stores: parts.Stores, mover: ffi.FfiMover) -> None:
    label = stores[PEER].label
    stores[PEER].close()
    for plan in (parts.moves(POOL, [1], PEER, [0]), parts.moves(PEER, [0], POOL, [1])):
        with pytest.raises(errors.MoveError, match=f"refused: {label} was closed"):
            mover.submit(plan)
    assert mover.poll() == []
    stores[POOL].snapshot([1])  # nothing was enqueued on it


def test_an_arena_closed_under_way_is_safe(
    stores: parts.Stores, mover: ffi.FfiMover, clock: clocks.MonotonicClock
) -> None:
    values = parts.pages(4)
    stores[POOL].write([1, 2, 3, 4], values)
    parts.drain(mover, clock, [mover.submit(parts.moves(POOL, [1, 2], PEER, [0, 1]))])
    with _held_back(mover, POOL):
        unreached = [
            mover.submit(parts.moves(POOL, [3], PEER, [2])),
            mover.submit(parts.moves(PEER, [0], POOL, [5])),
        ]
        works = mover.submit(parts.moves(POOL, [4], HOST, [0]))
        stores[PEER].close()
    by_ticket = {c.ticket: c for c in parts.drain(mover, clock, [*unreached, works])}
    for ticket in unreached:
        assert "pool 1" in str(by_ticket[ticket.id].error)
        assert by_ticket[ticket.id].bytes == 0
    assert by_ticket[works.id].error is None
    np.testing.assert_array_equal(stores[HOST].snapshot([0]), values[3:])


def test_a_second_registration_is_refused(
    stores: parts.Stores, mover: ffi.FfiMover, clock: clocks.MonotonicClock
) -> None:
    with pytest.raises(errors.NativeError, match="pool 1"):
        parts.one_sided(stores, clock)
    ticket = mover.submit(parts.moves(POOL, [1], PEER, [0]))  # the first goes on
    (completion,) = parts.drain(mover, clock, [ticket])
    assert completion.error is None


def test_stale_handles_are_refused(stores: parts.Stores, clock: clocks.MonotonicClock) -> None:
    mover, library = parts.one_sided(stores, clock), native.load()
    old = mover.handle(POOL)
    stores[POOL].rebuild()
    new = mover.handle(POOL)
    assert new != old
    with pytest.raises(errors.NativeError, match=rf"STALE.* {old}\b"):
        library.copy_open(old, new, sources=[1], targets=[1])
    with pytest.raises(errors.NativeError, match="STALE"):
        library.store_slot(old)
    mover.close()


def test_native_code_checks_ranges_again(mover: ffi.FfiMover) -> None:
    """Whatever the host's checks let through: rows that no array has."""
    pool, arena, library = mover.handle(POOL), mover.handle(PEER), native.load()
    for sources, targets in (([13], [0]), ([-1], [0]), ([1], [10]), ([1], [-1])):
        with pytest.raises(errors.NativeError, match="OUT_OF_RANGE"):
            library.copy_open(pool, arena, sources=sources, targets=targets, pool=pool)
    assert library.tickets_open() == 0


def test_pages_of_two_kinds_do_not_mix(clock: clocks.MonotonicClock) -> None:
    stores = parts.make_stores()
    stores[9] = arenas.DeviceArena(9, 3, (8,), jnp.float32, sharding=parts.on(1))
    stores[8] = arenas.DeviceArena(8, 3, parts.PAGE_SHAPE, jnp.int32, sharding=parts.on(1))
    mover = parts.one_sided(stores, clock)
    for space in (8, 9):
        with pytest.raises(errors.MoveError, match="of two kinds"):
            mover.submit(parts.moves(POOL, [1], space, [0]))
    mover.close()


def test_two_pools_are_not_joined(clock: clocks.MonotonicClock) -> None:
    stores = parts.make_stores()
    stores[9] = paged.PagedPool(9, 3, parts.PAGE_SHAPE, jnp.float32, sharding=parts.on(1))
    mover = parts.one_sided(stores, clock)
    with pytest.raises(errors.MoveError, match=r"pool 1 and pool 9 are two pools.*an arena"):
        mover.submit(parts.moves(POOL, [1], 9, [1]))
    mover.close()


def test_stores_that_do_not_fit_are_refused_at_once(clock: clocks.MonotonicClock) -> None:
    joined = parts.make_stores("mesh 2 to single")
    with pytest.raises(errors.ConfigError, match=r"pool 1 lie in 2 parts.*make it a NativeArena"):
        parts.one_sided(joined, clock)
    with pytest.raises(errors.ConfigError, match="given as space 9, but its space is 1"):
        parts.one_sided({9: joined[POOL]}, clock)
    with pytest.raises(errors.ConfigError, match="asked for 3 transfer threads"):
        _two_movers_of_other_threads(clock)


def test_a_held_view_is_named_and_no_ticket_stays(clock: clocks.MonotonicClock) -> None:
    """XLA copies an array of which a view lives; the copy is not the pool that was registered."""
    stores = parts.make_stores()
    mover = parts.one_sided(stores, clock)
    held = np.asarray(stores[POOL]._resident._array)
    ticket = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    (completion,) = parts.drain(mover, clock, [ticket])
    assert "local `held` of test_a_held_view" in str(completion.error)
    assert not stores[PEER].snapshot([0]).any()
    del held, completion
    stores[POOL].rebuild()
    again = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    assert parts.drain(mover, clock, [again])[0].error is None
    mover.close()
    assert native.load().tickets_open() == 0


def test_a_program_that_does_not_donate_is_refused(
    mover: ffi.FfiMover, stores: parts.Stores, clock: clocks.MonotonicClock
) -> None:
    """Native code finds itself in a copy of the pool and says so; nothing was moved."""
    pool, library = stores[POOL], native.load()
    values = parts.pages(1)
    stores[PEER].write([0], values)
    ticket = library.copy_open(
        mover.handle(POOL), mover.handle(PEER), sources=[1], targets=[0], pool=mover.handle(POOL)
    )

    def reach(array: jax.Array, ticket: jax.Array) -> tuple[jax.Array]:
        like = jax.ShapeDtypeStruct(array.shape, array.dtype)
        return (jax.ffi.ffi_call("aqua_page_out", like)(array, ticket),)

    if len(pool.addresses) > 1:
        spec, whole = pool.sharding.spec, jax.sharding.PartitionSpec()
        reach = jax.shard_map(
            reach, mesh=pool.sharding.mesh, in_specs=(spec, whole), out_specs=(spec,)
        )
    operand = jax.device_put(np.array([ticket], np.int32), _everywhere(pool))
    # Native code says so where the program runs at once, else the pool does when it sees a copy.
    both = (errors.InternalError, jax.errors.JaxRuntimeError)
    with pytest.raises(both, match="donate"):
        pool.run(jax.jit(reach), operand)
    library.ticket_abandon(ticket, "test")
    np.testing.assert_array_equal(stores[PEER].snapshot([0]), values)


# -- failures and ends ---------------------------------------------------------------------------


def test_copies_behind_a_lost_slice_fail_and_all_is_rebuilt(
    stores: parts.Stores, mover: ffi.FfiMover, clock: clocks.MonotonicClock
) -> None:
    """As the engine recovers: what is in flight settles, then the pool, then the mover."""
    pool = stores[POOL]
    program = jax.jit(lambda array, x: (array + x.astype(array.dtype)[0], -x), donate_argnums=0)
    token = parts.failing_token(_everywhere(pool))
    (slice_,) = pool.run(program, token)
    pending = [
        mover.submit(parts.moves(POOL, [1], PEER, [0])),
        mover.submit(parts.moves(PEER, [0], POOL, [2])),
    ]
    mover.fence(POOL)
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(slice_)
    completions = parts.drain(mover, clock, pending)
    assert all("its pool was lost before" in str(c.error) for c in completions)
    pool.rebuild()
    mover.rebuild()
    pool.write([1], parts.pages(1))
    out = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    back = mover.submit(parts.moves(PEER, [0], POOL, [2]))
    assert all(c.error is None for c in parts.drain(mover, clock, [out, back]))
    np.testing.assert_array_equal(pool.snapshot([2]), parts.pages(1))


def test_a_rebuild_gives_fresh_arenas_and_leaves_the_pool(
    stores: parts.Stores, mover: ffi.FfiMover, clock: clocks.MonotonicClock
) -> None:
    for store in stores.values():
        store.write([1], parts.pages(1))
    mover.rebuild()
    for space in (PEER, HOST):
        assert not stores[space].snapshot([1]).any()
    np.testing.assert_array_equal(stores[POOL].snapshot([1]), parts.pages(1))
    (done,) = parts.drain(mover, clock, [mover.submit(parts.moves(POOL, [1], PEER, [0]))])
    assert done.error is None
    np.testing.assert_array_equal(stores[PEER].snapshot([0]), parts.pages(1))


def test_a_pool_waits_for_its_copies_before_it_goes(clock: clocks.MonotonicClock) -> None:
    """No copy may touch memory that was given back, whatever the order of closing."""
    stores = _large()
    mover = parts.one_sided(stores, clock)
    ticket = mover.submit(parts.moves(POOL, range(1, 9), PEER, range(8)))
    stores[POOL].snapshot([1])  # so the pool has reached the copy
    stores[POOL].close()
    assert ticket.done()
    assert ticket.error is None
    with pytest.raises(errors.MoveError, match="pool 1 was closed"):
        mover.submit(parts.moves(POOL, [1], PEER, [0]))
    mover.close()


def test_arms_share_their_stores_one_after_the_other(
    stores: parts.Stores, clock: clocks.MonotonicClock
) -> None:
    for _ in range(3):
        mover = parts.one_sided(stores, clock)
        ticket = mover.submit(parts.moves(POOL, [1], PEER, [0]))
        mover.close()
        mover.close()
        assert [c.error for c in mover.poll()] == [None]
        assert ticket.done()


EXIT = """
    import os
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
    from aqua_jax.control import clock as clocks
    from tests.memory import parts

    stores = parts.make_stores("mesh 2, native arenas")
    mover = parts.one_sided(stores, clocks.MonotonicClock())
    parts.slow_token()
    for i in range(8):
        mover.submit(parts.moves(parts.POOL, [1, 2, 3], parts.PEER, [0, 1, 2]))
        mover.submit(parts.moves(parts.PEER, [0, 1, 2], parts.POOL, [4, 5, 6]))
        mover.fence(parts.POOL)
"""


def test_a_process_may_exit_with_copies_under_way() -> None:
    command = [sys.executable, "-c", textwrap.dedent(EXIT)]
    finished = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (finished.returncode, finished.stderr) == (0, "")


def _large() -> parts.Stores:
    """A pool and an arena of pages of 4 MiB: copies take milliseconds."""
    sharding, page_shape = parts.on(0), (1 << 20,)
    return {
        POOL: paged.PagedPool(POOL, 9, page_shape, jnp.float32, sharding=sharding),
        PEER: arenas.DeviceArena(PEER, 8, page_shape, jnp.float32, sharding=parts.on(1)),
    }


def _two_movers_of_other_threads(clock: clocks.MonotonicClock) -> None:
    first = parts.one_sided(parts.make_stores(), clock)
    try:
        ffi.FfiMover(parts.make_stores(), clock, library=native.load(), threads=3)
    finally:
        first.close()
