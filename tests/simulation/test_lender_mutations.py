"""Bugs put on purpose into what moves pages out of lenders' memory: random runs must notice each.

Knows: what a plausible mistake in relocation and lost homes looks like. A mutant
that survives is a test that is missing or a lender that is too kind.
"""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import (
    borrowing,
    grants,
    homes,
    lease_types,
    relocation,
    residency,
    spare,
)
from tests.simulation import mutants


def a_reclaim_frees_before_the_copy_is_done(patch: mutants.Patch) -> None:
    def begin(original: Any, self: Any, copy: Any, ticket: Any) -> Any:
        original(self, copy, ticket)
        if copy.direction == "move":
            for part in copy.parts:
                self.relocation.finish(part, self._holdings[part.session], ok=True)

    mutants.wrap(patch, residency.Residency, "begin", begin)


def a_failed_move_counts_as_done(patch: mutants.Patch) -> None:
    def finish(original: Any, self: Any, part: Any, holding: Any, *, ok: Any) -> Any:
        original(self, part, holding, ok=True)

    mutants.wrap(patch, relocation.Relocation, "finish", finish)


def a_completion_is_for_whatever_copy_the_page_has(patch: mutants.Patch) -> None:
    """The check of generations is dropped: it is by the identity of the copy."""

    def note(original: Any, self: Any, part: Any, holding: Any, ok: Any) -> Any:
        now = tuple(holding.away[index] or part.aways[0] for index in part.indices)
        return original(self, part._replace(aways=now), holding, ok)

    mutants.wrap(patch, residency.Residency, "_note_copied_out", note)


def a_move_is_for_whatever_home_the_page_goes_to(patch: mutants.Patch) -> None:
    def finish(original: Any, self: Any, part: Any, holding: Any, *, ok: Any) -> Any:
        now = tuple(
            holding.moves.get(index, home)
            for index, home in zip(part.indices, part.aways, strict=True)
        )
        original(self, part._replace(aways=now), holding, ok=ok)

    mutants.wrap(patch, relocation.Relocation, "finish", finish)


def a_space_is_used_again_too_early(patch: mutants.Patch) -> None:
    def is_known(original: Any, self: Any, space: Any) -> Any:
        return any(tier.slots.space == space for tier in self.tiers)

    mutants.wrap(patch, spare.Slots, "is_known", is_known)


def slices_that_read_lost_memory_are_believed(patch: mutants.Patch) -> None:
    def void(original: Any, self: Any, space: Any, flights: Any, now: Any) -> Any:
        original(self, space, (), now)

    mutants.wrap(patch, homes.Homes, "void", void)


def slots_left_ignore_the_slices_in_flight(patch: mutants.Patch) -> None:
    def settle(original: Any, self: Any, session: Any) -> Any:
        last, session.last_dispatch = session.last_dispatch, 0
        original(self, session)
        session.last_dispatch = last

    mutants.wrap(patch, residency.Residency, "settle_moves", settle)


def pages_that_arrived_go_on_moving(patch: mutants.Patch) -> None:
    patch.setattr(relocation.Relocation, "stay", lambda self, session, holding: None)


def what_was_in_a_lost_home_is_believed(patch: mutants.Patch) -> None:
    patch.setattr(residency.Residency, "_is_there", lambda self, place: True)

    def void(original: Any, self: Any, space: Any) -> Any:
        original(self, space)
        return []

    mutants.wrap(patch, relocation.Relocation, "void", void)


def nobody_gives_up_state_for_a_lender(patch: mutants.Patch) -> None:
    patch.setattr(homes.Homes, "_make_room", lambda self, now: None)


def units_are_released_before_they_are_vacated(patch: mutants.Patch) -> None:
    def vacated(original: Any, self: Any) -> Any:
        slots = self.tier.slots
        called = {
            slot // self.tier.unit_slots for slot in range(slots.pages) if slots.is_called(slot)
        }
        return sorted({*original(self), *called})

    mutants.wrap(patch, grants.Held, "vacated", vacated)


def void_grants_are_kept(patch: mutants.Patch) -> None:
    patch.setattr(lease_types.Standing, "void", lambda self, known: [])


def a_silent_borrower_goes_on(patch: mutants.Patch) -> None:
    patch.setattr(borrowing.Borrower, "_silent_at", lambda self: float("inf"))


def reclaims_are_not_heard(patch: mutants.Patch) -> None:
    patch.setattr(grants.Held, "note_calls", lambda self, calls: 0)


MUTANTS: dict[str, mutants.Mutate] = {
    mutate.__name__: mutate
    for mutate in (
        a_reclaim_frees_before_the_copy_is_done,
        a_failed_move_counts_as_done,
        a_completion_is_for_whatever_copy_the_page_has,
        a_move_is_for_whatever_home_the_page_goes_to,
        a_space_is_used_again_too_early,
        slices_that_read_lost_memory_are_believed,
        slots_left_ignore_the_slices_in_flight,
        pages_that_arrived_go_on_moving,
        what_was_in_a_lost_home_is_believed,
        nobody_gives_up_state_for_a_lender,
        units_are_released_before_they_are_vacated,
        void_grants_are_kept,
        a_silent_borrower_goes_on,
        reclaims_are_not_heard,
    )
}


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_the_random_runs_notice(name: str, monkeypatch: mutants.Patch) -> None:
    MUTANTS[name](monkeypatch)
    assert next(mutants.failures(monkeypatch), None) is not None
