"""The ffi mover at the ends of things: no memory goes under a copy, no healthy pool is lost.

What would crash without the guards runs in a process of its own.
"""

from __future__ import annotations

import textwrap

import jax
import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors
from aqua_jax.memory import native, native_transfers, page_store, paged
from aqua_jax.memory.movers import ffi
from tests import processes
from tests.memory import parts

pytestmark = parts.needs_native

POOL, PEER = parts.POOL, parts.PEER

# The memory of such an array is unmapped when freed.
SETTING = """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from aqua_jax.control import clock as clocks
    from aqua_jax.control import errors
    from aqua_jax.memory import native, native_arenas, native_transfers, paged
    from aqua_jax.memory.movers import ffi
    from tests.memory import parts

    shape, sharding, clock = (1 << 19,), parts.on(0), clocks.MonotonicClock()
    pool = paged.PagedPool(1, 33, shape, jnp.float32, sharding=sharding)
    arena = native_arenas.NativeArena(
        2, 32, shape, jnp.float32, pool_sharding=sharding, library=native.load()
    )
    mover = ffi.FfiMover({1: pool, 2: arena}, clock, library=native.load())
    mover.warm_up()
    out = parts.moves(1, range(1, 33), 2, range(32))
    page = np.zeros(1 << 19, np.float32)

    def submit_behind_another():
        # The copy, and what lets it begin: it stands behind a ticket that no pool ever reaches.
        library, address = native.load(), page.ctypes.data
        gate = library.store_register("gate", [address], devices=[-1], pages=1, page_bytes=1 << 21)
        never = library.copy_open(gate, arena.handle, sources=[0], targets=[0], pool=gate)
        ticket = mover.submit(out)
        return ticket, lambda: library.ticket_abandon(never, "let go")

    def outcome(call):
        try:
            call()
        except errors.AquaError as error:
            return type(error).__name__
        return "done"
"""


def _run(program: str) -> list[str]:
    """The lines that `program` prints; fails when its process does."""
    source = textwrap.dedent(SETTING) + textwrap.dedent(program)
    return processes.python(source, environment={"JAX_PLATFORMS": "cpu"}).splitlines()


@pytest.mark.parametrize("freed", ["pool.close", "pool.rebuild"])
def test_memory_stays_under_a_copy_however_often_it_is_given_back(freed: str) -> None:
    printed = _run(f"""
        native_transfers.CLOSE_SECONDS = 0.0
        ticket, let_go = submit_behind_another()
        print(outcome({freed}), outcome({freed}), ticket.done())
        let_go()
        native_transfers.CLOSE_SECONDS = 10.0
        print(outcome({freed}), ticket.done(), ticket.error)
        mover.close()
    """)
    assert printed == ["InternalError InternalError False", "done True None"]


def test_a_mover_that_could_not_close_still_guards_its_arrays() -> None:
    printed = _run("""
        native_transfers.CLOSE_SECONDS = 0.0
        ticket, let_go = submit_behind_another()
        print(outcome(mover.close), outcome(pool.close), ticket.done())
        let_go()
        native_transfers.CLOSE_SECONDS = 10.0
        print(outcome(mover.close), ticket.done(), ticket.error)
        print(outcome(mover.close), outcome(pool.close))
    """)
    assert printed == ["InternalError InternalError False", "done True None", "done done"]


# A program that is run at once, inside the call: an error would free the pool there and then.
OUT_OF_TURN = """
    def reach(array, ticket):
        like = jax.ShapeDtypeStruct(array.shape, array.dtype)
        call = jax.ffi.ffi_call("{target}", like, input_output_aliases={{0: 0}})
        return (call(array, ticket),)

    array = jax.ShapeDtypeStruct((33, *shape), jnp.float32)
    operand = jax.device_put(np.array([{ticket}], np.int32), sharding)
    program = jax.jit(reach, donate_argnums=0).lower(array, operand).compile()
    pool.write([1], np.ones((1, *shape), np.float32))
    ticket = mover.submit(out)
    pool.run(program, operand)
    parts.drain(mover, clock, [ticket])
    print(ticket.error, pool.snapshot([1]).all(), arena.snapshot([0]).all())
    mover.close()
"""


@pytest.mark.parametrize(
    ("target", "ticket"), [("aqua_page_out", -1), ("aqua_page_in", 7), ("aqua_fence", -9)]
)
def test_a_program_out_of_turn_costs_no_pool(target: str, ticket: int) -> None:
    """Nor does it free the pool under a copy."""
    assert _run(OUT_OF_TURN.format(target=target, ticket=ticket)) == ["None True True"]


def test_a_program_out_of_turn_fails_the_tickets_that_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, stores = clocks.MonotonicClock(), parts.make_stores()
    pool, mover = stores[POOL], parts.one_sided(stores, clock)
    assert isinstance(pool, paged.PagedPool)
    mover.warm_up()
    pool.write([1], parts.pages(1))
    pool.run(_wait(pool), parts.slow_token())
    page_in = ffi._program("aqua_page_in", pool)
    pool.run(page_in.run, page_in.any_ticket)
    waiting = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    parts.drain(mover, clock, [waiting])
    assert "enqueue programs in the order in which tickets were opened" in str(waiting.error)
    pool.run(page_in.run, page_in.any_ticket)  # no ticket is there to fail
    pool.snapshot([1])  # it is over
    again = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    parts.drain(mover, clock, [again])
    mover.close()
    np.testing.assert_array_equal(stores[PEER].snapshot([0]), parts.pages(1))
    assert "none of its tickets'" in caplog.text
    assert "no ticket waits for it" in caplog.text


def test_a_fence_behind_a_slice_outlives_neither_its_mover_nor_its_pool() -> None:
    """The fence is reached after the copy is over: closing waits for both."""
    clock, stores = clocks.MonotonicClock(), parts.make_stores()
    pool, mover = stores[POOL], parts.one_sided(stores, clock)
    mover.warm_up()
    stores[POOL].write([1], parts.pages(1))
    copy = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    pool.run(_wait(pool), parts.slow_token())
    fence = mover.fence(POOL)
    mover.close()
    assert copy.done()
    assert fence.done()
    assert fence.error is None
    np.testing.assert_array_equal(pool.snapshot([1]), parts.pages(1))


def test_a_program_that_closing_cannot_wait_for_keeps_its_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were the pool retired, the program would find no store there, and the pool be lost."""
    clock, stores = clocks.MonotonicClock(), parts.make_stores()
    pool, mover = stores[POOL], parts.one_sided(stores, clock)
    mover.warm_up()
    pool.run(_wait(pool), parts.slow_token())
    copy = mover.submit(parts.moves(POOL, [1], PEER, [0]))
    with monkeypatch.context() as patch:
        patch.setattr(native_transfers, "CLOSE_SECONDS", 0.0)
        with pytest.raises(errors.InternalError, match="2 copies or programs are under way"):
            mover.close()
    mover.close()
    assert "the mover was closed" in str(copy.error)
    pool.snapshot([1])


def test_ctrl_c_before_the_program_is_enqueued_takes_the_ticket_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else every later program would start the copy before its own."""
    clock, stores = clocks.MonotonicClock(), parts.make_stores()
    pool, mover = stores[POOL], parts.one_sided(stores, clock)
    assert isinstance(pool, paged.PagedPool)
    first = mover.submit(parts.moves(POOL, [1], PEER, [0]))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for call in (
        lambda: mover.submit(parts.moves(POOL, [2], PEER, [1])),
        lambda: mover.fence(POOL),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(pool, "run", interrupt)
            with pytest.raises(KeyboardInterrupt):
                call()
    pool.write([3], parts.pages(1))
    last = mover.submit(parts.moves(POOL, [3], PEER, [2]))
    parts.drain(mover, clock, [first, last])
    assert last.error is None
    np.testing.assert_array_equal(stores[PEER].snapshot([2]), parts.pages(1))
    mover.close()
    assert native.load().tickets_open() == 0


def test_ctrl_c_while_a_program_is_compiled_leaves_no_ticket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = parts.make_stores()
    mover = parts.one_sided(stores, clocks.MonotonicClock())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ffi, "_program", interrupt)
        with pytest.raises(KeyboardInterrupt):
            mover.submit(parts.moves(POOL, [1], PEER, [0]))
    assert native.load().tickets_open() == 0
    mover.close()


def _wait(pool: page_store.PageStore) -> jax.stages.Compiled:
    """A program on a pool that is over once a token is ready. Compiled before that is made."""
    assert isinstance(pool, paged.PagedPool)
    program = jax.jit(lambda array, token: (array, token + 1), donate_argnums=0)
    array = jax.ShapeDtypeStruct((pool.pages, *pool.page_shape), pool.dtype)
    return program.lower(array, jax.ShapeDtypeStruct((1,), np.int32)).compile()
