"""The controller from outside: what it refuses, counts, and how little it looks at."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors, types
from aqua_jax.control.policies import cfs
from tests.control import desk as desks


def test_a_request_larger_than_the_pool_is_refused_with_the_way_out() -> None:
    controller = desks.Desk(pool_pages=8, tiers={"peer": 2, "host": 3}).controller
    controller.check_fits(desks.make_request(20, 13))  # 32 units: the last emitted is not cached
    with pytest.raises(errors.RequestError) as caught:
        controller.check_fits(desks.make_request(20, 14))
    assert str(caught.value) == (
        "a request of 20 prompt units and up to 14 more needs 9 pages; the pool has 8 (tiers:"
        " peer 2, host 3) and a session must be whole on the device to run: shorten it, raise"
        " memory.pool_pages, or set memory.attend_away"
    )
    with pytest.raises(errors.RequestError, match=r"\(tiers: none\)"):
        desks.Desk(pool_pages=8, tiers={}).controller.check_fits(desks.make_request(40, 1))


def test_a_full_queue_refuses() -> None:
    desk = desks.Desk(sessions_max=2)
    desk.submit(4, 4)
    desk.submit(4, 4)
    with pytest.raises(errors.QueueFullError, match="2 sessions are living, the limit sessions_"):
        desk.submit(4, 4)
    desk.finish()
    desk.submit(4, 4)


def test_emissions_carry_the_tokens_and_the_reason() -> None:
    desk = desks.Desk(steps_max=2)
    session = desk.submit(4, 4)
    desk.decide()
    (emission,) = desk.observe()
    assert (emission.session, emission.tokens, emission.finished) == (session, [0], "")
    desk.decide()
    (emission,) = desk.observe(stops=(session,))
    assert emission.finished == session.reason == "stop"
    assert not desk.controller.sessions


def test_prefill_is_charged_as_well_as_steps() -> None:
    desk = desks.Desk(chunk_units=8, steps_max=3)
    session = desk.submit(8, 8)
    desk.round()
    emitted = len(session.emitted)
    assert session.service == 8 * 0.5 + (emitted - 1)
    assert session.vtime == session.service


@pytest.mark.parametrize("prompt_units", [8, 9])
def test_who_has_a_token_is_no_newcomer_though_a_step_gave_it(prompt_units: int) -> None:
    desk = desks.Desk(chunk_units=8, chunks_max=1, steps_max=1)
    session = desk.submit(prompt_units, 8)
    for _ in range(4):
        desk.round()
        assert session.fresh == (not session.emitted and session.planned_known == prompt_units)
    assert session.emitted


def test_tokens_of_the_aborted_are_overrun_not_delivered() -> None:
    desk = desks.Desk()
    session = desk.submit(4, 8)
    desk.decide()
    desk.controller.end(session, "abort", 0.0)
    assert desk.observe() == []
    assert session.emitted == []
    assert desk.controller.counters.overrun_tokens > 0


def test_after_a_rebuild_everybody_with_state_recomputes() -> None:
    desk = desks.Desk(pool_pages=6, quantum_tokens=2, steps_contended=1, chunk_units=16)
    first = desk.submit(16, 8)
    desk.round()
    second = desk.submit(16, 8)
    desk.run_to(first, types.State.AWAY)
    desk.run_to(second, types.State.RUNNING)
    if first.state is not types.State.AWAY:
        pytest.fail("the first should be away while the second runs")
    desk.decide()
    desk.controller.lose_all(0.0)  # a failed slice voids the arenas that were written after it, too
    assert (first.state, first.cached) == (types.State.WAITING, 0)
    assert (second.state, second.cached) == (types.State.WAITING, 0)
    assert second.flights == 0
    desk.check()


def test_sessions_away_come_back_between_decisions() -> None:
    desk = desks.Desk(pool_pages=6, quantum_tokens=2, steps_contended=1, chunk_units=16)
    first = desk.submit(16, 8)
    desk.round()
    second = desk.submit(16, 8)
    desk.run_to(first, types.State.AWAY)
    assert desk.controller.bring_back(0.0) == ()  # no room beside the second
    desk.controller.end(second, "abort", 0.0)
    desk.settle()
    (copy,) = desk.controller.bring_back(0.0)
    assert copy.direction == "in"
    desk.begin((copy,))
    assert first.state is types.State.ARRIVING
    assert desk.controller.waits_for_copies
    desk.land()
    assert first.state is types.State.RUNNING
    assert not desk.controller.waits_for_copies
    desk.finish()


@pytest.mark.parametrize("policy", ["fcfs", "fcfs_reserve", "cfs_recompute"])
def test_policies_that_recompute_bring_nothing_back_and_copy_nothing(policy: str) -> None:
    desk = desks.Desk(policy, pool_pages=6, early_pages=8, quantum_tokens=1)
    for _ in range(4):
        desk.submit(8, 12)
    while desk.controller.sessions:
        assert desk.controller.bring_back(0.0) == ()
        desk.round()
    assert desk.memory.moved.out == {"peer": 0}


def test_early_copies_are_of_sessions_likely_to_leave_and_while_the_link_is_idle() -> None:
    desk = desks.Desk(
        pool_pages=6, quantum_tokens=6, steps_contended=1, early_pages=4, chunk_units=16
    )
    first = desk.submit(16, 8)
    desk.round()
    assert not desk.copies  # nobody waits
    assert desk.memory.moved.out["peer"] == 0
    desk.submit(16, 8)
    while not desk.copies:
        desk.advance()
    (copy,) = desk.copies.values()
    assert copy.direction == "out"
    assert first.state is types.State.RUNNING
    assert 0 < len(copy.moves) <= 4
    assert {move.units for move in copy.moves} == {4}
    desk.advance()
    assert len(desk.copies) == 1
    desk.settle()
    desk.finish()


def test_a_decision_touches_few_of_many_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]
    key = cfs.Cfs.key

    def counted(self: cfs.Cfs, session: types.Session) -> tuple[float, ...]:
        calls[0] += 1
        return key(self, session)

    monkeypatch.setattr(cfs.Cfs, "key", counted)
    most = []
    for waiting in (100, 10_000):
        desk = desks.Desk(pool_pages=12, lanes=4, quantum_tokens=2, steps_contended=1)
        for _ in range(waiting):
            desk.submit(8, 12)
        counts = []
        for _ in range(12):
            calls[0] = 0
            decision = desk.controller.decide(0.0)
            counts.append(calls[0])
            desk.begin(decision.copies)
            for ticket in list(desk.copies):
                del desk.copies[ticket]
                desk.controller.copied(types.Completion(ticket, 0, 0.0), 0.0)
            if decision.batch is not None:
                outcomes = [
                    types.Outcome(p.session.id, [0] * (p.steps + 1), "", p.prefill, p.steps)
                    for p in decision.batch.lanes
                ]
                desk.controller.observe(decision.dispatch, outcomes, 0.0)
        most.append(max(counts))
    assert 0 < most[1] <= most[0] + 8


def test_what_happened_is_in_the_log() -> None:
    desk = desks.Desk(pool_pages=6, quantum_tokens=2, steps_contended=1, chunk_units=16)
    for _ in range(2):
        desk.submit(16, 8)
    desk.finish()
    names = [event.name for event in desk.controller.log.events if event.session == 1]
    assert names[:2] == ["submit", "join"]
    assert {"leave", "arrive"} <= set(names)
    assert names[-1] == "end length"
