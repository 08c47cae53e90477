"""Invariant 1: a page is FREE when nobody owns, reads, writes or may still touch it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqua_jax.control import errors, pages, types

OWNER, OTHER = 1, 2


def make(count: int = 4) -> pages.PagePool:
    return pages.PagePool(0, count + 1, reserved=1)


def test_low_pages_first_and_never_the_reserved() -> None:
    pool = make()
    assert pool.acquire(OWNER, 2) == [1, 2]
    assert pool.acquire(OWNER, 2) == [3, 4]
    assert (pool.free_count, pool.used_count, pool.capacity) == (0, 4, 4)


def test_new_pages_follow_those_before_where_they_can() -> None:
    pool = make(8)
    first = pool.acquire(OWNER, 2)
    pool.acquire(OTHER, 1)
    pool.release(pool.acquire(OTHER, 3), OTHER)
    pool.release([3], OTHER)
    assert pool.acquire(OWNER, 3, after=first[-1]) == [3, 4, 5]
    pool.check_integrity()


def test_released_pages_become_one_run_again_whatever_held_them() -> None:
    pool = make(6)
    taken = pool.acquire(OWNER, 6)
    pool.begin_read(taken[2:4], ticket=3)
    pool.release(taken[:4], OWNER)
    pool.release(taken[4:], OWNER, last_dispatch=7)
    pool.complete_dispatch(7)
    pool.end_copy(3)
    pool.check_integrity()
    held = pool.acquire(OTHER, 1)
    assert pool.acquire(OWNER, 5) == [page for page in taken if page not in held]


def test_a_pool_must_have_pages_to_give() -> None:
    with pytest.raises(errors.ConfigError, match="ask for at least 2"):
        pages.PagePool(0, 1, reserved=1)


def test_more_than_free_is_our_bug() -> None:
    with pytest.raises(errors.InternalError, match=r"acquire\(5\) with 4 FREE"):
        make().acquire(OWNER, 5)


def test_a_page_waits_for_its_copy_and_its_dispatch_in_any_order() -> None:
    for copy_first in (True, False):
        pool = make()
        (page,) = pool.acquire(OWNER, 1)
        pool.begin_read([page], ticket=3)
        pool.release([page], OWNER, last_dispatch=7)
        ends = [lambda pool=pool: pool.end_copy(3), lambda pool=pool: pool.complete_dispatch(7)]
        for end in ends if copy_first else reversed(ends):
            assert not pool.is_free(page)
            assert pool.pending_count == 1
            end()
            pool.check_integrity()
        assert pool.is_free(page)
        assert pool.pending_count == 0


def test_a_page_waits_for_the_copy_into_it() -> None:
    pool = make()
    (page,) = pool.acquire(OWNER, 1)
    pool.begin_write([page], ticket=3)
    assert pool.is_copying(page)
    pool.release([page], OWNER)
    assert not pool.is_free(page)
    pool.end_copy(3)
    assert pool.is_free(page)
    assert not pool.is_copying(page)


def test_a_completed_dispatch_completes_all_before_it() -> None:
    pool = make()
    first, second = pool.acquire(OWNER, 2)
    pool.release([first], OWNER, last_dispatch=5)
    pool.release([second], OWNER, last_dispatch=9)
    pool.complete_dispatch(6)
    assert pool.is_free(first)
    assert not pool.is_free(second)
    pool.complete_dispatch(2)  # older news change nothing
    assert pool.completed_dispatch == 6


def test_owners_are_counted() -> None:
    pool = make()
    taken = pool.acquire(OWNER, 1)
    pool.share(taken, OWNER)
    pool.share(taken, OTHER)
    for owner in (OWNER, OTHER):
        pool.release(taken, owner)
        assert not pool.is_free(taken[0])
        pool.check_integrity()
    pool.release(taken, OWNER)
    assert pool.is_free(taken[0])


def test_misuse_is_named() -> None:
    pool = make()
    (page,) = pool.acquire(OWNER, 1)
    with pytest.raises(errors.InternalError, match=r"session 2 releases page 1 .* owned by \[1\]"):
        pool.release([page], OTHER)
    with pytest.raises(errors.InternalError, match="page 2 of space 0 has no owner"):
        pool.share([2], OWNER)
    with pytest.raises(errors.InternalError, match="copy 9 reads FREE page 2"):
        pool.begin_read([2], 9)
    with pytest.raises(errors.InternalError, match=r"copy 9 writes page 2 .* free=True"):
        pool.begin_write([2], 9)
    pool.begin_read([page], 8)
    with pytest.raises(errors.InternalError, match=r"copy 9 writes page 1 .* readers=1"):
        pool.begin_write([page], 9)
    pool.end_copy(8)
    pool.begin_write([page], 10)
    with pytest.raises(errors.InternalError, match=r"copy 9 reads page 1 .* copy 10 writes"):
        pool.begin_read([page], 9)


def test_several_copies_may_read_a_page_and_a_ticket_may_begin_in_parts() -> None:
    pool = make()
    first, second = pool.acquire(OWNER, 2)
    pool.begin_read([first], 3)
    pool.begin_read([first], 4)
    pool.begin_read([second], 4)
    pool.release([first, second], OWNER)
    pool.end_copy(4)
    assert not pool.is_free(first)
    assert pool.is_free(second)
    pool.end_copy(3)
    assert pool.is_free(first)
    pool.end_copy(3)  # unknown by now: nothing happens
    pool.check_integrity()


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=60))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_sequence_keeps_the_invariant_and_ends_free(steps: list[tuple[int, int]]) -> None:
    pool = make(6)
    owned: dict[int, list[int]] = {}
    copies: list[int] = []
    dispatch = 0
    for number, (what, which) in enumerate(steps, 1):
        owner = which % 3
        pages_of = owned.setdefault(owner, [])
        if what == 0 and pool.free_count:
            pages_of += pool.acquire(owner, 1 + which % pool.free_count)
        elif what == 1 and pages_of:
            pool.release([pages_of.pop()], owner, last_dispatch=dispatch)
        elif what in (2, 3) and pages_of and not pool.is_copying(pages_of[-1]):
            (pool.begin_read if what == 2 else pool.begin_write)([pages_of[-1]], number)
            copies.append(number)
        elif what == 4 and copies:
            pool.end_copy(copies.pop(which % len(copies)))
        elif what == 5:
            dispatch += 1
            pool.complete_dispatch(dispatch - which % 2)
        elif what == 6:
            pool.retire(which % 3)
        elif what == 7:
            page = 1 + which % 6
            gone = pool.is_called(page) or pool.is_retired(page)
            (pool.restore if gone else pool.call_back)([page])
        pool.check_integrity()
    for owner, pages_of in owned.items():
        pool.release(pages_of, owner, last_dispatch=dispatch)
    for copy in copies:
        pool.end_copy(copy)
    pool.complete_dispatch(dispatch)
    pool.check_integrity()
    assert pool.free_count == pool.capacity
    assert (pool.called_count, pool.capacity + pool.retired_count) == (0, 6)


def test_the_highest_free_pages_retire_and_come_back() -> None:
    pool = make(6)
    pool.acquire(OWNER, 1)
    held = pool.acquire(OTHER, 4)[-1]
    pool.release([2, 3, 4], OTHER)
    assert pool.retire(3) == [3, 4, 6]  # 5 is held
    assert (pool.capacity, pool.capacity_most, pool.free_count, pool.used_count) == (3, 6, 1, 2)
    assert (pool.retired_count, pool.called_count, pool.is_retired(6)) == (3, 0, True)
    assert pool.retire(9) == [2]
    pool.check_integrity()
    pool.restore([6, 3])
    assert pool.acquire(OWNER, 2) == [3, 6]
    pool.release([held], OTHER)
    pool.check_integrity()


def test_a_page_called_back_in_use_retires_where_it_would_have_turned_free() -> None:
    for copy_first in (True, False):
        pool = make()
        pool.acquire(OWNER, 4)
        pool.call_back([2, 3])
        pool.begin_read([2], ticket=9)
        pool.release([2, 4], OWNER, last_dispatch=7)
        assert (pool.called_count, pool.is_called(2), pool.capacity) == (2, True, 4)
        ends = [lambda pool=pool: pool.end_copy(9), lambda pool=pool: pool.complete_dispatch(7)]
        for end in ends if copy_first else reversed(ends):
            assert not pool.is_retired(2)
            end()
            pool.check_integrity()
        assert (pool.is_retired(2), pool.is_free(2), pool.free_count) == (True, False, 1)
        assert (pool.used_count, pool.capacity, pool.called_count) == (2, 3, 1)


def test_a_page_in_use_that_is_called_back_no_more_turns_free() -> None:
    pool = make()
    pool.acquire(OWNER, 4)
    pool.call_back([2])
    pool.restore([2])
    pool.release([2], OWNER)
    assert (pool.free_count, pool.capacity) == (1, 4)


def test_what_is_gone_from_the_pool_is_nobodys() -> None:
    pool = make()
    pool.retire(4)
    for use in (lambda: pool.begin_read([2], 9), lambda: pool.begin_write([2], 9)):
        with pytest.raises(errors.InternalError, match=r"copy 9 \w+ (FREE )?page 2"):
            use()
    with pytest.raises(errors.InternalError, match="page 2 of space 0 is not in the pool"):
        pool.call_back([2])
    with pytest.raises(errors.InternalError, match="page 0 of space 0 is not in the pool"):
        pool.call_back([0])
    pool.restore([2])
    with pytest.raises(errors.InternalError, match="page 2 of space 0 is restored, but was not c"):
        pool.restore([2])


def test_a_place_names_the_generation() -> None:
    pool = pages.PagePool(3, 4, generation=8)
    assert pool.place(2) == types.Place(3, 2, 8)
