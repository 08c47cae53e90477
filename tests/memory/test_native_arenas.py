"""Arenas in native memory beyond the suite of stores: layout, leaks, other processes."""

from __future__ import annotations

import ctypes
import os
import pathlib
import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.memory import native, native_arenas, native_library
from tests.memory import parts

pytestmark = parts.needs_native
ROOT = pathlib.Path(__file__).resolve().parents[2]


def _arena(sharding: jax.sharding.Sharding, **settings: object) -> native_arenas.NativeArena:
    return native_arenas.NativeArena(
        5,
        4,
        parts.PAGE_SHAPE,
        jnp.float32,
        pool_sharding=sharding,
        library=native.load(),
        **settings,
    )


def test_memory_goes_back_when_it_is_closed() -> None:
    library = native.load()
    before = library.memory_live_bytes()
    arena = _arena(parts.on(0, 1))
    assert arena.nbytes >= 4 * arena.page_bytes
    assert library.memory_live_bytes() - before >= arena.nbytes
    arena.close()
    assert library.memory_live_bytes() == before


@pytest.mark.parametrize("kind", native_library.MemoryKind)
def test_memory_is_all_there_before_the_first_copy(kind: native_library.MemoryKind) -> None:
    """None of it waits for a first use, which would be a copy that pays or finds no memory."""
    library, nbytes = native.load(), 8 << 20
    memory = library.memory_allocate(kind, nbytes)
    present = (ctypes.c_ubyte * (nbytes // os.sysconf("SC_PAGESIZE")))()
    address = ctypes.c_void_p(library.memory_address(memory))
    asked = ctypes.CDLL(None, use_errno=True).mincore(address, ctypes.c_size_t(nbytes), present)
    library.memory_free(memory)
    assert asked == 0, os.strerror(ctypes.get_errno())
    assert all(page & 1 for page in present)


@pytest.mark.parametrize("kind", native_library.MemoryKind)
def test_more_than_the_machine_has_is_refused_untouched(kind: native_library.MemoryKind) -> None:
    library = native.load()
    before = library.memory_live_bytes()
    with pytest.raises(errors.NativeError, match=r"EXHAUSTED: .* machine has") as raised:
        library.memory_allocate(kind, 1 << 46)  # fits the addresses, but no machine
    assert raised.value.code == native_library.Code.EXHAUSTED
    assert library.memory_live_bytes() == before


def test_a_rebuild_clears_all_parts_of_all_slots_in_one_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arena = _arena(parts.on(0, 1))
    arena.write(range(4), parts.pages(4))
    assert arena.snapshot([3]).all()
    with monkeypatch.context() as patched:
        patched.delattr(native_library.Library, "store_write")  # page by page
        arena.rebuild()
    assert not arena.snapshot(range(4)).any()
    arena.close()
    with pytest.raises(errors.InternalError, match="host arena 5 was closed"):
        arena.rebuild()


def test_neighbouring_slots_are_neighbours_in_every_part() -> None:
    """`[parts][slots][part bytes]`, read through the library."""
    library, arena = native.load(), _arena(parts.on(0, 1))
    values = parts.pages(4)
    arena.write(range(4), values)
    for part, heads in enumerate((values[:, :, :, :, :2], values[:, :, :, :, 2:])):
        for slot in range(4):
            data = library.store_read(arena.handle, part=part, page=slot)
            assert bytes(data) == heads[slot].tobytes()
        # What `addresses` says it is: slot after slot.
        assert ctypes.string_at(arena.addresses[part], heads.nbytes) == heads.tobytes()
    arena.close()


def test_replicated_parts_hold_their_own_copy() -> None:
    """Two groups of heads over four devices: a page takes twice its bytes."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("tensor", "copy"))
    spec = jax.sharding.PartitionSpec(None, None, None, None, "tensor")
    library, arena = native.load(), _arena(jax.sharding.NamedSharding(mesh, spec))
    assert arena.page_bytes == 2 * parts.PAGE_BYTES
    values = parts.pages(1)
    arena.write([2], values)
    np.testing.assert_array_equal(arena.snapshot([2]), values)
    copies = [library.store_read(arena.handle, part=part, page=2) for part in range(4)]
    assert copies[0] == copies[1] != copies[2] == copies[3]
    arena.close()


def test_arenas_that_cannot_be() -> None:
    with pytest.raises(errors.ConfigError, match=r"kind 'hots' \(did you mean 'host'\?\)"):
        _arena(parts.on(0), kind="hots")
    before = native.load().memory_live_bytes()
    with pytest.raises(errors.NativeError, match=r"INVALID|UNAVAILABLE"):
        _arena(parts.on(0), kind="shared", descriptor=0)
    ordinary = _arena(parts.on(0))
    with pytest.raises(errors.NativeError, match=r"INVALID|UNAVAILABLE"):
        ordinary.export()  # nobody else's
    ordinary.close()
    with pytest.raises(errors.InternalError, match="host arena 5 was closed"):
        ordinary.export()
    assert native.load().memory_live_bytes() == before


def test_memory_of_another_size_is_not_mapped() -> None:
    lent = _arena(parts.on(0), kind="shared")
    descriptor = lent.export()
    with pytest.raises(errors.NativeError, match="bytes"):
        native_arenas.NativeArena(
            6,
            5,
            parts.PAGE_SHAPE,
            jnp.float32,
            pool_sharding=parts.on(0),
            library=native.load(),
            kind="shared",
            descriptor=descriptor,
        )
    os.close(descriptor)
    lent.close()


BORROWER = """
    import os, socket, sys
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
    import numpy as np
    from aqua_jax.memory import native, native_arenas
    from tests.memory import parts

    door = socket.socket(fileno=int(sys.argv[1]))
    _, (descriptor,), _, _ = socket.recv_fds(door, 1, 1)
    arena = native_arenas.NativeArena(
        9, 4, parts.PAGE_SHAPE, np.float32, pool_sharding=parts.on(0, 1),
        kind="shared", library=native.load(), descriptor=descriptor,
    )
    os.close(descriptor)
    assert (arena.snapshot([1]) == parts.pages(1)).all()
    arena.write([3], parts.pages(1, seed=7))
    door.sendall(b"+")
    assert door.recv(1) == b"+"
    assert (arena.snapshot([0]) == parts.pages(1, seed=8)).all()
    arena.close()
"""


def test_another_process_reads_and_writes_the_slots() -> None:
    lent = _arena(parts.on(0, 1), kind="shared")
    lent.write([1], parts.pages(1))
    door, other = socket.socketpair()
    door.settimeout(60)
    borrower = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BORROWER), str(other.fileno())],
        cwd=ROOT,
        pass_fds=[other.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )
    other.close()
    try:
        descriptor = lent.export()
        socket.send_fds(door, [b"."], [descriptor])
        os.close(descriptor)
        answer = door.recv(1)
        np.testing.assert_array_equal(lent.snapshot([3]), parts.pages(1, seed=7))
        lent.write([0], parts.pages(1, seed=8))
        door.sendall(b"+")
        _, complaint = borrower.communicate(timeout=60)
    finally:
        borrower.kill()
        borrower.wait()
        door.close()
    assert (answer, borrower.returncode) == (b"+", 0), complaint
    # An import is unmapped when it is closed, not scrubbed: the memory is its owner's.
    np.testing.assert_array_equal(lent.snapshot([3]), parts.pages(1, seed=7))
    lent.close()
