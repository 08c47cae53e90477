"""The index: what it names is there, and what is given up is named no more."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors, pages, prefixes, spare

ONE, TWO = 1, 2  # sessions


def make(
    device_pages: int = 4, slots: int = 3
) -> tuple[prefixes.Index, pages.PagePool, spare.Slots]:
    device = pages.PagePool(0, device_pages)
    return (
        prefixes.Index(device),
        device,
        spare.Slots([spare.Tier("host", pages.PagePool(1, slots))]),
    )


def found(index: prefixes.Index, key: int) -> prefixes.Entry:
    entry = index.get(key)
    assert entry is not None
    return entry


def test_a_page_stays_named_after_its_owner_until_its_memory_is_wanted() -> None:
    index, device, _ = make()
    first, second = device.acquire(ONE, 2)
    index.add(10, first)
    index.add(11, second)
    device.release([first, second], ONE)
    assert (device.free_count, device.cached_count) == (4, 2)
    assert found(index, 10).page == first
    device.acquire(TWO, 3)  # of the two the last of the chain goes first
    assert index.get(11) is None
    assert found(index, 10).page == first
    device.acquire(TWO, 1)
    assert len(index) == 0
    index.check_integrity()


def test_content_that_is_computed_twice_is_named_once() -> None:
    index, device, _ = make()
    first, second = device.acquire(ONE, 2)
    index.add(10, first)
    index.add(10, second)
    assert found(index, 10).page == first
    assert not device.is_kept(second)


def test_what_lost_its_device_page_lives_on_in_its_slot() -> None:
    index, device, slots = make()
    (page,) = device.acquire(ONE, 1)
    (away,) = slots.take(ONE, 1)
    index.add(10, page)
    index.note_away(10, away)
    device.release([page], ONE)
    slots.give_up(ONE, [away])
    device.acquire(TWO, 4)
    entry = found(index, 10)
    assert (entry.page, entry.away) == (-1, away)
    assert entry.can_come_back
    slots.take(TWO, 3)
    assert index.get(10) is None
    index.check_integrity()


def test_a_copy_that_fails_leaves_nothing_behind() -> None:
    index, device, slots = make()
    (page,) = device.acquire(ONE, 1)
    (away,) = slots.take(ONE, 1)
    away.in_flight = True
    index.add(10, page, arriving=True)
    index.note_away(10, away)
    assert not found(index, 10).can_come_back
    index.arrived(device.place(page), ok=False)
    assert found(index, 10).page == -1
    index.arrived(away.place, ok=False)
    assert index.get(10) is None
    assert not device.is_kept(page)
    index.check_integrity()


def test_a_copy_that_has_arrived_can_be_used() -> None:
    index, device, slots = make()
    (page,) = device.acquire(ONE, 1)
    (away,) = slots.take(ONE, 1)
    away.in_flight = True
    index.note_away(10, away)
    index.add(10, page, arriving=True)
    index.arrived(away.place, ok=True)
    index.arrived(device.place(page), ok=True)
    entry = found(index, 10)
    assert entry.can_come_back
    assert not entry.arriving


def test_a_slot_that_is_called_back_gives_way_to_another() -> None:
    index, _, slots = make()
    former, home = slots.take(ONE, 2)
    index.note_away(10, former)
    former.tier.slots.call_back([former.slot])
    assert not found(index, 10).is_copied
    index.note_away(10, home)
    assert found(index, 10).away is home
    slots.give_up(ONE, [former])
    assert former.tier.slots.retired_count == 1
    index.check_integrity()


def test_a_cached_slot_that_is_called_back_is_forgotten() -> None:
    index, _, slots = make()
    (away,) = slots.take(ONE, 1)
    index.note_away(10, away)
    slots.give_up(ONE, [away])
    away.tier.slots.call_back([away.slot])
    assert index.get(10) is None
    assert away.tier.slots.retired_count == 1


def test_the_index_follows_what_moves() -> None:
    index, _, slots = make()
    former, home = slots.take(ONE, 2)
    index.note_away(10, former)
    index.moved(former, home)
    assert index.has(home)
    assert not index.has(former)
    index.check_integrity()


def test_what_was_lost_is_not_named() -> None:
    index, device, slots = make()
    first, second = device.acquire(ONE, 2)
    one, two = slots.take(ONE, 2)
    index.add(10, first)
    index.note_away(10, one)
    index.note_away(11, two)
    index.void_space(slots.tiers[0])
    assert found(index, 10).away is None
    assert index.get(11) is None
    index.add(12, second)
    index.void()
    assert len(index) == 0
    device.release([first, second], ONE)
    assert device.cached_count == 0
    index.check_integrity()


def test_a_page_that_nobody_keeps_is_noticed() -> None:
    index, device, _ = make()
    (page,) = device.acquire(ONE, 1)
    index.add(10, page)
    device.forget(page)
    with pytest.raises(errors.InternalError, match="is not kept by space 0"):
        index.check_integrity()
