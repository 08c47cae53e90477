"""Slots of several tiers: the nearest first, busy while slices attend them."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors, pages, spare, types


def make_slots(**counts: int) -> spare.Slots:
    """Tiers by name, in spaces 1, 2, ..."""
    return spare.Slots(
        [spare.Tier(name, pages.PagePool(i, n)) for i, (name, n) in enumerate(counts.items(), 1)]
    )


def test_the_nearest_tier_is_filled_first() -> None:
    slots = make_slots(peer=2, host=4)
    taken = slots.take(7, 3)
    assert [away.place for away in taken] == [
        types.Place(1, 0),
        types.Place(1, 1),
        types.Place(2, 0),
    ]
    assert (slots.free_count, slots.capacity) == (3, 6)
    slots.give_up(7, taken)
    assert slots.free_count == 6


def test_more_than_there_are_is_a_bug_of_the_caller() -> None:
    with pytest.raises(errors.InternalError, match="session 7 takes 3 slots with 2 FREE"):
        make_slots(peer=2).take(7, 3)


def test_a_slot_that_slices_attend_is_free_when_they_have_completed() -> None:
    slots = make_slots(peer=2)
    slots.give_up(7, slots.take(7, 2), last_dispatch=4)
    slots.complete_dispatch(3)
    assert slots.free_count == 0
    slots.complete_dispatch(4)
    assert slots.free_count == 2


@pytest.mark.parametrize("place", [types.Place(1, 0), types.Place(127, (1 << 24) - 1)])
def test_an_entry_names_the_place_and_no_page_of_the_pool(place: types.Place) -> None:
    entry = types.away_entry(place)
    assert entry < 0
    assert types.entry_place(entry) == place
