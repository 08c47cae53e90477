"""Bugs put into the production code on purpose: the random runs must notice each of them.

Knows: what a plausible mistake in pages, residency, controller, engine or the
protocols looks like. A mutant that survives is a test that is missing or a toy
that is too kind. For those that hand out a page too early `PagePool`'s own
check is switched off, so that it is the tokens that tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from aqua_jax.control import (
    admission,
    attending,
    claims,
    controller,
    holdings,
    pages,
    planning,
    residency,
    shedding,
    spare,
    stage,
    types,
)
from aqua_jax.engine import engine
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import verdict
from tests.simulation import mutants

# -- a page is handed out while something still touches it ---------------------------------------


def readers_are_ignored(patch: mutants.Patch) -> None:
    def release_all(original: Any, self: Any, *args: Any, **fields: Any) -> Any:
        kept, self._readers = self._readers, [0] * self.pages
        try:
            return original(self, *args, **fields)
        finally:
            self._readers = kept

    mutants.wrap(patch, pages.PagePool, "_is_idle", release_all)


def writers_are_ignored(patch: mutants.Patch) -> None:
    def release_all(original: Any, self: Any, *args: Any, **fields: Any) -> Any:
        kept, self._writer = self._writer, [0] * self.pages
        try:
            return original(self, *args, **fields)
        finally:
            self._writer = kept

    mutants.wrap(patch, pages.PagePool, "_is_idle", release_all)


def release_ignores_the_last_dispatch(patch: mutants.Patch) -> None:
    def release(original: Any, self: Any, which: Any, owner: Any, last_dispatch: Any = 0) -> Any:
        original(self, which, owner, 0)

    mutants.wrap(patch, pages.PagePool, "release", release)


def drop_ignores_the_last_dispatch(patch: mutants.Patch) -> None:
    def drop(original: Any, self: Any, session: Any, *, last_dispatch: Any) -> Any:
        original(self, session, last_dispatch=0)

    mutants.wrap(patch, residency.Residency, "drop", drop)


def shedding_ignores_the_last_dispatch(patch: mutants.Patch) -> None:
    def settle(original: Any, self: Any, session: Any) -> Any:
        last, session.last_dispatch = session.last_dispatch, 0
        original(self, session)
        session.last_dispatch = last

    mutants.wrap(patch, attending.Attending, "settle", settle)


def attended_slots_ignore_the_last_dispatch(patch: mutants.Patch) -> None:
    def give_up(original: Any, self: Any, session: Any, aways: Any, last_dispatch: Any = 0) -> Any:
        original(self, session, aways, 0)

    mutants.wrap(patch, spare.Slots, "give_up", give_up)


def leave_ignores_the_last_dispatch(patch: mutants.Patch) -> None:
    def leave(original: Any, self: Any, session: Any, *, units: Any, last_dispatch: Any) -> Any:
        return original(self, session, units=units, last_dispatch=0)

    mutants.wrap(patch, residency.Residency, "leave", leave)


def dispatches_complete_one_early(patch: mutants.Patch) -> None:
    def complete(original: Any, self: Any, dispatch: Any) -> Any:
        original(self, dispatch + 1)

    mutants.wrap(patch, pages.PagePool, "complete_dispatch", complete)


def reads_are_not_noted(patch: mutants.Patch) -> None:
    patch.setattr(pages.PagePool, "begin_read", lambda self, which, ticket: None)


def writes_are_not_noted(patch: mutants.Patch) -> None:
    patch.setattr(pages.PagePool, "begin_write", lambda self, which, ticket: None)


EARLY_PAGES: dict[str, mutants.Mutate] = {
    mutate.__name__: mutate
    for mutate in (
        readers_are_ignored,
        writers_are_ignored,
        release_ignores_the_last_dispatch,
        drop_ignores_the_last_dispatch,
        leave_ignores_the_last_dispatch,
        shedding_ignores_the_last_dispatch,
        attended_slots_ignore_the_last_dispatch,
        dispatches_complete_one_early,
        reads_are_not_noted,
        writes_are_not_noted,
    )
}

# -- everything else -----------------------------------------------------------------------------


def a_copy_once_made_counts_as_clean_for_ever(patch: mutants.Patch) -> None:
    def dirty(original: Any, self: Any, session: Any, holding: Any, *args: Any) -> Any:
        return [i for i in original(self, session, holding, *args) if holding.away[i] is None]

    mutants.wrap(patch, planning.Planner, "dirty", dirty)


def leaving_forgets_the_slice_in_flight(patch: mutants.Patch) -> None:
    def leave(original: Any, self: Any, session: Any, *, units: Any, last_dispatch: Any) -> Any:
        return original(self, session, units=session.cached, last_dispatch=last_dispatch)

    mutants.wrap(patch, residency.Residency, "leave", leave)


def one_unit_too_few_is_copied(patch: mutants.Patch) -> None:
    def submit(original: Any, self: Any, moves: Any, after: Any = None) -> Any:
        return original(self, [move._replace(units=move.units - 1) for move in moves], after)

    mutants.wrap(patch, toy.ToyMover, "submit", submit)


def copies_do_not_wait_for_the_dispatch_before_them(patch: mutants.Patch) -> None:
    def submit(original: Any, self: Any, moves: Any, after: Any = None) -> Any:
        return original(self, moves, None)

    mutants.wrap(patch, toy.ToyMover, "submit", submit)


def a_failed_copy_counts_as_done(patch: mutants.Patch) -> None:
    def copied(original: Any, self: Any, completion: types.Completion, now: float) -> Any:
        return original(self, completion._replace(error=None), now)

    mutants.wrap(patch, controller.Controller, "copied", copied)


def copies_are_done_when_submitted(patch: mutants.Patch) -> None:
    def poll(original: Any, self: Any) -> Any:
        early = [types.Completion(t, 0, 0.0) for t in self.__dict__.setdefault("early", [])]
        self.early = []
        original(self)
        return early

    def submit(original: Any, self: Any, moves: Any, after: Any = None) -> Any:
        ticket = original(self, moves, after)
        self.__dict__.setdefault("early", []).append(ticket.id)
        return ticket

    mutants.wrap(patch, toy.ToyMover, "poll", poll)
    mutants.wrap(patch, toy.ToyMover, "submit", submit)


def the_first_of_two_copies_in_is_enough(patch: mutants.Patch) -> None:
    patch.setattr(residency.Residency, "is_arriving", lambda self, session: False)


def away_before_the_copies_out_are_done(patch: mutants.Patch) -> None:
    def is_whole(original: Any, self: Any, session: Any) -> Any:
        return bool(self.held(session) == 0)

    mutants.wrap(patch, residency.Residency, "is_whole_away", is_whole)


def sources_and_targets_are_crossed(patch: mutants.Patch) -> None:
    def arrive(original: Any, self: Any, session: Any) -> Any:
        return [
            copy._replace(
                moves=tuple(
                    move._replace(target=other.target)
                    for move, other in zip(copy.moves, reversed(copy.moves), strict=True)
                )
            )
            for copy in original(self, session)
        ]

    mutants.wrap(patch, residency.Residency, "arrive", arrive)


def map_lanes(patch: mutants.Patch, change: Callable[[types.LanePlan], types.LanePlan]) -> None:
    """Changes the plans of every batch that a decision carries."""

    def decide(original: Any, self: Any, now: Any) -> Any:
        decision = original(self, now)
        if decision.batch is None:
            return decision
        lanes = tuple(change(plan) for plan in decision.batch.lanes)
        batch = dataclasses.replace(decision.batch, lanes=lanes)
        return dataclasses.replace(decision, batch=batch)

    mutants.wrap(patch, controller.Controller, "decide", decide)


def a_session_joins_its_lane_only_once(patch: mutants.Patch) -> None:
    def change(plan: types.LanePlan) -> types.LanePlan:
        return plan._replace(joins=plan.joins and plan.session.preemptions == 0)

    map_lanes(patch, change)


def page_tables_lag_by_one_page(patch: mutants.Patch) -> None:
    def change(plan: types.LanePlan) -> types.LanePlan:
        table = list(plan.pages)
        return plan._replace(pages=table[:-1] + table[:1] if plan.steps else table)

    map_lanes(patch, change)


def a_lost_session_keeps_its_epoch(patch: mutants.Patch) -> None:
    def lose(original: Any, self: Any, session: Any, now: Any) -> Any:
        epoch = session.epoch
        original(self, session, now)
        session.epoch = epoch

    mutants.wrap(patch, stage.Stage, "lose", lose)


def a_rebuilt_pool_is_not_told_of(patch: mutants.Patch) -> None:
    patch.setattr(controller.Controller, "lose_all", lambda self, now: None)


def aborted_sessions_keep_their_pages(patch: mutants.Patch) -> None:
    def end(original: Any, self: Any, session: Any, reason: Any, now: Any) -> Any:
        if reason == "abort":
            patch.setattr(self.memory, "drop", lambda session, *, last_dispatch: None)
        original(self, session, reason, now)

    mutants.wrap(patch, controller.Controller, "end", end)


def surplus_tokens_are_delivered(patch: mutants.Patch) -> None:
    def emit(original: Any, self: Any, plan: Any, lane: Any, tokens: Any) -> Any:
        original(self, plan, lane, tokens)
        if lane.left <= 0:
            tokens.append(tokens[-1])

    mutants.wrap(patch, toy.ToyRunner, "_emit", emit)


def who_reads_again_is_forgotten(patch: mutants.Patch) -> None:
    patch.setattr(controller.Controller, "unpark", lambda self, session: None)


def deadlines_are_never_looked_at(patch: mutants.Patch) -> None:
    patch.setattr(engine.Engine, "_expire", lambda self: False)


def nobody_is_parked(patch: mutants.Patch) -> None:
    patch.setattr(controller.Controller, "park", lambda self, session: None)


def slots_in_use_are_given_up(patch: mutants.Patch) -> None:
    def give_up(original: Any, self: Any, keep: Any, count: Any) -> Any:
        held = [(h, h.outs, h.ins) for h in self._offers.values()]
        for holding, _, _ in held:
            holding.outs, holding.ins = set(), set()
        original(self, keep, count)
        for holding, outs, ins in held:
            holding.outs, holding.ins = outs, ins

    mutants.wrap(patch, claims.Claims, "_give_up_clean_copies", give_up)


def attended_slots_are_given_up(patch: mutants.Patch) -> None:
    def clean(original: Any, self: Any, holding: Any) -> Any:
        return [away for away in holding.away if away is not None]

    mutants.wrap(patch, claims.Claims, "_clean", clean)


def pages_are_shed_before_their_copies_are_made(patch: mutants.Patch) -> None:
    def shed(original: Any, self: Any) -> Any:
        waits = [away for away in self.away if away is not None and away.in_flight]
        for away in waits:
            away.in_flight = False
        try:
            return original(self)
        finally:
            for away in waits:
                away.in_flight = True

    mutants.wrap(patch, holdings.Holding, "shed", shed)


def stuck_sessions_stay_stuck(patch: mutants.Patch) -> None:
    patch.setattr(shedding.Shedder, "free_slots", lambda self, now: None)


def failed_copies_keep_their_slots(patch: mutants.Patch) -> None:
    def note(original: Any, self: Any, part: Any, holding: Any, ok: Any) -> Any:
        return original(self, part, holding, True)

    mutants.wrap(patch, residency.Residency, "_note_copied_out", note)


def lanes_are_not_given_back(patch: mutants.Patch) -> None:
    def end(original: Any, self: Any, session: Any, reason: Any, now: Any) -> Any:
        if reason == "deadline":
            session.lane = -1
        original(self, session, reason, now)

    mutants.wrap(patch, controller.Controller, "end", end)


def a_session_comes_back_before_its_last_slice_was_read(patch: mutants.Patch) -> None:
    def walk(original: Any, self: Any, slice_: Any, now: Any, *, displace: Any) -> Any:
        waiting = list(self._stage.queue)
        flights = [session.flights for session in waiting]
        for session in waiting:
            session.flights = 0
        original(self, slice_, now, displace=displace)
        for session, count in zip(waiting, flights, strict=True):
            session.flights = count

    mutants.wrap(patch, admission.Admission, "walk", walk)


OTHERS: dict[str, mutants.Mutate] = {
    mutate.__name__: mutate
    for mutate in (
        a_copy_once_made_counts_as_clean_for_ever,
        leaving_forgets_the_slice_in_flight,
        one_unit_too_few_is_copied,
        copies_do_not_wait_for_the_dispatch_before_them,
        a_failed_copy_counts_as_done,
        copies_are_done_when_submitted,
        the_first_of_two_copies_in_is_enough,
        away_before_the_copies_out_are_done,
        sources_and_targets_are_crossed,
        a_session_joins_its_lane_only_once,
        page_tables_lag_by_one_page,
        a_lost_session_keeps_its_epoch,
        a_rebuilt_pool_is_not_told_of,
        aborted_sessions_keep_their_pages,
        surplus_tokens_are_delivered,
        who_reads_again_is_forgotten,
        deadlines_are_never_looked_at,
        nobody_is_parked,
        slots_in_use_are_given_up,
        attended_slots_are_given_up,
        pages_are_shed_before_their_copies_are_made,
        stuck_sessions_stay_stuck,
        failed_copies_keep_their_slots,
        lanes_are_not_given_back,
        a_session_comes_back_before_its_last_slice_was_read,
    )
}


@pytest.mark.parametrize("name", sorted(EARLY_PAGES))
def test_tokens_tell_of_a_page_handed_out_early(name: str, monkeypatch: mutants.Patch) -> None:
    monkeypatch.setattr(pages.PagePool, "check_integrity", lambda self: None)
    EARLY_PAGES[name](monkeypatch)
    assert any(
        isinstance(error, verdict.WrongTokensError) for error in mutants.failures(monkeypatch)
    )


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_the_random_runs_notice(name: str, monkeypatch: mutants.Patch) -> None:
    OTHERS[name](monkeypatch)
    assert next(mutants.failures(monkeypatch), None) is not None
