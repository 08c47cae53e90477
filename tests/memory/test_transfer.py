"""Staged pages arrive whole between every two layouts, and sending never waits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from aqua_jax.control import errors
from aqua_jax.memory import programs, transfer
from tests.memory import parts

LAYOUTS = {
    "one to another": ((0,), (1,)),
    "mesh to mesh": ((0, 1), (2, 3)),
    "mesh to its mirror": ((0, 1), (1, 0)),
    "mesh to single": ((0, 1), (3,)),
    "mesh to one of its own": ((0, 1, 2, 3), (2,)),
    "single to mesh": ((3,), (0, 1)),
    "single to mesh of four": ((1,), (0, 1, 2, 3)),
}
PAIRS = pytest.mark.parametrize(("source", "target"), LAYOUTS.values(), ids=LAYOUTS)


@PAIRS
def test_bytes_arrive(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    values = parts.pages(4)
    staged = jax.device_put(values, parts.on(*source))
    with jax.transfer_guard("disallow"):
        moved = transfer.send(staged, parts.on(*target))
    assert moved.sharding == parts.on(*target)
    np.testing.assert_array_equal(np.array(moved), values)


@PAIRS
def test_sending_does_not_wait(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    """What is sent is still being computed when `send` returns."""

    def slow(pages: jax.Array, square: jax.Array) -> jax.Array:
        busy = lax.fori_loop(0, 100, lambda _, x: jnp.tanh(x @ square), square)
        return pages + busy[0, 0]

    program = jax.jit(slow, out_shardings=parts.on(*source))
    pages = jax.device_put(parts.pages(4), parts.on(*source))
    square = jax.device_put(
        np.full((384, 384), 0.01, np.float32), programs.replicated_sharding(parts.on(*source))
    )
    jax.block_until_ready(transfer.send(program(pages, square), parts.on(*target)))
    staged = program(pages, square)
    moved = transfer.send(staged, parts.on(*target))
    assert not staged.is_ready()  # it still runs
    jax.block_until_ready(moved)


def test_layouts_that_do_not_match_are_refused() -> None:
    for source, target in (((0, 1), (0, 1, 2, 3)), ((0, 1, 2, 3), (2, 3))):
        with pytest.raises(errors.ConfigError, match="cannot send pages from"):
            transfer.check(parts.on(*source), parts.on(*target))
