"""A batch as the operands of a slice's programs, on the host.

Knows: plans, rows, chunks, lanes. Does not know: devices and arrays on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aqua_jax.control import errors, types
from aqua_jax.loops import lanes, native_attention, packing, prompt, steps

# By space: where pages may be attended in place.
Arenas = Mapping[int, native_attention.Arena]
NO_ARENAS: Arenas = {}
# By lane: its page table as the programs take it, in int32.
Tables = Mapping[int, np.ndarray]


class Piece(NamedTuple):
    """Prefill rows [first, first + rows) of a plan, together in one chunk."""

    plan: types.LanePlan
    first: int
    rows: int

    @property
    def completes(self) -> bool:
        """True when its last row is the session's last known unit, which emits a token."""
        return self.first + self.rows == self.plan.session.known


def chunks(plans: Sequence[types.LanePlan], chunk_rows: int) -> Iterator[list[Piece]]:
    """The plans' prefill rows, packed densely in order; every chunk but the last is full."""
    pieces: list[Piece] = []
    room = chunk_rows
    for plan in plans:
        first, left = plan.first, plan.prefill
        while left:
            count = min(left, room)
            pieces.append(Piece(plan, first, count))
            first, left, room = first + count, left - count, room - count
            if not room:
                yield pieces
                pieces, room = [], chunk_rows
    if pieces:
        yield pieces


def page_tables(plans: Sequence[types.LanePlan], arenas: Arenas = NO_ARENAS) -> Tables:
    """The plans' page tables, made once a slice. Slots of arenas are named as the library does."""
    first_entries = np.zeros(types.ENTRY_SPACES, np.int32)
    for space, arena in arenas.items():
        first_entries[space] = native_attention.arena_entry(arena, 0)
    return {plan.lane: _page_table(plan, first_entries) for plan in plans}


def pack_prefill(
    operands: packing.Packing,
    plans: Sequence[types.LanePlan],
    pieces: Sequence[Piece],
    *,
    tables: Tables,
    seats: bool,
) -> np.ndarray:
    """Operands of one prefill program. seats: sets the lanes of the plans that join."""
    vector, views = operands.host()
    _pack_lanes(views, plans, tables, seats=seats)
    views["last_rows"][:] = steps.NO_ROW
    row = 0
    for piece in pieces:
        plan, first, end = piece.plan, piece.first, row + piece.rows
        views["row_lanes"][row:end] = plan.lane
        views["row_positions"][row:end] = np.arange(first, first + piece.rows)
        views["row_tokens"][row:end] = prompt.unit_ids(plan.session, first, piece.rows)
        if piece.completes:
            views["last_rows"][plan.lane] = end - 1
        row = end
    views["row_count"][...] = row
    return vector


def pack_decode(
    operands: packing.Packing,
    plans: Sequence[types.LanePlan],
    *,
    tables: Tables,
    seats: bool,
) -> np.ndarray:
    """Operands of the decode program. seats: sets the lanes of the plans that join."""
    vector, views = operands.host()
    _pack_lanes(views, plans, tables, seats=seats)
    for plan in plans:
        views["step_limits"][plan.lane] = plan.steps
    return vector


def check_batch(
    batch: types.Batch,
    *,
    lanes: int,
    pages: int,
    page_tokens: int,
    steps_max: int,
    arenas: Arenas = NO_ARENAS,
) -> None:
    """Raises InternalError for a batch that would read or write what it must not.

    A program that fails takes the pool with it, so whatever the host can see is
    seen here, before anything was started.
    """
    used = [plan.lane for plan in batch.lanes]
    if not used or len(set(used)) < len(used) or min(used) < 0 or max(used) >= lanes:
        raise errors.InternalError(
            f"a batch for lanes {used}: expected distinct ones, 0 to {lanes - 1}"
        )
    most = max(plan.steps for plan in batch.lanes)
    if batch.steps != most or not 0 <= most <= steps_max:
        raise errors.InternalError(
            f"a batch of {batch.steps} steps whose plans ask for {most}: expected the same, "
            f"at most {steps_max}"
        )
    if not batch.steps and not batch.prefill_units:
        raise errors.InternalError("a batch with neither prefill rows nor steps: nothing to run")
    for plan in batch.lanes:
        table = np.asarray(plan.pages, np.int64)
        fault = _fault(plan, page_tokens) or _fault_pages(plan, table, pages, page_tokens, arenas)
        if fault:
            raise errors.InternalError(
                f"lane {plan.lane}, session {plan.session.id}: {plan.prefill} rows from "
                f"{plan.first}, {plan.steps} steps, {len(plan.pages)} pages: {fault}"
            )


def _fault(plan: types.LanePlan, page_tokens: int) -> str:
    """What is wrong with the plan's rows and steps, or nothing."""
    session, request = plan.session, plan.session.request
    end = plan.first + plan.prefill
    if plan.prefill and end > session.known:
        return f"rows past the {session.known} units known to the host"
    if plan.prefill and plan.steps and end < session.known:
        return f"steps before all of its {session.known} known units are prefilled"
    if plan.joins and not plan.prefill and plan.first != session.known - 1:
        return f"it joins ready to step, so its first row is {session.known - 1}"
    # The last token is emitted, not fed back: its unit is never written.
    units = min(end + plan.steps, request.prompt_units + request.steps_max - 1)
    if units > len(plan.pages) * page_tokens:
        return f"it may write {units} units, which its pages do not hold"
    return ""


def _fault_pages(
    plan: types.LanePlan, table: np.ndarray, pages: int, page_tokens: int, arenas: Arenas
) -> str:
    """What is wrong with the pages that the plan names, or nothing."""
    if (table == 0).any() or (table >= pages).any():
        return f"a page outside 1 to {pages - 1}"
    away = np.flatnonzero(table < 0)
    if not away.size:
        return ""
    if away[-1] != away.size - 1:
        return f"page {away[-1]} is away behind one of the pool, which has to come after it"
    spaces, slots = divmod(~table[away], types.ENTRY_SLOTS)
    strange = np.ones(away.size, bool)
    for space, arena in arenas.items():
        there = spaces == space
        beyond = np.flatnonzero(there & (slots >= arena.pages))
        if beyond.size:
            return (
                f"page {away[beyond[0]]} is slot {slots[beyond[0]]} of space {space}, which has"
                " fewer"
            )
        strange &= ~there
    if strange.any():
        return (
            f"page {away[strange][0]} is in space {spaces[strange][0]}, which this runner cannot "
            f"attend in place: expected one of {sorted(arenas)}, given to `attend_in`"
        )
    if away[-1] >= plan.first // page_tokens:
        return f"it may write to page {away[-1]}, which is away in space {spaces[-1]}"
    return ""


def _page_table(plan: types.LanePlan, first_entries: np.ndarray) -> np.ndarray:
    """first_entries: by space, what the library calls its slot 0; from there they count down."""
    table = np.asarray(plan.pages, np.int32)
    away = np.flatnonzero(table < 0)
    if away.size:
        table = table.copy()
        spaces, slots = divmod(~table[away], types.ENTRY_SLOTS)
        table[away] = first_entries[spaces] - slots
    return table


def _pack_lanes(
    views: dict[str, np.ndarray], plans: Sequence[types.LanePlan], tables: Tables, *, seats: bool
) -> None:
    for plan in plans:
        table = tables[plan.lane]
        views["tables"][plan.lane, : table.size] = table
        if seats and plan.joins:
            views["joins"][plan.lane] = 1
            lanes.write_seat(views, plan)
