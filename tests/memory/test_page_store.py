"""The conformance suite of stores: what pools and arenas of every make do alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.memory import arenas, native_arenas, page_store, paged, programs
from tests.memory import parts

SPACE, SLOTS = 5, 6
Make = Callable[[tuple[int, ...]], page_store.PageStore]


def _native(kind: native_arenas.Kind) -> Make:
    return lambda devices: parts.native_arena(SPACE, SLOTS, parts.on(*devices), kind=kind)


MAKES: dict[str, Make] = {
    "pool": lambda devices: paged.PagedPool(
        SPACE, SLOTS + 1, parts.PAGE_SHAPE, jnp.float32, sharding=parts.on(*devices)
    ),
    "device arena": lambda devices: arenas.DeviceArena(
        SPACE, SLOTS, parts.PAGE_SHAPE, jnp.float32, sharding=parts.on(*devices)
    ),
    "host arena": lambda devices: arenas.HostArena(
        SPACE, SLOTS, parts.PAGE_SHAPE, jnp.float32, sharding=parts.on(*devices)
    ),
    "native host": _native("host"),
    "native shared": _native("shared"),
    "native device": _native("device"),
}
CASES = [
    pytest.param(
        (name, devices),
        id=f"{name} on {len(devices)}",
        marks=[parts.needs_native] if name.startswith("native") else [],
    )
    for name in MAKES
    for devices in ((0,), (2, 3), (0, 1, 2, 3))
]


@pytest.fixture(params=CASES)
def store(request: pytest.FixtureRequest) -> Iterator[page_store.PageStore]:
    name, devices = request.param
    made = MAKES[name](devices)
    yield made
    made.close()


def test_what_is_written_is_read(store: page_store.PageStore) -> None:
    values = parts.pages(3)
    indices = [store.indices[i] for i in (4, 0, 2)]
    store.write(indices, values)
    taken = store.snapshot(indices)
    np.testing.assert_array_equal(taken, values)
    taken[:] = 0  # a copy
    np.testing.assert_array_equal(store.snapshot(indices), values)
    others = [index for index in store.indices if index not in indices]
    assert not store.snapshot(others).any()  # zeros at first, and untouched
    assert store.snapshot([]).shape == (0, *parts.PAGE_SHAPE)
    store.check_integrity()


def test_sizes(store: page_store.PageStore) -> None:
    assert (store.space, len(store.indices)) == (SPACE, SLOTS)
    assert store.page_bytes == parts.PAGE_BYTES
    assert SLOTS * parts.PAGE_BYTES <= store.nbytes <= (SLOTS + 1) * parts.PAGE_BYTES


def test_checksums_depend_on_the_bytes_alone(store: page_store.PageStore) -> None:
    values = parts.pages(SLOTS)
    store.write(store.indices, values)
    store.warm_up_checksums()
    order = [store.indices[i] for i in (3, 1, 5)]
    sums = np.concatenate([np.asarray(batch) for batch in store.checksums(order)])
    np.testing.assert_array_equal(sums[:3], programs.checksum_on_host(values[[3, 1, 5]]))


def test_a_rebuild_forgets(store: page_store.PageStore) -> None:
    store.write(store.indices, parts.pages(SLOTS))
    store.rebuild()
    assert not store.snapshot(store.indices).any()
    store.write(store.indices, parts.pages(SLOTS))


def test_indices_out_of_range_are_refused(store: page_store.PageStore) -> None:
    for wrong in (-1, store.indices.stop + 1):
        for use in (
            lambda wrong=wrong: store.snapshot([wrong]),
            lambda wrong=wrong: store.write([wrong], parts.pages(1)),
            lambda wrong=wrong: store.check_indices([store.indices[0], wrong]),
        ):
            with pytest.raises(errors.MoveError, match=f"index {wrong} of {store.label} is out of"):
                use()


def test_values_of_another_kind_are_refused(store: page_store.PageStore) -> None:
    first = store.indices[0]
    for wrong in (parts.pages(1).astype(np.float64), parts.pages(2), parts.pages(1)[:, 0]):
        with pytest.raises(errors.MoveError, match=r"got values .* expected float32\[1, 2, 2"):
            store.write([first], wrong)


def test_a_closed_store_is_unusable(store: page_store.PageStore) -> None:
    store.close()
    store.close()
    first = store.indices[0]
    for use in (
        lambda: store.snapshot([first]),
        lambda: store.write([first], parts.pages(1)),
        lambda: store.checksums([first]),
        store.rebuild,
        store.check_integrity,
    ):
        with pytest.raises(errors.InternalError, match=f"{store.label} was closed"):
            use()
