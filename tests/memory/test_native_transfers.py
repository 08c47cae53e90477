"""The shared transfer threads: completions find their movers, nothing waits for ever."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.memory import native, native_abi, native_arenas, native_transfers
from tests.memory import parts

pytestmark = parts.needs_native


@pytest.fixture
def arena() -> Iterator[native_arenas.NativeArena]:
    made = parts.native_arena(5, 8, parts.on(0))
    yield made
    made.close()


@pytest.fixture
def transfers() -> Iterator[native_transfers.Transfers]:
    shared = native_transfers.share(native.load(), threads=1)
    yield shared
    shared.release()


def _copy(
    transfers: native_transfers.Transfers, arena: native_arenas.NativeArena
) -> list[native_abi.Completion]:
    """One slot to another; its completion once it was delivered."""
    delivered: list[native_abi.Completion] = []
    ticket = transfers.submit(
        lambda: native.load().copy_open(arena.handle, arena.handle, sources=[0], targets=[1]),
        delivered.append,
    )
    assert transfers.settle([ticket], 10) == []
    return delivered


def test_a_completion_goes_to_whoever_submitted(
    transfers: native_transfers.Transfers, arena: native_arenas.NativeArena
) -> None:
    other = native_transfers.share(native.load(), threads=1)
    assert other is transfers
    arena.write([0], parts.pages(1))
    for user in (transfers, other):
        (completion,) = _copy(user, arena)
        assert (completion.bytes, completion.error) == (parts.PAGE_BYTES, None)
    other.release()
    assert len(_copy(transfers, arena)) == 1  # one user left: still open


def test_the_last_user_closes_and_the_next_starts_again(arena: native_arenas.NativeArena) -> None:
    for threads in (1, 2):
        transfers = native_transfers.share(native.load(), threads=threads)
        assert len(_copy(transfers, arena)) == 1
        transfers.release()
        assert native.load().tickets_open() == 0
        assert not [t for t in threading.enumerate() if t.name == "native copies"]
    with pytest.raises(errors.NativeError):
        native.load().copy_open(arena.handle, arena.handle, sources=[0], targets=[1])


def test_other_threads_are_refused_while_these_run(transfers: native_transfers.Transfers) -> None:
    with pytest.raises(errors.ConfigError, match=r"asked for 2 transfer threads .* 1 run on \(\)"):
        native_transfers.share(native.load(), threads=2)


def test_a_ticket_whose_array_is_lost_fails(
    transfers: native_transfers.Transfers, arena: native_arenas.NativeArena
) -> None:
    """The program that should reach it never runs; only the token says so."""
    library = native.load()
    pool = jax.block_until_ready(jnp.zeros((9, *parts.PAGE_SHAPE), jnp.float32))
    handle = library.store_register(
        "test pool",
        [pool.unsafe_buffer_pointer()],
        devices=[-1],
        pages=9,
        page_bytes=parts.PAGE_BYTES,
    )
    delivered: list[native_abi.Completion] = []
    ticket = transfers.submit(
        lambda: library.copy_open(handle, arena.handle, sources=[1], targets=[1], pool=handle),
        delivered.append,
    )

    transfers.watch(ticket, parts.failing_token())
    assert transfers.settle([ticket], 10) == []
    assert "its pool was lost" in str(delivered[0].error)
    transfers.abandon(ticket, "once more")  # complete: nothing to abandon
    library.store_retire(handle, "test over")


def test_a_ticket_that_was_reached_is_not_abandoned(
    transfers: native_transfers.Transfers, arena: native_arenas.NativeArena
) -> None:
    """Its array may be lost while its copy is under way: the copy ends as it ends."""
    with _under_way(transfers) as ticket:
        transfers.abandon(ticket, "its pool is lost")
        transfers.watch(ticket, parts.failing_token())
        assert transfers.settle([ticket], 0.5) == [ticket]  # more than a turn of the thread
    assert transfers.settle([ticket], 10) == []
    assert len(_copy(transfers, arena)) == 1


def test_a_deliverer_that_raises_costs_the_others_nothing(
    transfers: native_transfers.Transfers,
    arena: native_arenas.NativeArena,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def deliver(completion: native_abi.Completion) -> None:
        raise RuntimeError(f"on purpose, {completion.bytes} bytes")

    ticket = transfers.submit(
        lambda: native.load().copy_open(arena.handle, arena.handle, sources=[0], targets=[1]),
        deliver,
    )
    assert transfers.settle([ticket], 10) == []
    assert f"on purpose, {parts.PAGE_BYTES} bytes" in caplog.text
    assert len(_copy(transfers, arena)) == 1


def test_a_ticket_that_cannot_be_abandoned_costs_the_others_nothing(
    transfers: native_transfers.Transfers,
    arena: native_arenas.NativeArena,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(ticket: int, why: str) -> None:
        raise errors.NativeError("INTERNAL: on purpose", code=native_abi.Code.INTERNAL)

    with _under_way(transfers) as ticket, monkeypatch.context() as patch:
        patch.setattr(native.load(), "ticket_abandon", refuse)
        transfers.watch(ticket, parts.failing_token())
        assert transfers.settle([ticket], 0.5) == [ticket]
        assert "INTERNAL: on purpose" in caplog.text
        assert len(_copy(transfers, arena)) == 1
    assert transfers.settle([ticket], 10) == []


@contextlib.contextmanager
def _under_way(transfers: native_transfers.Transfers) -> Iterator[int]:
    """A ticket that waits for no pool, and is not complete before the block is left.

    It copies to the page of another, which waits for a pool that never gets there.
    """
    library, memory = native.load(), np.zeros(2, np.uint8)
    store = library.store_register(
        "gate", [memory.ctypes.data], devices=[-1], pages=2, page_bytes=1
    )
    never = library.copy_open(store, store, sources=[0], targets=[1], pool=store)
    ticket = transfers.submit(
        lambda: library.copy_open(store, store, sources=[0], targets=[1]), lambda _: None
    )
    try:
        yield ticket
    finally:
        library.ticket_abandon(never, "test over")
        library.store_retire(store, "test over")
