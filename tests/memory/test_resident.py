"""A resident array stays where it is, and says so when it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from aqua_jax.control import errors
from aqua_jax.memory import resident
from tests.memory import parts

SHAPE = (5, *parts.PAGE_SHAPE)


def _add_one(array: jax.Array) -> tuple[jax.Array, jax.Array]:
    return array + np.float32(1), array[0, 0, 0, 0, 0, :1]


ADD_ONE = jax.jit(_add_one, donate_argnums=0)
ADD_ONE_COPYING = jax.jit(_add_one)
FIRST_PAGE = jax.jit(lambda array: array[0])


@pytest.fixture(params=["one device", "mesh", "pinned host"])
def array(request: pytest.FixtureRequest) -> Iterator[resident.ResidentArray]:
    sharding = {
        "one device": parts.on(1),
        "mesh": parts.on(0, 1),
        "pinned host": parts.on(0).with_memory_kind("pinned_host"),
    }[request.param]
    made = resident.ResidentArray("pool 7", SHAPE, dtype=jnp.float32, sharding=sharding)
    yield made
    made.close()


@pytest.fixture
def plain() -> resident.ResidentArray:
    return resident.ResidentArray("pool 7", SHAPE, dtype=jnp.float32, sharding=parts.on(0))


def test_updates_in_place(array: resident.ResidentArray) -> None:
    in_place = jax.jit(
        lambda a: (lax.dynamic_update_slice_in_dim(a, a[:1], 1, 0),),
        donate_argnums=0,
        out_shardings=(array.sharding,),
    )
    addresses = array.addresses
    assert len(addresses) == len(array.sharding.device_set)
    for _ in range(3):
        assert array.run(in_place) == ()
    assert array.addresses == addresses


def test_run_returns_the_rest(plain: resident.ResidentArray) -> None:
    (head,) = plain.run(ADD_ONE)
    assert head.shape == (1,)
    np.testing.assert_array_equal(plain.read(FIRST_PAGE), np.ones(parts.PAGE_SHAPE, np.float32))


def test_a_pending_read_does_not_move_it(plain: resident.ResidentArray) -> None:
    """A read that is still running when a donated program is enqueued sees the old contents."""

    def slow_first_page(array: jax.Array, square: jax.Array) -> jax.Array:
        busy = lax.fori_loop(0, 200, lambda _, x: jnp.tanh(x @ square), square)
        return array[0] + busy[0, 0] * np.float32(0)

    slow = jax.jit(slow_first_page)
    square = jax.device_put(np.full((256, 256), 0.01, np.float32), parts.on(0))
    plain.read(slow, square).block_until_ready()
    pending = plain.read(slow, square)
    plain.run(ADD_ONE)  # raises PoolLostError if XLA had to copy
    np.testing.assert_array_equal(pending, np.zeros(parts.PAGE_SHAPE, np.float32))
    np.testing.assert_array_equal(plain.read(FIRST_PAGE), np.ones(parts.PAGE_SHAPE, np.float32))


@pytest.mark.parametrize("devices", [(0,), (0, 1)])
def test_a_program_that_does_not_donate(devices: tuple[int, ...]) -> None:
    array = resident.ResidentArray("pool 7", SHAPE, dtype=jnp.float32, sharding=parts.on(*devices))
    with pytest.raises(errors.InternalError, match=r"_add_one did not donate pool 7.*donate_arg"):
        array.run(ADD_ONE_COPYING)
    array.run(ADD_ONE)  # nothing had changed
    np.testing.assert_array_equal(array.read(FIRST_PAGE), np.ones(parts.PAGE_SHAPE, np.float32))


def test_a_view_in_a_local_is_named(plain: resident.ResidentArray) -> None:
    view = np.asarray(plain._live())
    with pytest.raises(errors.PoolLostError, match="local `view` of test_a_view_in_a_local_"):
        plain.run(ADD_ONE)
    assert view.shape == SHAPE


def test_a_view_in_an_attribute_is_named(plain: resident.ResidentArray) -> None:
    class Monitor:
        def __init__(self, page: np.ndarray) -> None:
            self.latest_page = page

    monitor = Monitor(np.asarray(plain._live())[3])
    with pytest.raises(
        errors.PoolLostError, match=r"attribute `latest_page` of a .*Monitor"
    ) as lost:
        plain.run(ADD_ONE)
    assert "read through snapshot()" in str(lost.value)
    assert monitor.latest_page.shape == parts.PAGE_SHAPE


def test_a_view_of_one_shard_is_named() -> None:
    array = resident.ResidentArray("pool 7", SHAPE, dtype=jnp.float32, sharding=parts.on(0, 1))
    shard = np.asarray(array._live().addressable_data(1))
    with pytest.raises(errors.PoolLostError, match="local `shard`"):
        array.run(ADD_ONE)
    assert shard.shape[4] == 2


def test_lost_until_rebuilt(plain: resident.ResidentArray) -> None:
    plain.run(ADD_ONE)
    view = np.asarray(plain._live())
    with pytest.raises(errors.PoolLostError):
        plain.run(ADD_ONE)
    del view
    for use in (plain.run, plain.read):
        with pytest.raises(errors.PoolLostError, match=r"moved while _add_one ran; call rebuil"):
            use(ADD_ONE)
    plain.rebuild()
    np.testing.assert_array_equal(plain.read(FIRST_PAGE), np.zeros(parts.PAGE_SHAPE, np.float32))
    plain.run(ADD_ONE)


def test_a_program_that_fails_before_it_takes_the_array(plain: resident.ResidentArray) -> None:
    def fails(array: jax.Array) -> Any:
        raise RuntimeError("no such page table")

    with pytest.raises(RuntimeError, match="no such page table"):
        plain.run(fails)
    plain.run(ADD_ONE)


def test_a_program_that_fails_after_it_took_the_array(plain: resident.ResidentArray) -> None:
    def fails(array: jax.Array) -> Any:
        ADD_ONE(array)
        raise RuntimeError("link down")

    with pytest.raises(errors.PoolLostError, match=r"fails failed after it was given.*link down"):
        plain.run(fails)
    with pytest.raises(errors.PoolLostError, match="rebuild"):
        plain.run(ADD_ONE)


def test_a_donating_read_is_caught(plain: resident.ResidentArray) -> None:
    with pytest.raises(errors.PoolLostError, match=r"use run\(\) for programs that update it"):
        plain.read(ADD_ONE)


def test_integrity(plain: resident.ResidentArray) -> None:
    plain.run(ADD_ONE)
    plain.check_integrity()
    plain._live().delete()
    with pytest.raises(errors.InternalError, match=r"pool 7 should lie at .* handle is deleted"):
        plain.check_integrity()


def test_closed_for_good(plain: resident.ResidentArray) -> None:
    plain.close()
    plain.close()
    for use in (plain.rebuild, lambda: plain.run(ADD_ONE), lambda: plain.read(FIRST_PAGE)):
        with pytest.raises(errors.InternalError, match="pool 7 was closed"):
            use()
