"""Where the checks of this folder run: a platform, its library, a pool and arenas beside it.

Knows: how to make stores and movers, and to wait for them. Needs no pytest, so that a bare
machine with a GPU can run what uses it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.control import clock as clocks
from aqua_jax.control import types
from aqua_jax.memory import native, native_arenas, page_store, paged
from aqua_jax.memory.movers import base, ffi

POOL, DEVICE, HOST, SHARED = 1, 2, 3, 4  # spaces
KINDS: dict[int, native_arenas.Kind] = {DEVICE: "device", HOST: "host", SHARED: "shared"}
PAGE_SHAPE = (2, 2, 16, 2, 32)  # [layers, 2, page_tokens, kv_heads, head_dim]
WAIT_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Place:
    """A platform of the native library. tiny: the smallest sizes that show anything."""

    platform: str  # "cpu" or "CUDA"
    tiny: bool

    @functools.cached_property
    def library(self) -> native.Library:
        return native.load(self.platform)

    @functools.cached_property
    def device(self) -> Any:
        return jax.devices()[0]

    @property
    def sharding(self) -> jax.sharding.Sharding:
        return jax.sharding.SingleDeviceSharding(self.device)

    def pool(self, pages: int, page_shape: tuple[int, ...], dtype: Any) -> paged.PagedPool:
        return paged.PagedPool(POOL, pages, page_shape, dtype, sharding=self.sharding)

    def arena(
        self, space: int, slots: int, page_shape: tuple[int, ...], dtype: Any
    ) -> native_arenas.NativeArena:
        """Memory of the library, of the kind that the space stands for."""
        return native_arenas.NativeArena(
            space,
            slots,
            page_shape,
            dtype,
            pool_sharding=self.sharding,
            library=self.library,
            kind=KINDS[space],
            device=self.device.local_hardware_id or 0,
        )

    @contextlib.contextmanager
    def scene(
        self,
        pages: int = 24,
        page_shape: tuple[int, ...] = PAGE_SHAPE,
        dtype: Any = jnp.float32,
        *,
        spaces: Sequence[int] = (DEVICE, HOST),
    ) -> Iterator[Scene]:
        """A pool, an arena of as many slots in each of `spaces`, and the ffi mover over them."""
        stores: dict[int, Any] = {POOL: self.pool(pages, page_shape, dtype)}
        mover = None
        try:
            for space in spaces:
                stores[space] = self.arena(space, pages, page_shape, dtype)
            clock = clocks.MonotonicClock()
            mover = ffi.FfiMover(stores, clock, library=self.library)
            mover.warm_up()
            yield Scene(self, stores, mover, clock)
        finally:
            if mover is not None:
                mover.close()
            for store in stores.values():
                store.close()


@dataclasses.dataclass
class Scene:
    """Stores by space and a mover over them, at rest when the checks get it."""

    place: Place
    stores: dict[int, Any]  # page_store.PageStore
    mover: ffi.FfiMover
    clock: clocks.Clock

    @property
    def pool(self) -> paged.PagedPool:
        return self.stores[POOL]

    def submit(
        self, source: int, sources: Sequence[int], target: int, targets: Sequence[int]
    ) -> Any:
        return self.mover.submit(moves(source, sources, target, targets))

    def copy(
        self, source: int, sources: Sequence[int], target: int, targets: Sequence[int]
    ) -> float:
        """Copies and waits; the seconds from submission to completion."""
        ticket = self.submit(source, sources, target, targets)
        (completion,) = drain(self.mover, self.clock, [ticket])
        if completion.error is not None:
            raise completion.error
        return completion.seconds

    def fill(self, space: int, seed: int) -> np.ndarray:
        """Random numbers in every page of a store; what they are, by index."""
        store: page_store.PageStore = self.stores[space]
        shape = (store.indices.stop, *store.page_shape)
        values = np.random.default_rng(seed).standard_normal(shape).astype(store.dtype)
        store.write(list(store.indices), values[store.indices.start :])
        return values


def moves(
    source: int, sources: Sequence[int], target: int, targets: Sequence[int]
) -> list[types.Move]:
    """Moves of whole pages."""
    pairs = zip(sources, targets, strict=True)
    return [types.Move(types.Place(source, s), types.Place(target, t), 1) for s, t in pairs]


def drain(
    mover: base.PageMover, clock: clocks.Clock, pending: Sequence[Any]
) -> list[types.Completion]:
    """Waits until all of `pending` are complete; their completions, in order of completion."""
    until = clock.now() + WAIT_SECONDS
    expected = {ticket.id for ticket in pending}
    found: list[types.Completion] = []
    while len(found) < len(expected):
        found += [done for done in mover.poll() if done.ticket in expected]
        missing = expected - {done.ticket for done in found}
        if missing and clock.now() > until:
            raise TimeoutError(f"tickets {sorted(missing)} are not complete in {WAIT_SECONDS} s")
        left = [ticket for ticket in pending if ticket.id in missing]
        if left:
            clock.wait(left, min(until, clock.now() + 1.0))
    return found


def refusal(kind: type[Exception], body: Callable[[], Any]) -> str:
    """The text of the error of this kind that `body` raises."""
    try:
        given = body()
    except kind as error:
        return str(error)
    raise AssertionError(f"expected a {kind.__name__}, got {given}")
