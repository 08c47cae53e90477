"""A batch as the operands of a slice's programs, on the host.

Knows: plans, rows, chunks, lanes. Does not know: devices and arrays on them.
"""

from __future__ import annotations

import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aqua_jax.control import errors, types
from aqua_jax.loops import lanes, native_attention, packing, prompt, steps

# By space: where pages may be attended in place.
Arenas = Mapping[int, native_attention.Arena]
NO_ARENAS: Arenas = {}


class Tables(NamedTuple):
    """The page tables of some plans, one after the other: a few operations see to all of them."""

    entries: np.ndarray  # [pages of all plans] int32
    ends: list[int]  # by plan, where its own end


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


def page_tables(plans: Sequence[types.LanePlan]) -> Tables:
    """The plans' page tables, made once a slice. Of a long one, an array, no entry is looked at."""
    joined, ends = array.array("i"), []
    for plan in plans:
        try:
            joined.extend(plan.pages)
        except OverflowError:
            raise errors.InternalError(
                f"lane {plan.lane}, session {plan.session.id}: a page beyond int32"
            ) from None
        ends.append(len(joined))
    return Tables(np.asarray(joined), ends)


def spaces_away(tables: Tables) -> list[int]:
    """Spaces with pages that are attended in place."""
    return np.unique(~tables.entries[tables.entries < 0] // types.ENTRY_SLOTS).tolist()


def name_away(tables: Tables, arenas: Arenas) -> Tables:
    """The tables as the programs take them: slots of arenas are named as the library does."""
    away = np.flatnonzero(tables.entries < 0)
    if not away.size:
        return tables
    # By space, what the library calls its slot 0; from there they count down.
    first_entries = np.zeros(types.ENTRY_SPACES, np.int32)
    for space, arena in arenas.items():
        first_entries[space] = native_attention.arena_entry(arena, 0)
    entries = tables.entries.copy()
    spaces, slots = divmod(~entries[away], types.ENTRY_SLOTS)
    entries[away] = first_entries[spaces] - slots
    return tables._replace(entries=entries)


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
    limits = views["step_limits"]
    for plan in plans:
        limits[plan.lane] = plan.steps
    return vector


def check_batch(
    batch: types.Batch,
    tables: Tables,
    *,
    lanes: int,
    pages: int,
    page_tokens: int,
    steps_max: int,
    arenas: Arenas = NO_ARENAS,
) -> None:
    """Raises InternalError for a batch that would read or write what it must not.

    tables: of its plans, in their order. A program that fails takes the pool with it, so whatever
    the host can see is seen here, before anything was started.
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
    sound = _all_sound(batch.lanes, tables, pages, page_tokens, arenas)
    for plan, start, end in _shares(batch.lanes, tables):
        fault = _fault(plan, page_tokens)
        if not fault and not sound:
            fault = _fault_pages(plan, tables.entries[start:end], pages, page_tokens, arenas)
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


def _all_sound(
    plans: Sequence[types.LanePlan], tables: Tables, pages: int, page_tokens: int, arenas: Arenas
) -> bool:
    """Whether `_fault_pages` finds nothing in any plan, in a few operations for all."""
    entries = tables.entries
    if entries.max(initial=1) >= pages:
        return False
    if entries.min(initial=1) > 0:
        return True
    is_away = entries < 0
    before = np.concatenate([[0], np.cumsum(is_away)])  # how many are away before each entry
    starts, ends = np.array([0, *tables.ends][:-1]), np.array(tables.ends)
    counts = before[ends] - before[starts]
    foremost = before[starts + counts] - before[starts] == counts
    unwritten = counts * page_tokens <= np.array([plan.first for plan in plans])
    spaces, slots = divmod(~entries[is_away], types.ENTRY_SLOTS)
    held = np.zeros(types.ENTRY_SPACES, np.int64)
    for space, arena in arenas.items():
        held[space] = arena.pages
    is_held = slots < held[spaces]
    return bool(entries.all() and foremost.all() and unwritten.all() and is_held.all())


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


def _shares(
    plans: Sequence[types.LanePlan], tables: Tables
) -> Iterator[tuple[types.LanePlan, int, int]]:
    """Each plan, and where its entries begin and end."""
    return zip(plans, [0, *tables.ends][:-1], tables.ends, strict=True)


def _pack_lanes(
    views: dict[str, np.ndarray], plans: Sequence[types.LanePlan], tables: Tables, *, seats: bool
) -> None:
    entries, by_lane = tables.entries, views["tables"]
    for plan, start, end in _shares(plans, tables):
        by_lane[plan.lane, : end - start] = entries[start:end]
        if seats and plan.joins:
            views["joins"][plan.lane] = 1
            lanes.write_seat(views, plan)
