"""A batch as the operands of a slice's programs, on the host.

Knows: plans, rows, chunks, lanes. Does not know: devices and arrays on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from aqua_jax.control import errors, types
from aqua_jax.loops import lanes, packing, prompt, steps


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


def pack_prefill(
    operands: packing.Packing,
    plans: Sequence[types.LanePlan],
    pieces: Sequence[Piece],
    *,
    seats: bool,
) -> np.ndarray:
    """Operands of one prefill program. seats: sets the lanes of the plans that join."""
    vector, views = operands.host()
    _pack_lanes(views, plans, seats=seats)
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
    operands: packing.Packing, plans: Sequence[types.LanePlan], *, seats: bool
) -> np.ndarray:
    """Operands of the decode program. seats: sets the lanes of the plans that join."""
    vector, views = operands.host()
    _pack_lanes(views, plans, seats=seats)
    for plan in plans:
        views["step_limits"][plan.lane] = plan.steps
    return vector


def check_batch(
    batch: types.Batch, *, lanes: int, pages: int, page_tokens: int, steps_max: int
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
        fault = _fault(plan, pages, page_tokens)
        if fault:
            raise errors.InternalError(
                f"lane {plan.lane}, session {plan.session.id}: {plan.prefill} rows from "
                f"{plan.first}, {plan.steps} steps, {len(plan.pages)} pages: {fault}"
            )


def _fault(plan: types.LanePlan, pages: int, page_tokens: int) -> str:
    """What is wrong with the plan, or nothing."""
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
    if plan.pages and not 0 < min(plan.pages) <= max(plan.pages) < pages:
        return f"a page outside 1 to {pages - 1}"
    return ""


def _pack_lanes(
    views: dict[str, np.ndarray], plans: Sequence[types.LanePlan], *, seats: bool
) -> None:
    for plan in plans:
        views["tables"][plan.lane, : len(plan.pages)] = plan.pages
        if seats and plan.joins:
            views["joins"][plan.lane] = 1
            lanes.write_seat(views, plan)
