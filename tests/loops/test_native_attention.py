"""Native attention: what it alone can do, how its work divides, and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.loops import attention, native_attention
from aqua_jax.memory import native
from tests.loops import attention_scene as scenes
from tests.loops import harness
from tests.memory import parts

pytestmark = parts.needs_native

LONG = 4000
# What jax raises for a handler's error: the one when it is seen at once, the other when it is not.
REFUSED = (ValueError, jax.errors.JaxRuntimeError)


@pytest.fixture(autouse=True)
def library() -> native.Library:
    return native.load()


@pytest.mark.parametrize("mode", ["decode", "prefill"])
def test_a_row_alone_is_split_over_threads_without_a_change_of_a_bit(mode):
    """Alone its segments are items of their own; among 15 like it a row is one item."""
    shape = scenes.Shape(kv_heads=1, group=2, head_dim=32)
    given = scenes.scene(range(LONG, LONG + 16), shape, one_session=True)
    rows = attention.Rows(jnp.zeros(1, jnp.int32), given.positions[:1], given.tables[:1])
    step = getattr(native_attention.NativeAttention(), mode)
    layer = attention.Layer(jnp.int32(scenes.LAYER))
    alone = step(jnp.array(given.written), layer, rows, *_one(given))[1]
    among, _ = scenes.attend("native", given, mode=mode, pool=given.written)
    np.testing.assert_array_equal(scenes.bits(np.asarray(alone[0])), scenes.bits(among[0]))


def test_many_calls_at_once_get_the_same_bits():
    """Calls of two devices share the threads that they run on."""
    given = scenes.scene([3, 600, 40, 900, 77])
    expected, _ = scenes.attend("native", given)
    program = scenes.program("native", "decode")
    calls = []
    for turn in range(12):
        device = jax.devices()[turn % 2]
        operands = jax.device_put((given.pool, *given[1:-1]), device, may_alias=False)
        calls.append(program(*operands)[1])
    for attended in calls:
        np.testing.assert_array_equal(scenes.bits(np.asarray(attended)), scenes.bits(expected))


class Arenas:
    """A scene's pool, registered, and some of its pages in arenas instead."""

    def __init__(self, given: scenes.Scene, *, arena_pages: int = 6, shrink: int = 0) -> None:
        self.library = native.load()
        self.given = given
        self.pool = jnp.array(given.pool)
        page_bytes = given.pool[0].nbytes
        self.stores = [self._register("pool", self.pool.unsafe_buffer_pointer(), len(given.pool))]
        memory = np.zeros((2, arena_pages, *given.pool.shape[1:]), given.pool.dtype)
        self.memory = memory
        for part in memory:
            self.stores.append(
                self._register("arena", part.ctypes.data, arena_pages, page_bytes - shrink)
            )
        self.arenas = [
            native_attention.Arena.of(self.library, store, arena_pages) for store in self.stores[1:]
        ]

    def _register(self, label: str, base: int, pages: int, page_bytes: int = 0) -> int:
        page_bytes = page_bytes or self.given.pool[0].nbytes
        return self.library.store_register(
            label, [base], devices=[-1], pages=pages, page_bytes=page_bytes
        )

    def put_away(self, row: int, index: int, arena: int, page: int) -> None:
        """Moves a page of the row to an arena; NaN stays behind."""
        number = int(self.given.tables[row, index])
        self.memory[arena, page] = self.given.pool[number]
        self.pool = self.pool.at[number].set(jnp.nan)
        self.given.tables[row, index] = native_attention.arena_entry(self.arenas[arena], page)

    def register_pool(self) -> None:
        """Anew, after the array moved."""
        self.library.store_retire(self.stores[0], "moved")
        self.stores[0] = self._register(
            "pool", self.pool.unsafe_buffer_pointer(), len(self.given.pool)
        )

    def attend(self, mode: str = "decode") -> np.ndarray:
        given = self.given
        operands = [
            np.concatenate([f, np.zeros((scenes.ROWS - len(f), *f.shape[1:]), f.dtype)])
            for f in given[1:-1]
        ]
        _, attended = scenes.program("native", mode)(self.pool, *operands)
        return np.asarray(attended)[: len(given.positions)]

    def close(self) -> None:
        for store in self.stores:
            self.library.store_retire(store, "the test is over")


@pytest.fixture
def arenas(request) -> Iterator[Arenas]:
    made = Arenas(scenes.scene([100, 70, 35]), **getattr(request, "param", {}))
    yield made
    made.close()


@pytest.mark.parametrize("mode", ["decode", "prefill"])
def test_pages_in_arenas_are_attended_where_they_are(arenas, mode):
    expected, _ = scenes.attend("native", arenas.given, mode=mode)
    for row, index, arena, page in ((0, 0, 0, 3), (0, 4, 1, 5), (1, 1, 0, 0), (2, 0, 1, 2)):
        arenas.put_away(row, index, arena, page)
    arenas.register_pool()
    kept = arenas.memory.copy()
    np.testing.assert_array_equal(scenes.bits(arenas.attend(mode)), scenes.bits(expected))
    np.testing.assert_array_equal(arenas.memory, kept)


def _slot(arenas: Arenas) -> int:
    return arenas.arenas[0].store_slot << 24


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.given.tables.__setitem__((0, 1), ~(_slot(a) | 6)),
         r"row 0 has page 6 of the arena in store slot \d+ at 1: it has 0 to 5"),
        (lambda a: a.given.tables.__setitem__((0, 1), ~(127 << 24)),
         "store slot 127: no live store has it"),
        (lambda a: a.given.tables.__setitem__((0, 6), ~_slot(a)),
         "row 0 at position 100 would write to an arena"),
        (lambda a: a.library.store_retire(a.stores.pop(0), "gone"),
         "the pool at 0x[0-9a-f]+ is no registered store"),
    ],
)  # fmt: skip
def test_arenas_that_cannot_be_attended(arenas, spoil, message):
    arenas.put_away(0, 0, 0, 3)
    arenas.register_pool()
    spoil(arenas)
    with pytest.raises(REFUSED, match=message):
        arenas.attend()


@pytest.mark.parametrize("arenas", [{"shrink": 4}], indirect=True)
def test_an_arena_of_other_pages_is_refused(arenas):
    arenas.given.tables[0, 0] = ~_slot(arenas)
    with pytest.raises(REFUSED, match=r"arena \"arena\" has 1 parts of \d+-byte pages"):
        arenas.attend()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.array([128], np.int32)}, "row 0 at position 128: its table holds 0 to"),
        ({"positions": np.array([-1], np.int32)}, "row 0 at position -1"),
        ({"tables": np.full((1, 8), 4, np.int32)}, "row 0 has page 4 at 0: the pool has 0 to 3"),
        ({"queries": np.zeros((1, 2, 65, 32), np.float32)}, "65 query heads for a KV head"),
        ({"keys": np.zeros((1, 3, 32), np.float32)}, "operands of different sizes"),
        ({"keys": jnp.zeros((1, 2, 32), jnp.bfloat16)}, "all of float32 or all of bfloat16"),
    ],
)
def test_operands_that_cannot_be_are_an_error_not_a_crash(changes, message):
    given = scenes.scene([40])._replace(**changes)
    with pytest.raises(REFUSED, match=message):
        _step(given)


def test_a_layer_or_a_vector_that_is_not_there():
    given = scenes.scene([40])
    with pytest.raises(REFUSED, match="layer 2: expected 0 to 1"):
        _step(given, layer=2)
    with pytest.raises(REFUSED, match="a window of 8: expected 1 to window_most, 7"):
        _step(given, window=8, window_most=7)
    with pytest.raises(REFUSED, match="a window of 0: expected 1 to window_most, 7"):
        _step(given, window_most=7)
    with pytest.raises(REFUSED, match="softcap is -1: expected 0"):
        _step(given, softcap=-1.0)
    with pytest.raises(REFUSED, match="vectors of 5 floats for head_dim 32"):
        _step(given, lanes=5)
    with pytest.raises(REFUSED, match="head_dim is 12: expected a multiple of"):
        _step(scenes.scene([40], scenes.Shape(head_dim=12)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": jnp.float16}, "whose dtype is float16: expected float32 or bfloat16"),
        ({"head_dim": 20}, "whose head_dim is 20: expected a multiple of 8 up to 256"),
        ({"head_dim": 264}, "whose head_dim is 264: expected a multiple of 8 up to 256"),
        ({"group": 65}, "whose group is 65: expected at most 64"),
    ],
)
def test_models_that_it_cannot_compute_are_refused_on_the_host(changes, message):
    facts = dataclasses.replace(harness.model().facts, **changes)
    with pytest.raises(errors.ConfigError, match=message):
        native_attention.load(facts, platform="cpu")


def test_it_is_loaded_for_a_platform():
    facts = dataclasses.replace(harness.model().facts, windows=(5, 7), score_softcap=2.0)
    loaded = native_attention.load(facts, platform="cpu")
    assert (loaded.window_most, loaded.softcap) == (7, 2.0)
    with pytest.raises(errors.ConfigError, match="no native attention for 'tpu' devices"):
        native_attention.load(facts, platform="tpu")


def test_entries_name_pages_of_arenas():
    arena = native_attention.Arena(store_slot=127, pages=8, store=1)
    assert native_attention.arena_entry(arena, 7) == -(127 << 24) - 7 - 1
    for wrong in (arena._replace(store_slot=128), arena._replace(pages=7)):
        with pytest.raises(errors.InternalError, match="page 7 of Arena"):
            native_attention.arena_entry(wrong, 7)


def test_slots_are_looked_up_by_handles_that_nobody_gets_again():
    put = Arenas(scenes.scene([40]))
    pool = [put.pool.unsafe_buffer_pointer()]
    native_attention.check_registered(put.arenas, pool, platform="cpu")
    with pytest.raises(errors.InternalError, match="STALE: no part of a live store begins at"):
        native_attention.check_registered(put.arenas, [64], platform="cpu")
    elsewhere = put.arenas[0]._replace(store_slot=put.arenas[1].store_slot)
    with pytest.raises(errors.InternalError, match="in other store slots than that"):
        native_attention.check_registered([elsewhere], pool, platform="cpu")
    put.library.store_retire(put.stores.pop(1), "gone")
    taken = put._register("another", put.memory[0].ctypes.data, 6)
    put.stores.append(taken)
    assert put.library.store_slot(taken) == put.arenas[0].store_slot
    native_attention.check_registered(put.arenas[1:], pool, platform="cpu")
    with pytest.raises(errors.InternalError, match=f"STALE: store {put.arenas[0].store} has ret"):
        native_attention.check_registered(put.arenas, pool, platform="cpu")
    put.close()


def _one(given: scenes.Scene) -> list[np.ndarray]:
    return [given.queries[:1], given.keys[:1], given.values[:1]]


def _step(given: scenes.Scene, *, layer: int = 0, window: int = 0, **settings: Any) -> None:
    rows = attention.Rows(jnp.zeros(1, jnp.int32), given.positions, given.tables)
    step = native_attention.NativeAttention(**settings).decode
    which = attention.Layer(jnp.int32(layer), jnp.int32(window))
    vectors = (given.queries, given.keys, given.values)
    jax.block_until_ready(step(jnp.array(given.pool), which, rows, *vectors))
