"""The programs' bodies: what is masked stays untouched."""

from __future__ import annotations

import numpy as np

from tests.loops import harness


def test_only_the_pages_and_slots_of_the_plan_are_written():
    run = harness.runner()
    who = harness.seat(40, [30, 31, 32, 33], max_tokens=10)
    pages = range(1, run.pages)
    before = run.pool.snapshot(pages)
    harness.run_slice(run, [who], who.plan(2, prefill=37))
    harness.run_slice(run, [who], who.plan(2, prefill=3, steps=5))
    after = run.pool.snapshot(pages)

    written = (before != after).any(axis=(1, 2, 4, 5))  # [pages, page_tokens]
    expected = np.zeros_like(written)
    expected[30 - 1 : 32 - 1] = True
    expected[32 - 1, : 45 - 32] = True
    np.testing.assert_array_equal(written, expected)


def test_lanes_outside_the_batch_keep_their_state():
    run = harness.runner()
    alone = harness.seat(20, [1, 2, 3], max_tokens=20)
    harness.prefill(run, alone, 0, 20)
    harness.decode(run, alone, 0, 32)

    who, other = harness.seat(20, [4, 5, 6], max_tokens=20), harness.seat(9, [7, 8], max_tokens=20)
    harness.prefill(run, who, 1, 20)
    harness.run_slice(run, [who], who.plan(1, steps=3))
    harness.run_slice(run, [other], other.plan(3, prefill=9, steps=11))
    # `who` neither ran nor joins again: its lane still holds its last token and seed.
    harness.decode(run, who, 1, 5)
    assert who.tokens == alone.tokens
