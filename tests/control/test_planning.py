"""Which pages are dirty or full, and the copies that bring them to and from their slots."""

from __future__ import annotations

from aqua_jax.control import holdings, pages, planning, spare, types
from tests.control import desk


def make(cached: int, steps_max: int = 8) -> tuple[planning.Planner, types.Session]:
    """A planner over pages of 4 units, and a session of 4 prompt units with `cached` units."""
    planner = planning.Planner(pages.PagePool(0, 16), desk.units_in_page)
    session = types.Session(1, desk.make_request(4, steps_max), 0.0)
    session.cached = session.planned_cached = cached
    return planner, session


def holding_of(*units: int | None) -> holdings.Holding:
    """Pages 10, 11, ..., their copies in slots 0, 1, ... of a peer, every second one of a host."""
    peer, host = (spare.Tier(name, pages.PagePool(i, 8)) for i, name in ((1, "peer"), (2, "host")))
    away = [
        None if count is None else spare.Away((peer, host)[index % 2], index, count)
        for index, count in enumerate(units)
    ]
    return holdings.Holding(device=list(range(10, 10 + len(units))), away=[*away])


def test_dirty_are_pages_with_units_that_no_copy_has_as_they_are() -> None:
    planner, session = make(10)
    holding = holding_of(4, None, 1, None)
    assert planner.dirty(session, holding, range(4), 10) == [1, 2]
    assert planner.dirty(session, holding, range(2, 4), 9) == []


def test_full_pages_are_those_that_no_dispatch_will_write_to() -> None:
    planner, session = make(7)
    holding = holding_of(None, None, None)
    assert planner.full_pages(session, holding) == 1
    assert [planner.is_full(session, index) for index in range(3)] == [True, False, False]
    session.planned_cached = 8  # a slice in flight fills the second
    assert planner.full_pages(session, holding) == 2
    assert not planner.is_full(session, 1)


def test_copies_go_between_device_pages_and_slots_one_for_each_tier() -> None:
    planner, session = make(10)
    holding = holding_of(0, 0, 0)
    peer, host = planner.out(session, holding, [0, 1, 2], 10)
    assert [(c.direction, c.tier, len(c.moves)) for c in (peer, host)] == [
        ("out", "peer", 2),
        ("out", "host", 1),
    ]
    assert peer.moves[1] == types.Move(types.Place(0, 12), types.Place(1, 2), 2)
    assert peer.parts[0].indices == (0, 2)
    assert peer.parts[0].aways == (holding.away[0], holding.away[2])
    assert all(away is not None and away.in_flight for away in holding.away)
    back, _ = planner.into(session, holding, [0, 1])
    assert back.moves == (types.Move(types.Place(1, 0), types.Place(0, 10), 4),)
