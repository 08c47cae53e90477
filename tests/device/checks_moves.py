"""Pages that move: every byte arrives, in order with the pool's programs, and no fence hangs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.control import errors
from tests.device import place as places
from tests.device.place import DEVICE, HOST, POOL, SHARED

FENCE_SECONDS = 20.0  # a fence that holds longer has a fault: copies here take milliseconds


def check_every_byte_arrives(place: places.Place) -> None:
    _there_and_back(place, (DEVICE, HOST))


def check_every_byte_arrives_in_shared_memory(place: places.Place) -> None:
    _there_and_back(place, (SHARED,))


def _there_and_back(place: places.Place, spaces: tuple[int, ...]) -> None:
    with place.scene(spaces=spaces) as scene:
        for space in spaces:
            held = scene.fill(POOL, seed=space)
            out, back = [3, 4, 5, 9, 1, 20], [7, 8, 0, 2, 11, 12]
            scene.copy(POOL, out, space, back)
            assert np.array_equal(scene.stores[space].snapshot(back), held[out])
            scene.copy(space, back, POOL, [21, 22, 23, 13, 14, 15])
            assert np.array_equal(scene.pool.snapshot([21, 22, 23, 13, 14, 15]), held[out])
            kept = [2, 6, 7, 8, 10, 11]
            assert np.array_equal(scene.pool.snapshot(kept), held[kept])


def check_arena_to_arena(place: places.Place) -> None:
    with place.scene() as scene:
        held = scene.fill(HOST, seed=1)
        ways = (
            (HOST, range(5), DEVICE, range(5)),
            (DEVICE, range(5), HOST, range(6, 11)),
            (HOST, range(6, 11), HOST, range(12, 17)),
            (DEVICE, range(5), DEVICE, range(6, 11)),
        )
        for source, sources, target, targets in ways:
            scene.copy(source, sources, target, targets)
            assert np.array_equal(scene.stores[target].snapshot(targets), held[:5])


def check_copies_lie_between_programs(place: places.Place) -> None:
    """A page-out sees the programs before it; a program after the fence sees the page-in."""
    with place.scene() as scene:
        scene.pool.run(_set_page, 1, 0.0)
        tickets = []
        for turn in range(1, 9):
            scene.pool.run(_set_page, 1, float(turn))
            tickets.append(scene.submit(POOL, [1], HOST, [turn]))
            scene.mover.fence(POOL)  # the next program writes what the copy reads
        places.drain(scene.mover, scene.clock, tickets)
        got = scene.stores[HOST].snapshot(range(1, 9))
        assert [page.flat[0] for page in got] == list(range(1, 9))
        assert all(np.all(page == page.flat[0]) for page in got)
        for turn in range(1, 9):
            tickets = [scene.submit(HOST, [turn], POOL, [2])]
            scene.mover.fence(POOL)
            (sums,) = scene.pool.run(_add_to_page, 2, 0.5)
            assert float(sums) == turn + 0.5
            places.drain(scene.mover, scene.clock, tickets)


def check_a_fence_before_its_copy_has_begun(place: places.Place) -> None:
    """The copy waits for another that is slow; the fence must hold, and let go."""
    pages = 64 if place.tiny else 512
    with place.scene(pages, spaces=(DEVICE, HOST)) as scene:
        held = scene.fill(HOST, seed=3)
        last = pages - 1
        for turn in range(4):
            scene.stores[DEVICE].write([last], np.zeros_like(held[:1]))
            chain = [
                scene.submit(HOST, range(pages), DEVICE, range(pages)),  # at once; slow
                scene.submit(DEVICE, [last], POOL, [1]),  # waits for it
            ]
            scene.mover.fence(POOL)
            # Behind the fence on the pool's stream, on the same pair of devices as the one before.
            chain.append(scene.submit(DEVICE, [turn], POOL, [2]))
            (total,) = scene.pool.run(_add_to_page, 1, 0.0)
            seconds = _seconds(scene, total)
            assert seconds < FENCE_SECONDS, f"the fence held for {seconds:.1f} s"
            for completion in places.drain(scene.mover, scene.clock, chain):
                assert completion.error is None, completion.error
            assert np.array_equal(scene.pool.snapshot([1, 2]), held[[last, turn]])


def check_order_on_the_same_slots(place: places.Place) -> None:
    """Tickets that touch the same pages run in the order of submission, across directions."""
    rng = np.random.default_rng(5)
    with place.scene(12, spaces=(DEVICE, HOST)) as scene:
        mirror = {space: scene.fill(space, seed=space) for space in (POOL, DEVICE, HOST)}
        tickets = []
        for _ in range(60 if place.tiny else 400):
            source, target = rng.permutation([POOL, DEVICE, HOST])[:2].tolist()
            count = int(rng.integers(1, 6))
            sources = rng.choice(np.arange(1, 12), count, replace=False).tolist()
            targets = rng.choice(np.arange(1, 12), count, replace=False).tolist()
            tickets.append(scene.submit(source, sources, target, targets))
            mirror[target][targets] = mirror[source][sources]
        for completion in places.drain(scene.mover, scene.clock, tickets):
            assert completion.error is None, completion.error
        for space, expected in mirror.items():
            indices = list(range(1, 12))
            assert np.array_equal(scene.stores[space].snapshot(indices), expected[indices])


def check_an_undonated_pool_is_refused(place: places.Place) -> None:
    """A copy of the pool lies where no store is registered: an error, and nothing was moved."""
    with place.scene() as scene:
        other = jnp.zeros((4, *places.PAGE_SHAPE), jnp.float32)
        call = jax.ffi.ffi_call(
            "aqua_page_out",
            jax.ShapeDtypeStruct(other.shape, other.dtype),
            has_side_effect=True,
            input_output_aliases={0: 0},
        )
        refused = places.refusal(
            jax.errors.JaxRuntimeError,
            lambda: jax.block_until_ready(jax.jit(call)(other, jnp.zeros(1, jnp.int32))),
        )
        assert "no live store has a part there" in refused
        scene.copy(POOL, [1], HOST, [1])  # all is well otherwise


def check_a_closed_arena_is_refused(place: places.Place) -> None:
    with place.scene(spaces=(HOST,)) as scene:
        scene.stores[HOST].close()
        refused = places.refusal(errors.MoveError, lambda: scene.submit(POOL, [1], HOST, [1]))
        assert "closed" in refused


def _seconds(scene: places.Scene, array: jax.Array) -> float:
    started = scene.clock.now()
    jax.block_until_ready(array)
    return scene.clock.now() - started


def _set(array: jax.Array, page: int, value: float) -> tuple[jax.Array]:
    return (array.at[page].set(jnp.float32(value)),)


def _add(array: jax.Array, page: int, value: float) -> tuple[jax.Array, jax.Array]:
    array = array.at[page].add(jnp.float32(value))
    return array, array[page].reshape(-1)[0]


_set_page = jax.jit(_set, donate_argnums=0)
_add_to_page = jax.jit(_add, donate_argnums=0)

CHECKS = (
    check_every_byte_arrives,
    check_every_byte_arrives_in_shared_memory,
    check_arena_to_arena,
    check_copies_lie_between_programs,
    check_a_fence_before_its_copy_has_begun,
    check_order_on_the_same_slots,
    check_an_undonated_pool_is_refused,
    check_a_closed_arena_is_refused,
)
