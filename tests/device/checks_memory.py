"""Memory of the library: zeroed, given back, and errors that say what there is."""

from __future__ import annotations

import functools
import gc
import time

import numpy as np

from aqua_jax.control import errors
from aqua_jax.memory import native_library
from tests.device import place as places
from tests.device.place import DEVICE, HOST, POOL, SHARED

Kind = native_library.MemoryKind
TOO_MANY_BYTES = 16 << 40  # more than any machine has


def check_memory_begins_as_zeros_and_goes_back(place: places.Place) -> None:
    for space in (DEVICE, HOST):
        _allocate_twice(place, space)


def check_shared_memory_begins_as_zeros_and_goes_back(place: places.Place) -> None:
    _allocate_twice(place, SHARED)


def _allocate_twice(place: places.Place, space: int) -> None:
    """What comes second may be the first one's memory, scrubbed."""
    before = place.library.memory_live_bytes()
    for _ in range(2):
        arena = place.arena(space, 8, places.PAGE_SHAPE, np.float32)
        assert not np.any(arena.snapshot(range(8)))
        arena.write([0, 7], np.ones((2, *places.PAGE_SHAPE), np.float32))
        assert np.all(arena.snapshot([0, 7]) == 1)
        arena.close()
    assert place.library.memory_live_bytes() == before


def check_memory_outlives_its_copies(place: places.Place) -> None:
    """An arena closed with a copy under way goes when that is complete."""
    before = place.library.memory_live_bytes()
    with place.scene(64, spaces=(HOST,)) as scene:
        scene.fill(POOL, seed=1)
        ticket = scene.submit(POOL, range(1, 64), HOST, range(1, 64))
        scene.stores[HOST].close()
        (completion,) = places.drain(scene.mover, scene.clock, [ticket])
        # The array may reach the ticket before the arena retires, or after.
        assert completion.error is None or "retired" in str(completion.error)
    until = time.monotonic() + places.WAIT_SECONDS
    while place.library.memory_live_bytes() != before and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    assert place.library.memory_live_bytes() == before


def check_too_much_is_refused(place: places.Place) -> None:
    """Of the CUDA library alone: a plain mapping is refused by nobody until it is written."""
    if place.platform == "CUDA":
        for kind in (Kind.DEVICE, Kind.HOST, Kind.SHARED):
            allocate = functools.partial(place.library.memory_allocate, kind, device=0)
            error = places.refusal(errors.NativeError, functools.partial(allocate, TOO_MANY_BYTES))
            assert "EXHAUSTED" in error, error
    # What was refused has left nothing behind.
    for kind in (Kind.DEVICE, Kind.HOST):
        place.library.memory_free(place.library.memory_allocate(kind, 1 << 20, device=0))


def check_what_is_not_there_is_refused(place: places.Place) -> None:
    library = place.library
    error = places.refusal(errors.NativeError, lambda: library.memory_allocate(Kind.HOST, 0))
    assert "0 bytes" in error
    error = places.refusal(errors.NativeError, lambda: library.memory_free(1 << 40))
    assert "STALE" in error
    error = places.refusal(
        errors.NativeError,
        lambda: library.store_register("far", [4096], devices=[99], pages=1, page_bytes=16),
    )
    assert "99" in error


def check_only_shared_kinds_are_exported(place: places.Place) -> None:
    arena = place.arena(HOST, 4, places.PAGE_SHAPE, np.float32)
    error = places.refusal(errors.NativeError, arena.export)
    assert "SHARED" in error or "shared" in error
    arena.close()


CHECKS = (
    check_memory_begins_as_zeros_and_goes_back,
    check_shared_memory_begins_as_zeros_and_goes_back,
    check_memory_outlives_its_copies,
    check_too_much_is_refused,
    check_what_is_not_there_is_refused,
    check_only_shared_kinds_are_exported,
)
