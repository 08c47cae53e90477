"""Small pools and arenas in every layout, and movers over them, for the tests of this folder.

Tests of native code are marked `needs_native`: they are skipped where no
compiler is. Where there is one, a library that is not built is a failure.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets, types
from aqua_jax.memory import arenas, native, native_arenas, page_store, paged
from aqua_jax.memory.movers import (
    base,
    faults,
    ffi,
    limited,
    links,
    logged,
    reference,
    verified,
    xla,
)

POOL, PEER, HOST = 1, 2, 3  # spaces
PAGE_SHAPE = (2, 2, 4, 4, 8)  # [layers, 2, page_tokens, kv_heads, head_dim]
PAGE_BYTES = 4 * 2 * 2 * 4 * 4 * 8
TIERS = {POOL: "device", PEER: "peer", HOST: "host"}
WAIT_SECONDS = 20.0

Stores = dict[int, page_store.PageStore]
Make = Callable[[Stores, clocks.Clock], base.PageMover]

_COMPILERS = ("c++", "g++", "clang++")
NO_COMPILER = "" if any(map(shutil.which, _COMPILERS)) else native.missing_reason()
needs_native = pytest.mark.skipif(bool(NO_COMPILER), reason=NO_COMPILER)


def on(*devices: int) -> jax.sharding.Sharding:
    """The sharding of pages on these CPU devices: by kv_heads where there are several."""
    chosen = [jax.devices()[index] for index in devices]
    if len(chosen) == 1:
        return jax.sharding.SingleDeviceSharding(chosen[0])
    mesh = jax.sharding.Mesh(np.array(chosen), ("tensor",))
    spec = jax.sharding.PartitionSpec(None, None, None, None, "tensor")
    return jax.sharding.NamedSharding(mesh, spec)


# Layout -> devices of the pool, of the peer arena, of the host arena.
LAYOUTS = {
    "single": ((0,), (1,), (0,)),
    "mesh 2 to mesh 2": ((0, 1), (2, 3), (0, 1)),
    "mesh 2 to single": ((0, 1), (3,), (0, 1)),
    "mesh 4": ((0, 1, 2, 3), (1,), (0, 1, 2, 3)),
}


# Layout -> devices of the pool; both arenas lie in native memory.
NATIVE_LAYOUTS = {
    "single, native arenas": (0,),
    "mesh 2, native arenas": (0, 1),
    "mesh 4, native arenas": (0, 1, 2, 3),
}


def make_stores(layout: str = "single", *, pages: int = 13, slots: int = 9) -> Stores:
    """A pool, a peer arena and a host arena."""
    if layout in NATIVE_LAYOUTS:
        sharding = on(*NATIVE_LAYOUTS[layout])
        return {
            POOL: paged.PagedPool(POOL, pages, PAGE_SHAPE, jnp.float32, sharding=sharding),
            PEER: native_arena(PEER, slots, sharding, kind="device"),
            HOST: native_arena(HOST, slots, sharding, kind="host"),
        }
    pool, peer, host = (on(*devices) for devices in LAYOUTS[layout])
    return {
        POOL: paged.PagedPool(POOL, pages, PAGE_SHAPE, jnp.float32, sharding=pool),
        PEER: arenas.DeviceArena(PEER, slots, PAGE_SHAPE, jnp.float32, sharding=peer),
        HOST: arenas.HostArena(HOST, slots, PAGE_SHAPE, jnp.float32, sharding=host),
    }


def native_arena(
    space: int,
    slots: int,
    pool_sharding: jax.sharding.Sharding,
    *,
    kind: native_arenas.Kind = "host",
) -> native_arenas.NativeArena:
    """An arena of the library for this machine's CPU devices."""
    return native_arenas.NativeArena(
        space,
        slots,
        PAGE_SHAPE,
        jnp.float32,
        pool_sharding=pool_sharding,
        kind=kind,
        library=native.load(),
    )


def pages(count: int, seed: int = 0) -> np.ndarray:
    """Random pages `[count, *PAGE_SHAPE]`."""
    return np.random.default_rng(seed).standard_normal((count, *PAGE_SHAPE)).astype(np.float32)


def moves(
    source: int, sources: Sequence[int], target: int, targets: Sequence[int]
) -> list[types.Move]:
    """Moves of whole pages from indices of one space to indices of another."""
    pairs = zip(sources, targets, strict=True)
    return [types.Move(types.Place(source, s), types.Place(target, t), 4) for s, t in pairs]


def failing_token(sharding: jax.sharding.Sharding | None = None) -> jax.Array:
    """An array that is not ready yet, and will fail: native code does not know its pool."""
    native.load()

    def reach(array: jax.Array, ticket: jax.Array) -> tuple[jax.Array, jax.Array]:
        like = jax.ShapeDtypeStruct(array.shape, array.dtype)
        call = jax.ffi.ffi_call("aqua_page_out", like, input_output_aliases={0: 0})
        return call(array, ticket), -ticket

    operands = jnp.zeros(64), jax.ShapeDtypeStruct((1,), np.int32)
    # Compiled first: the token is not to be ready before it is used.
    program = jax.jit(reach, donate_argnums=0).lower(*operands).compile()
    _, token = program(operands[0], slow_token())
    return token if sharding is None else jax.device_put(token, sharding)


def slow_token() -> jax.Array:
    """`int32[1]`, zero, ready in some tens of milliseconds."""
    return _work(jnp.full((256, 256), np.float32(0.01)))


@jax.jit
def _work(x: jax.Array) -> jax.Array:
    busy = jax.lax.fori_loop(0, 300, lambda _, y: jnp.tanh(y @ x), x)
    return (busy[0, :1] * np.float32(0)).astype(np.int32)


def drain(
    mover: base.PageMover, clock: clocks.Clock, pending: Sequence[tickets.Ticket]
) -> list[types.Completion]:
    """Polls and waits, as the engine does, until `pending` are done; their completions."""
    until = clock.now() + WAIT_SECONDS
    completions = mover.poll()
    seen = {completion.ticket for completion in completions}
    while not seen.issuperset(ticket.id for ticket in pending):
        assert clock.now() < until, f"no completion for {pending}, got {completions}"
        clock.wait([ticket for ticket in pending if ticket.id not in seen], until)
        new = mover.poll()
        completions += new
        seen.update(completion.ticket for completion in new)
    return completions


def one_sided(stores: Stores, clock: clocks.Clock) -> ffi.FfiMover:
    """Native copies by one thread."""
    return ffi.FfiMover(stores, clock, library=native.load())


def linked(inner: base.PageMover, clock: clocks.Clock) -> links.LinkedMover:
    """Links between every pair of spaces, fast enough for tests."""
    link = links.Link(latency_seconds=1e-4, bytes_per_second=1e9)
    pairs = {(a, b): link for a in TIERS for b in TIERS}
    return links.LinkedMover(inner, clock, links=pairs, tiers=TIERS)


def bounded(inner: base.PageMover, clock: clocks.Clock) -> limited.LimitedMover:
    """Limits that no test of the conformance suite reaches, so that order is that of submission."""
    return limited.LimitedMover(inner, clock, bytes_max=1 << 30, tickets_max=1000)


def traced(inner: base.PageMover, clock: clocks.Clock) -> logged.LoggedMover:
    """Spans to nowhere."""
    return logged.LoggedMover(inner, clock, tiers=TIERS, on_span=lambda *span: None)


def whole(plain: base.PageMover, stores: Stores, clock: clocks.Clock) -> base.PageMover:
    """Every decorator, in the order of a run under emulation."""
    checked = verified.VerifiedMover(
        faults.FaultyMover(plain, clock, faults.Faults()), clock, stores
    )
    return bounded(traced(linked(checked, clock), clock), clock)


MOVERS: dict[str, Make] = {
    "reference": reference.ReferenceMover,
    "xla": xla.XlaMover,
    "linked": lambda stores, clock: linked(xla.XlaMover(stores, clock), clock),
    "limited": lambda stores, clock: bounded(xla.XlaMover(stores, clock), clock),
    "logged": lambda stores, clock: traced(xla.XlaMover(stores, clock), clock),
    "faulty": lambda stores, clock: faults.FaultyMover(
        xla.XlaMover(stores, clock), clock, faults.Faults()
    ),
    "verified": lambda stores, clock: verified.VerifiedMover(
        xla.XlaMover(stores, clock), clock, stores
    ),
    "whole": lambda stores, clock: whole(xla.XlaMover(stores, clock), stores, clock),
}
NATIVE_MOVERS: dict[str, Make] = {
    "ffi": one_sided,
    "ffi, verified": lambda stores, clock: verified.VerifiedMover(
        one_sided(stores, clock), clock, stores
    ),
    "ffi, whole": lambda stores, clock: whole(one_sided(stores, clock), stores, clock),
}
