"""Pages shared by sessions: on the device, away, on the way, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from aqua_jax.control import copying, errors, pages, residency, spare, types
from tests.control import desk

PROMPT = tuple(range(1, 11))  # ten units: two full pages and a half


def page_keys(session: types.Session, first: int, end: int) -> list[int]:
    units: Sequence[int] = [*session.request.payload, *session.emitted]
    return [
        hash((session.salt, *units[: (page + 1) * desk.PAGE_UNITS])) for page in range(first, end)
    ]


class Scene:
    """A residency that shares pages. Slices complete at once, copies when the test says so."""

    def __init__(self, pool_pages: int = 12, slots: int = 12) -> None:
        self.memory = residency.Residency(
            pages.PagePool(0, pool_pages + 1, reserved=1),
            [spare.Tier("host", pages.PagePool(1, slots))],
            pages_needed=desk.pages_needed,
            units_in_page=desk.units_in_page,
            page_keys=page_keys,
        )
        self.sessions: list[types.Session] = []
        self.tickets = 0

    def come(self, prompt: Sequence[int] = PROMPT, **fields: Any) -> types.Session:
        request = types.Request(
            prompt_units=len(prompt), steps_max=8, payload=tuple(prompt), **fields
        )
        session = types.Session(len(self.sessions) + 1, request, 0.0)
        session.planned_known = session.known
        self.sessions.append(session)
        return session

    def join(self, session: types.Session) -> list[copying.Copy]:
        """It takes what it reuses and pages for its prompt; without copies that is computed."""
        need = self.memory.pages_for(session, session.known)
        copies = self.memory.begin_with(session, need - self.memory.sharing.at_hand(session))
        session.state = types.State.RUNNING
        if not copies and not self.memory.is_arriving(session):
            self.compute(session)
        return copies

    def compute(self, session: types.Session) -> None:
        session.cached = session.planned_cached = session.known
        self.memory.sharing.register(session, session.known)
        self.check()

    def leave(self, session: types.Session) -> list[copying.Copy]:
        copies = self.memory.leave(session, units=session.planned_cached, last_dispatch=0)
        assert copies is not None
        session.state = types.State.LEAVING
        return copies

    def begin(self, copies: list[copying.Copy]) -> list[int]:
        first = self.tickets + 1
        for copy in copies:
            self.tickets += 1
            self.memory.begin(copy, self.tickets)
        self.check()
        return list(range(first, self.tickets + 1))

    def end(self, tickets: list[int], *, ok: bool = True) -> list[copying.Arrived]:
        arrived = [one for ticket in tickets for one in self.memory.finish(ticket, ok=ok)]
        self.check()
        return arrived

    def drop(self, session: types.Session) -> None:
        self.memory.drop(session, last_dispatch=0)
        session.cached = session.planned_cached = 0
        session.state = types.State.WAITING
        self.check()

    def table(self, session: types.Session) -> list[int]:
        return list(self.memory.table(session))

    def check(self) -> None:
        self.memory.check_integrity([s for s in self.sessions if s.planned_cached])


def moved(copies: list[copying.Copy]) -> int:
    return sum(len(copy.moves) for copy in copies)


def test_a_second_session_computes_only_what_the_first_does_not_share() -> None:
    scene = Scene()
    first, second = scene.come(), scene.come((*PROMPT[:8], 99, 98))
    scene.join(first)
    assert scene.memory.sharing.match(second) == (2, 8, 0)
    scene.join(second)
    assert scene.table(first)[:2] == scene.table(second)[:2]
    assert scene.table(first)[2] != scene.table(second)[2]
    assert scene.memory.device.used_count == 4


def test_the_last_unit_is_always_computed() -> None:
    scene = Scene()
    first, second = scene.come(PROMPT[:8]), scene.come(PROMPT[:8])
    scene.join(first)
    assert scene.memory.sharing.match(second).units == 4
    scene.join(second)
    assert scene.table(first)[0] == scene.table(second)[0]
    assert scene.table(first)[1] != scene.table(second)[1]


def test_pages_outlive_the_session_that_made_them() -> None:
    scene = Scene()
    first, second = scene.come(), scene.come()
    scene.join(first)
    table = scene.table(first)
    scene.drop(first)
    assert scene.memory.device.free_count == 12
    assert scene.memory.sharing.match(second) == (2, 8, 2)  # they come out of what is FREE
    scene.join(second)
    assert scene.table(second)[:2] == table[:2]


def test_a_shared_page_stays_while_anybody_has_it() -> None:
    scene = Scene(pool_pages=5)
    first, second = scene.come(), scene.come()
    scene.join(first)
    scene.join(second)
    scene.drop(first)
    (other,) = scene.memory.device.acquire(99, 1)
    assert other not in scene.table(second)
    assert scene.memory.device.free_count == 1


@pytest.mark.parametrize("salts", [("a", "b"), (None, "b"), ("", None)])
def test_salts_keep_sessions_apart(salts: tuple[str | None, str | None]) -> None:
    scene = Scene()
    first, second = (scene.come(cache_salt=salt, tenant="t") for salt in salts)
    scene.join(first)
    assert scene.memory.sharing.match(second).pages == 0


def test_tenants_share_where_they_give_one_salt_and_else_do_not() -> None:
    scene = Scene()
    scene.join(scene.come(tenant="a"))
    scene.join(scene.come(tenant="a", cache_salt="both"))
    assert scene.memory.sharing.match(scene.come(tenant="b")).pages == 0
    assert scene.memory.sharing.match(scene.come(tenant="b", cache_salt="both")).pages == 2


def test_an_away_copy_is_made_once_for_all_who_share() -> None:
    scene = Scene()
    first, second = scene.come(), scene.come()
    scene.join(first)
    scene.join(second)
    out = scene.leave(first)
    assert moved(out) == 3
    assert scene.memory.slots_wanted(second, units=10) == 1
    also = scene.leave(second)  # while the first copy is under way
    assert moved(also) == 1
    tickets = scene.begin([*out, *also])
    assert not scene.memory.is_whole_away(second)
    scene.end(tickets[1:])
    assert not scene.memory.is_whole_away(second)
    assert {one.session for one in scene.end(tickets[:1])} == {1, 2}
    assert scene.memory.is_whole_away(first)
    assert scene.memory.is_whole_away(second)
    assert scene.memory.slots.free_count == 8


def test_who_waited_for_a_copy_that_failed_is_told() -> None:
    scene = Scene()
    first, second = scene.come(), scene.come()
    scene.join(first)
    scene.join(second)
    tickets = scene.begin([*scene.leave(first), *scene.leave(second)])
    scene.drop(first)  # whose copy it is
    assert scene.end(tickets[:1], ok=False) == [(2, "out", False)]
    assert not scene.memory.is_whole_away(second)
    scene.drop(second)
    scene.end(tickets[1:])
    assert scene.memory.slots.free_count == 12


def test_who_comes_back_takes_the_pages_that_others_have() -> None:
    scene = Scene()
    first, second = scene.come(), scene.come()
    scene.join(first)
    scene.join(second)
    scene.end(scene.begin(scene.leave(first)))
    assert scene.memory.sharing.at_hand(first) == 2
    back = scene.memory.arrive(first)
    first.state = types.State.RUNNING
    assert moved(back) == 1
    scene.end(scene.begin(back))
    assert scene.table(first)[:2] == scene.table(second)[:2]


def test_who_shares_a_page_under_way_waits_for_it() -> None:
    scene = Scene()
    first, second = scene.come(), scene.come()
    scene.join(first)
    scene.end(scene.begin(scene.leave(first)))
    scene.drop(first)
    scene.memory.device.acquire(99, 12)  # what was cached on the device is gone
    scene.memory.device.release(range(1, 13), 99)
    coming = scene.begin(scene.join(first))
    assert scene.memory.is_arriving(first)
    assert moved(scene.join(second)) == 0
    assert scene.memory.is_arriving(second)
    assert {one.session for one in scene.end(coming)} == {1, 2}
    assert not scene.memory.is_arriving(second)
    assert scene.table(first)[:2] == scene.table(second)[:2]


def test_what_victims_share_counts_once_they_all_go() -> None:
    scene = Scene()
    first, second = scene.come(), scene.come()
    scene.join(first)
    scene.join(second)
    dropped: dict[int, int] = {}
    assert scene.memory.sharing.gives_up(first, dropped) == 1
    assert scene.memory.sharing.gives_up(second, dropped) == 3


def test_a_shared_page_that_will_be_written_to_is_noticed() -> None:
    scene = Scene()
    first = scene.come()
    scene.join(first)
    scene.memory.device.share(scene.table(first)[2:], 2)
    with pytest.raises(errors.InternalError, match="session 1 will write to page 3"):
        scene.check()
