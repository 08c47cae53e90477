"""Every transition of a session, by the public methods of a controller run by hand."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors, types
from tests.control import desk as desks

State = types.State
EVERYWHERE = [state for state in State if state is not State.ENDED]


def bring_to(state: State) -> tuple[desks.Desk, types.Session]:
    """A desk with a session in `state`, and a second one that drives it there."""
    desk = desks.Desk(pool_pages=6, quantum_tokens=2, steps_contended=1, chunk_units=16)
    session = desk.submit(16, 8)
    if state is State.WAITING:
        return desk, session
    desk.round()
    if state is State.RUNNING:
        return desk, session
    if state is State.PAUSED:
        desk.controller.park(session)
        desk.controller.unpark(session)
        return desk, session
    desk.submit(16, 8)
    while session.state is not State.LEAVING:
        desk.advance()
    if state is State.LEAVING:
        return desk, session
    desk.land()
    while state is State.ARRIVING and session.state is not State.ARRIVING:
        desk.land()
        desk.advance()
    return desk, session


@pytest.mark.parametrize("state", EVERYWHERE)
def test_every_state_is_reached_as_drawn(state: State) -> None:
    desk, session = bring_to(state)
    assert session.state is state
    assert desk.controller.count_states()[state] >= 1
    assert (session.lane >= 0) == (state in (State.RUNNING, State.ARRIVING))
    assert (desk.memory.held(session) > 0) == (
        state in (State.RUNNING, State.PAUSED, State.ARRIVING)
    )
    desk.settle()
    desk.finish()
    assert session.reason == "length"
    assert len(session.emitted) == 8


@pytest.mark.parametrize("in_flight", [False, True])
@pytest.mark.parametrize("state", EVERYWHERE)
def test_abort_in_every_state_gives_all_pages_back(state: State, in_flight: bool) -> None:
    desk, session = bring_to(state)
    carried = in_flight and desk.decide().batch is not None
    desk.controller.end(session, "abort", 1.0)
    assert (session.state, session.reason) == (State.ENDED, "abort")
    assert session.id not in desk.controller.sessions
    desk.check()
    if carried:
        assert [s.session.id for s in desk.observe()] != [session.id]  # its outcome is dropped
    desk.settle()
    desk.finish()


@pytest.mark.parametrize("state", EVERYWHERE)
def test_parked_in_every_state_it_runs_no_more_until_it_is_unparked(state: State) -> None:
    desk, session = bring_to(state)
    desk.controller.park(session)
    desk.check()
    others = [s for s in desk.controller.sessions.values() if s is not session]
    desk.settle()
    for _ in range(40):
        desk.round()
    assert all(other.state is State.ENDED for other in others)
    emitted = len(session.emitted)
    desk.rounds(3)
    assert len(session.emitted) == emitted < 8
    assert session.state in (State.WAITING, State.PAUSED, State.AWAY)
    desk.controller.unpark(session)
    desk.finish()
    assert len(session.emitted) == 8


def test_parking_and_unparking_twice_is_once() -> None:
    desk, session = bring_to(State.RUNNING)
    for change in (desk.controller.park, desk.controller.unpark):
        change(session)
        change(session)
        desk.check()
    desk.finish()


@pytest.mark.parametrize("state", [State.LEAVING, State.ARRIVING])
def test_a_failed_copy_means_to_recompute(state: State) -> None:
    desk, session = bring_to(state)
    desk.land(ok=False)
    assert session.state is State.WAITING
    assert (session.cached, session.epoch) == (0, 1)
    assert desk.controller.counters.copy_errors == 1
    assert desk.controller.counters.recomputed_tokens > 0
    desk.finish()
    assert len(session.emitted) == 8


def test_a_failed_early_copy_costs_nothing() -> None:
    desk = desks.Desk(
        pool_pages=6, quantum_tokens=6, steps_contended=1, early_pages=4, chunk_units=16
    )
    first = desk.submit(16, 8)
    desk.round()
    desk.submit(16, 8)
    while not desk.copies:
        desk.advance()
    assert first.state is State.RUNNING
    desk.land(ok=False)
    assert first.state is State.RUNNING
    assert desk.controller.counters.recomputed_tokens == 0
    desk.finish()


def test_integrity_names_what_is_wrong() -> None:
    desk, session = bring_to(State.RUNNING)
    session.state = State.AWAY
    with pytest.raises(errors.InternalError, match="session 1 is away, queued: False"):
        desk.check()
    session.state, session.lane = State.ARRIVING, -1
    with pytest.raises(errors.InternalError, match="session 1 is arriving without a lane"):
        desk.check()
    session.state, session.lane = State.RUNNING, 3
    with pytest.raises(errors.InternalError, match="session 1 believes it holds lane 3"):
        desk.check()
    session.lane, session.cached = 0, 5
    with pytest.raises(errors.InternalError, match="5 cached units, 16 planned and nothing in fl"):
        desk.check()


def test_a_newcomer_that_loses_its_state_is_none_any_more() -> None:
    desk = desks.Desk(pool_pages=16, chunks_max=1)
    session = desk.submit(20, 4)
    desk.decide()  # 8 of its 20 rows
    assert session.fresh
    desk.controller.lose_all(0.0)
    assert (session.state, session.fresh, session.fragile) == (types.State.WAITING, False, True)
