"""Bugs put on purpose into what moves pages out of lenders' memory: random runs must notice each.

Knows: what a plausible mistake in relocation and lost homes looks like. A mutant
that survives is a test that is missing or a lender that is too kind. That somebody
gives up its state when there is no room for called pages is shown by
`tests/control/test_homes.py`: without it reclaims are late, which may happen.
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


def generations_are_not_checked(patch: mutants.Patch) -> None:
    """Whatever completes is taken for what the page, as it is now, waits for."""

    def note(original: Any, self: Any, part: Any, holding: Any, ok: Any) -> Any:
        there = range(len(holding.away))
        aways = [holding.away[index] if index in there else None for index in part.indices]
        now = tuple(new or old for new, old in zip(aways, part.aways, strict=True))
        return original(self, part._replace(aways=now), holding, ok)

    def finish(original: Any, self: Any, part: Any, holding: Any, *, ok: Any) -> Any:
        homes_now = zip(part.indices, part.aways, strict=True)
        now = tuple(holding.moves.get(index, home) for index, home in homes_now)
        original(self, part._replace(aways=now), holding, ok=ok)

    def finish_part(
        original: Any, self: Any, direction: Any, ticket: Any, part: Any, holding: Any, ok: Any
    ) -> Any:
        if direction != "move":
            (holding.outs if direction == "out" else holding.ins).add(ticket)
        return original(self, direction, ticket, part, holding, ok)

    mutants.wrap(patch, residency.Residency, "_note_copied_out", note)
    mutants.wrap(patch, relocation.Relocation, "finish", finish)
    mutants.wrap(patch, residency.Residency, "_finish", finish_part)


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
        generations_are_not_checked,
        a_space_is_used_again_too_early,
        slices_that_read_lost_memory_are_believed,
        slots_left_ignore_the_slices_in_flight,
        pages_that_arrived_go_on_moving,
        what_was_in_a_lost_home_is_believed,
        units_are_released_before_they_are_vacated,
        void_grants_are_kept,
        a_silent_borrower_goes_on,
        reclaims_are_not_heard,
    )
}


# That take more than a few seconds until a seed meets them.
LONG = {
    "slices_that_read_lost_memory_are_believed",
    "a_silent_borrower_goes_on",
    "pages_that_arrived_go_on_moving",
}
NAMES = [
    pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in sorted(MUTANTS)
]


@pytest.mark.parametrize("name", NAMES)
def test_the_random_runs_notice(name: str, monkeypatch: mutants.Patch) -> None:
    MUTANTS[name](monkeypatch)
    assert next(mutants.failures(monkeypatch), None) is not None
