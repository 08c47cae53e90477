"""The tiled forward pass: logits do not depend on how rows were brought together."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from aqua_jax.loops import attention, forward, programs, steps, text
from models import shapes
from tests.loops import harness

UNITS = 80
TILE_ROWS = 16
IDS = harness.prompt_ids(UNITS)
TABLE = np.arange(1, 9, dtype=np.int32)
SIZES = steps.Sizes(
    pages=16, page_tokens=16, table_pages=8, lanes=16, chunk_rows=64, steps_max=1,
    prefill_tile_rows=16, decode_tile_rows=16,
)  # fmt: skip


@functools.cache
def logits_program(rows: int, shards: int) -> jax.stages.Wrapped:
    """(pool, params, rows, count) -> (pool, logits `[rows, vocab]`)."""
    model = harness.model()
    mesh = text.tensor_mesh(jax.devices()[:shards])

    def body(pool, params, own, count):
        pool, x = forward.run_rows(
            model,
            params,
            pool,
            own,
            attend=attention.GatherAttention().prefill,
            count=count,
            tile_rows=TILE_ROWS,
        )
        tiles = jnp.split(x, rows // TILE_ROWS)
        span = forward.Span(own.positions[:TILE_ROWS], jnp.int32(TILE_ROWS))
        return pool, jnp.concatenate([model.logits(params, tile, span) for tile in tiles])

    whole = PartitionSpec()
    specs = (programs.POOL_SPEC, model.specs(shards), whole, whole)
    return jax.jit(
        jax.shard_map(
            body, mesh=mesh, in_specs=specs, out_specs=(programs.POOL_SPEC, whole), check_vma=False
        )
    )


def logits(*, rows: int, at_once: int, shards: int = 1) -> np.ndarray:
    """Logits of one session's tokens, `at_once` of them a call of `rows` rows."""
    program = logits_program(rows, shards)
    pool = jnp.zeros(programs.pool_shape(harness.model(), SIZES), jnp.float32)
    found = []
    for first in range(0, UNITS, at_once):
        count = min(at_once, UNITS - first)
        own = attention.Rows(
            tokens=np.zeros(rows, np.int32),
            positions=np.zeros(rows, np.int32),
            tables=np.zeros((rows, 8), np.int32),
        )
        own.tokens[:count] = IDS[first : first + count]
        own.positions[:count] = np.arange(first, first + count)
        own.tables[:count] = TABLE
        pool, out = program(pool, harness.model().params, own, jnp.int32(count))
        found.append(np.asarray(out)[:count])
    return np.concatenate(found)


def test_logits_are_equal_to_the_bit_for_any_rows_and_chunks():
    expected = logits(rows=16, at_once=1)
    for rows, at_once in ((16, 16), (64, 1), (64, 37), (64, 64)):
        np.testing.assert_array_equal(logits(rows=rows, at_once=at_once), expected)


def test_logits_of_four_shards_are_those_of_one_but_for_rounding():
    whole = logits(rows=64, at_once=64)
    assert whole.shape == (UNITS, shapes.TINY.vocab)
    # Two are covered by the runner's tests.
    np.testing.assert_allclose(logits(rows=64, at_once=64, shards=4), whole, atol=1e-4)
