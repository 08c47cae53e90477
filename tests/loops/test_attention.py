"""Paged attention, by XLA and native, against a dense one; and what a row must not notice."""

from __future__ import annotations

import numpy as np
import pytest

from aqua_jax.loops import attention
from tests.loops import attention_scene as scenes
from tests.loops.attention_scene import Shape

every_kind = pytest.mark.parametrize("kind", scenes.KINDS)
every_mode = pytest.mark.parametrize("mode", ["decode", "prefill"])

# A lone token, edges of pages and of blocks, several blocks, and more than one segment.
POSITIONS = [0, 15, 16, 127, 128, 300, 700]
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}


@every_kind
@pytest.mark.parametrize(
    ("shape", "window"),
    [
        (Shape(), 0),
        (Shape(), 1),
        (Shape(head_dim=8, group=2, kv_heads=4), 20),
        (Shape(dtype="bfloat16"), 0),
        (Shape(kv_heads=1, group=1, head_dim=128, dtype="bfloat16"), 200),
        (Shape(kv_heads=1, group=7, head_dim=256, page_tokens=64), 0),
        (Shape(kv_heads=3, group=1, head_dim=80, page_tokens=6), 600),
        (Shape(kv_heads=1, group=2, head_dim=48, page_tokens=100), 0),
    ],
)
def test_rows_attend_to_their_own_past(kind, shape, window):
    given = scenes.scene(POSITIONS, shape)
    found, after = scenes.attend(kind, given, window=window)
    for row, attended in enumerate(found.astype(np.float64)):
        expected = scenes.dense(given, row, window=window)
        error = np.abs(attended - expected).max() / np.abs(expected).max()
        assert error < TOLERANCE[shape.dtype], f"row {row}"
    # Page 0 is scratch, where masked rows write.
    np.testing.assert_array_equal(scenes.bits(after[1:]), scenes.bits(given.written[1:]))
    again, _ = scenes.attend(kind, given, mode="prefill", window=window)
    np.testing.assert_array_equal(scenes.bits(again), scenes.bits(found))


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_are_capped(kind, dtype):
    """Large scores of both signs: some are cut, some hardly change."""
    given = scenes.scene(POSITIONS, Shape(dtype=dtype))
    given.queries[:] *= 4
    found, _ = scenes.attend(kind, given, window=200, softcap=3.0)
    for row, attended in enumerate(found.astype(np.float64)):
        expected = scenes.dense(given, row, window=200, softcap=3.0)
        error = np.abs(attended - expected).max() / np.abs(expected).max()
        assert error < TOLERANCE[dtype], f"row {row}"
    again, _ = scenes.attend(kind, given, mode="prefill", window=200, softcap=3.0)
    np.testing.assert_array_equal(scenes.bits(again), scenes.bits(found))


@every_kind
@pytest.mark.parametrize("window", [0, 40])
def test_chunks_of_a_prompt_get_the_bits_of_decoding_it(kind, window):
    """Rows of one session, which share pages, whichever of them are computed together."""
    given = scenes.scene(range(490, 521), one_session=True)

    def attend(mode: str, rows: int) -> np.ndarray:
        found, pool = [], given.pool
        for first in range(0, 31, rows):
            chunk = range(first, min(first + rows, 31))
            attended, pool = scenes.attend(kind, given, chunk, mode=mode, window=window, pool=pool)
            found.append(attended)
        return scenes.bits(np.concatenate(found))

    expected = attend("decode", 1)
    for rows in (3, 16):
        np.testing.assert_array_equal(attend("prefill", rows), expected)


@every_kind
@every_mode
def test_batch_mates_change_no_bit(kind, mode):
    given = scenes.scene([3, 100, 40, 600])
    found, _ = scenes.attend(kind, given, mode=mode)
    for rows in ([0], [2, 1, 0], [3, 0]):
        fewer, _ = scenes.attend(kind, given, rows, mode=mode)
        np.testing.assert_array_equal(scenes.bits(fewer), scenes.bits(found[rows]))


@every_kind
@every_mode
def test_what_a_row_does_not_see_may_be_anything(kind, mode):
    """Past its position, before its window, in the scratch page."""
    given = scenes.scene([20, 130])
    found, _ = scenes.attend(kind, given, mode=mode, window=30)
    spoilt = given.pool.copy()
    spoilt[0] = np.nan
    for row, position in ((0, 20), (1, 130)):
        last = given.tables[row, position // 16]
        spoilt[last, :, :, position % 16 + 1 :] = np.nan
    spoilt[given.tables[1, :6]] = np.nan
    spoilt[given.tables[1, 6], :, :, :5] = np.nan  # the first that is seen is 101
    again, _ = scenes.attend(kind, given, mode=mode, window=30, pool=spoilt)
    np.testing.assert_array_equal(scenes.bits(again), scenes.bits(found))


@every_kind
def test_a_nan_that_a_row_sees_is_not_hidden(kind):
    given = scenes.scene([40, 40])
    given.pool[given.tables[0, 1], scenes.LAYER, 0, 5] = np.nan
    found, _ = scenes.attend(kind, given)
    assert np.isnan(found[0]).all()
    assert not np.isnan(found[1]).any()


@every_kind
def test_large_scores_overflow_nowhere(kind):
    given = scenes.scene([300])
    given.queries[:] *= 1e4
    found, _ = scenes.attend(kind, given)
    np.testing.assert_allclose(found[0], scenes.dense(given, 0), atol=1e-4)


def test_blocks_are_whole_pages():
    assert [attention.block_pages(tokens) for tokens in (16, 32, 128, 256)] == [8, 4, 1, 1]
