"""Buffered tokens: the moment a client runs dry, and that it stands still while it waits."""

from __future__ import annotations

from aqua_jax.control import types
from aqua_jax.control.policies import base, buffered
from tests.control import desk as desks


def make(speed: float = 10.0) -> buffered.Buffered:
    return buffered.Buffered(
        base.PolicySettings(name="buffered", quantum_tokens=4, reading_tokens_per_second=speed)
    )


def arrive(policy: buffered.Buffered, id: int, at: float) -> types.Session:
    request = types.Request(prompt_units=8, steps_max=40)
    session = types.Session(id, request, at, planned_known=8)
    policy.arrive(session, 0.0)
    return session


def emit(policy: buffered.Buffered, session: types.Session, tokens: int, at: float) -> None:
    """So many are decided and, if they are the first, taken in at `at`."""
    policy.charge(session, 0, tokens)
    session.planned_known += tokens
    session.planned_cached = session.planned_known - 1
    session.first_emitted_at = at if session.first_emitted_at is None else session.first_emitted_at


def test_a_newcomers_client_has_nothing_to_read() -> None:
    policy = make()
    late, early = arrive(policy, 1, 3.0), arrive(policy, 2, 2.0)
    assert sorted([late, early], key=policy.key) == [early, late]
    policy.charge(early, 8, 0)
    assert early.vtime == 2.0  # a prompt is nothing to read


def test_it_runs_dry_when_all_that_was_emitted_is_read() -> None:
    policy = make(speed=10.0)
    one = arrive(policy, 1, 0.0)
    emit(policy, one, 1, at=5.0)
    assert one.vtime == 0.1  # when its first token comes is not known yet
    emit(policy, one, 4, at=6.0)
    assert one.vtime == 5.5
    emit(policy, one, 5, at=7.0)
    assert one.vtime == 6.0
    assert one.served == 10.0


def test_who_comes_after_it_ran_dry_does_not_go_before_it() -> None:
    policy = make()
    one = arrive(policy, 1, 0.0)
    emit(policy, one, 1, at=1.0)
    emit(policy, one, 9, at=1.0)
    assert one.vtime == 2.0
    before, after = arrive(policy, 2, 1.9), arrive(policy, 3, 2.1)
    assert sorted([one, after, before], key=policy.key) == [before, one, after]
    assert sorted([one, after, before], key=policy.prefill_key) == [before, one, after]


def test_work_that_is_done_again_counts_as_emitted() -> None:
    policy = make()
    one = arrive(policy, 1, 0.0)
    emit(policy, one, 1, at=1.0)
    one.fragile = True
    policy.charge(one, 8, 0)
    assert one.vtime == 1.0 + (1 + 4) / 10
    one.fragile = False
    emit(policy, one, 5, at=2.0)
    assert one.vtime == 1.0 + (6 + 4) / 10
    policy.end(one)
    again = arrive(policy, 1, 4.0)
    policy.charge(again, 8, 0)
    assert again.vtime == 4.0


def test_displacing_takes_a_spent_quantum_and_more_to_read() -> None:
    policy = make()
    running = arrive(policy, 1, 0.0)
    emit(policy, running, 3, at=1.0)
    waiting = arrive(policy, 2, 0.2)
    assert not policy.may_displace(waiting, running)
    emit(policy, running, 1, at=1.0)
    assert policy.may_displace(waiting, running)
    assert not policy.may_displace(running, waiting)


def test_the_controller_notes_when_the_first_token_came_once() -> None:
    desk = desks.Desk("buffered")
    session = desk.submit(8, 8)
    assert session.first_emitted_at is None
    desk.decide()
    desk.observe()
    assert session.emitted
    assert session.first_emitted_at == 0.0
    session.first_emitted_at = -5.0
    desk.finish()
    assert session.first_emitted_at == -5.0


def test_a_first_token_taken_in_while_it_waits_does_not_move_it() -> None:
    desk = desks.Desk("buffered", lanes=2)
    sessions = [desk.submit(8, 8) for _ in range(2)]
    desk.decide()
    desk.controller.park(sessions[0])
    desk.controller.unpark(sessions[0])
    assert sessions[0].state is types.State.PAUSED
    place = sessions[0].vtime
    desk.observe()  # checks the queue
    assert sessions[0].emitted
    assert sessions[0].vtime == place
    desk.finish()
