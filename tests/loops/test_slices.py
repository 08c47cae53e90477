"""From batches to operands: chunks, packed rows, and batches that must not start."""

from __future__ import annotations

import array
import dataclasses
import random
import time

import numpy as np
import pytest

from aqua_jax.control import errors, types
from aqua_jax.loops import native_attention, prompt, slices, steps

SIZES = steps.Sizes(
    pages=20, page_tokens=4, table_pages=8, lanes=16, chunk_rows=32, steps_max=8,
    prefill_tile_rows=16, decode_tile_rows=16,
)  # fmt: skip

# Space 5 of the control plane is store slot 9 of the native library.
ARENAS = {5: native_attention.Arena(store_slot=9, pages=3, store=1)}


def away(index: int, *, space: int = 5) -> int:
    return types.away_entry(types.Place(space, index))


def plan(lane: int, known: int, **fields: object) -> types.LanePlan:
    """A plan of a session of `known` prompt ids 100, 101 ... and up to 8 tokens more."""
    request = prompt.text_request(range(100, 100 + known), max_tokens=8)
    session = types.Session(id=lane, request=request, arrived_at=0.0)
    base = types.LanePlan(lane, session, range(1, 9), 0, 0, 0, True)
    return base._replace(**fields)


def check(*plans: types.LanePlan, steps: int | None = None) -> None:
    most = max((each.steps for each in plans), default=0)
    batch = types.Batch(plans, most if steps is None else steps)
    slices.check_batch(
        batch, slices.page_tables(plans), lanes=4, pages=20, page_tokens=4, steps_max=8,
        arenas=ARENAS,
    )  # fmt: skip


def test_rows_are_packed_densely():
    plans = [plan(0, 9, prefill=9), plan(3, 9), plan(2, 50, first=10, prefill=40)]
    pieces = [
        [(piece.plan.lane, piece.first, piece.rows, piece.completes) for piece in chunk]
        for chunk in slices.chunks(plans, 32)
    ]
    assert pieces == [[(0, 0, 9, True), (2, 10, 23, False)], [(2, 33, 17, True)]]


@pytest.mark.parametrize("rows", [31, 32, 33, 64, 65])
def test_no_chunk_is_empty_or_too_long(rows):
    found = list(slices.chunks([plan(0, rows, prefill=rows)], 32))
    assert sum(piece.rows for chunk in found for piece in chunk) == rows
    assert len(found) == -(-rows // 32)


def test_prefill_operands():
    operands = steps.prefill_operands(SIZES)
    plans = [plan(2, 5, first=1, prefill=4, pages=[7, 3]), plan(0, 50, prefill=3, joins=False)]
    (pieces,) = slices.chunks(plans, 32)
    tables = slices.page_tables(plans)
    packed = slices.pack_prefill(operands, plans, pieces, tables=tables, seats=True)
    views = operands.views(packed)
    assert views["row_count"] == 7
    assert views["row_lanes"][:7].tolist() == [2, 2, 2, 2, 0, 0, 0]
    assert views["row_positions"][:7].tolist() == [1, 2, 3, 4, 0, 1, 2]
    assert views["row_tokens"][:7].tolist() == [101, 102, 103, 104, 100, 101, 102]
    assert views["tables"][2].tolist() == [7, 3, 0, 0, 0, 0, 0, 0]
    assert np.flatnonzero(views["joins"]).tolist() == [2]
    assert views["last_rows"][2] == 3
    assert (np.delete(views["last_rows"], 2) == steps.NO_ROW).all()


def test_decode_operands():
    operands = steps.decode_operands(SIZES)
    plans = [plan(1, 5, first=4, steps=3), plan(3, 6, first=5, steps=7)]
    tables = slices.page_tables(plans)
    for seats in (True, False):
        packed = slices.pack_decode(operands, plans, tables=tables, seats=seats)
        views = operands.views(packed)
        assert views["step_limits"][:4].tolist() == [0, 3, 0, 7]
        assert views["joins"][:4].tolist() == ([0, 1, 0, 1] if seats else [0] * 4)
        assert views["token"][:4].tolist() == ([0, 104, 0, 105] if seats else [0] * 4)


def test_pages_in_arenas_are_named_as_the_library_does():
    pages = [away(2), away(0), 4, 5]
    one = plan(1, 15, first=14, steps=2, pages=pages)
    check(one)
    operands = steps.decode_operands(SIZES)
    tables = slices.name_away(slices.page_tables([one]), ARENAS)
    views = operands.views(slices.pack_decode(operands, [one], tables=tables, seats=True))
    assert views["tables"][1, :4].tolist() == [~(9 << 24 | 2), ~(9 << 24), 4, 5]
    assert one.pages == pages  # the plan keeps the control plane's names


def test_a_long_table_is_checked_and_packed_in_a_fraction_of_a_millisecond():
    """8,192 pages, most of them away: nothing is done for each of them in Python."""
    count, away_count = 8192, 7200
    arenas = {
        space: native_attention.Arena(store_slot=space + 4, pages=count, store=space)
        for space in (5, 6)
    }
    entries = [away(i, space=5 if i < 4000 else 6) for i in range(away_count)]
    table = array.array("i", [*entries, *range(1, 1 + count - away_count)])
    session = plan(1, 9).session
    whole = plan(1, 9, pages=table, first=count * 4 - 8, steps=4, joins=False, session=session)
    operands = steps.decode_operands(dataclasses.replace(SIZES, table_pages=count))

    def once() -> float:
        started = time.perf_counter()
        tables = slices.page_tables([whole])
        slices.check_batch(
            types.Batch((whole,), 4), tables, lanes=4, pages=2000, page_tokens=4, steps_max=8,
            arenas=arenas,
        )  # fmt: skip
        tables = slices.name_away(tables, arenas)
        for _ in range(2):
            slices.pack_decode(operands, [whole], tables=tables, seats=False)
        return time.perf_counter() - started

    # Some 0.3 ms; a loop over the entries took 15.
    assert min(once() for _ in range(10)) < 0.003
    tables = slices.name_away(slices.page_tables([whole]), arenas)
    packed = slices.pack_decode(operands, [whole], tables=tables, seats=False)
    named = operands.views(packed)["tables"][1]
    assert named[[0, 3999, 4000, 7199, 7200]].tolist() == [
        ~(9 << 24), ~(9 << 24 | 3999), ~(10 << 24 | 4000), ~(10 << 24 | 7199), 1,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("plans", "message"),
    [
        ([], "expected distinct ones, 0 to 3"),
        ([plan(4, 5, prefill=5)], r"lanes \[4\]: expected distinct ones, 0 to 3"),
        ([plan(1, 5, prefill=5), plan(1, 5, prefill=5)], r"lanes \[1, 1\]"),
        ([plan(0, 5, first=4, steps=9)], "at most 8"),
        ([plan(0, 5)], "nothing to run"),
        ([plan(0, 5, prefill=6)], "rows past the 5 units known to the host"),
        ([plan(0, 5, prefill=4, steps=1)], "steps before all of its 5 known units"),
        ([plan(0, 5, first=3, steps=1)], "ready to step, so its first row is 4"),
        ([plan(0, 5, prefill=5, pages=[1])], "may write 5 units, which its pages do not hold"),
        ([plan(0, 5, first=4, steps=8, pages=[1, 2])], "may write 12 units"),
        ([plan(0, 5, prefill=5, pages=[1, 0])], "a page outside 1 to 19"),
        ([plan(0, 5, prefill=5, pages=[1, 20])], "a page outside 1 to 19"),
        (
            [plan(0, 9, first=8, steps=1, pages=[away(0, space=6), 2, 3])],
            r"page 0 is in space 6, which this runner cannot attend in place: .* one of \[5\]",
        ),
        ([plan(0, 9, first=8, steps=1, pages=[away(3), 2, 3])], "page 0 is slot 3 of space 5"),
        ([plan(0, 9, first=8, steps=1, pages=[away(i) for i in range(3)])], "write to page 2, whi"),
        ([plan(0, 9, first=7, prefill=2, pages=[away(1), away(0), 2])], "it may write to page 1"),
        ([plan(0, 9, first=8, steps=1, pages=[1, away(0), 2])], "page 1 is away behind one of the"),
    ],
)
def test_batches_that_must_not_start(plans, message):
    with pytest.raises(errors.InternalError, match=message):
        check(*plans)


def test_a_page_beyond_int32_is_refused():
    with pytest.raises(errors.InternalError, match="lane 2, session 2: a page beyond int32"):
        check(plan(2, 5, prefill=5, pages=[1, 1 << 31]))


def test_what_is_wrong_with_one_plan_of_many_is_found_and_named():
    """The pass over all tables sees what a look at each plan alone sees, empty tables too."""
    rng = random.Random(0)
    seen = set()
    for _ in range(2000):
        plans = []
        for lane in range(4):
            shed = rng.randrange(4)
            pages = [away(rng.randrange(3)) for _ in range(shed)]
            pages += [rng.randrange(1, 20) for _ in range(rng.randrange(6 - shed))]
            if pages and rng.random() < 0.2:
                wrong = (0, 20, 5, away(0), away(3), away(0, space=6))
                pages[rng.randrange(len(pages))] = rng.choice(wrong)
            first = 4 * shed - (rng.random() < 0.1 and shed > 0)
            first = min(first, max(4 * len(pages) - 1, 0))
            plans.append(plan(lane, first + 1, first=first, steps=len(pages) > 0, pages=pages))
        said = [refusal(each) for each in plans]
        found = refusal(*plans)
        assert found == next((one for one in said if one), "")
        seen.add(found.partition("pages: ")[2][:12])
    assert len(seen) >= 6, seen


def refusal(*plans: types.LanePlan) -> str:
    """Of batches that have steps, what is wrong with a plan."""
    try:
        check(*plans)
    except errors.InternalError as error:
        return "" if "nothing to run" in str(error) else str(error)
    return ""


def test_steps_are_those_of_the_plans():
    with pytest.raises(errors.InternalError, match="4 steps whose plans ask for 3"):
        check(plan(0, 5, first=4, steps=3), steps=4)


def test_the_last_token_needs_no_page():
    # 5 known and 8 to come: the last one's unit, the 13th, is never written.
    check(plan(0, 5, prefill=5, steps=8, pages=[1, 2, 3]))
    request = dataclasses.replace(plan(0, 5).session.request, steps_max=9)
    session = types.Session(id=0, request=request, arrived_at=0.0)
    with pytest.raises(errors.InternalError, match="may write 13 units"):
        check(plan(0, 5, prefill=5, steps=8, pages=[1, 2, 3], session=session))
