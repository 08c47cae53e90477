"""The engine on toy devices: what it refuses, delivers, survives and gives back."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from aqua_jax.control import errors, tickets, types
from aqua_jax.control.policies import base
from aqua_jax.engine import engine, usage
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench as benches


def make(**fields: Any) -> benches.Bench:
    return benches.Bench(benches.Scenario(**fields))


def finish(bench: benches.Bench) -> None:
    bench.run_until(lambda: bench.engine.idle)
    bench.check_all_free()


def cramped(**fields: Any) -> benches.Bench:
    """Six pages and quanta of four tokens: two sessions of twelve units take turns."""
    policy = base.PolicySettings(quantum_tokens=4)
    return make(policy=policy, pool_pages=7, tier_pages=(64,), **fields)


REQUEST = toy.request([3, 1, 4], 12)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "text"}, "a request of kind 'text'; this engine runs 'toy'"),
        ({"prompt_units": 0}, "prompt_units is 0; give at least 1"),
        ({"steps_max": -1}, "steps_max is -1; give at least 1"),
        ({"weight": 0.0}, "weight is 0.0; give a number from 0.001 to 1000.0"),
        ({"weight": float("inf")}, "weight is inf; give a number from 0.001 to 1000.0"),
        ({"deadline_seconds": 0.0}, "deadline_seconds is 0.0; give a number above 0, or None"),
        (
            {"deadline_seconds": float("nan")},
            "deadline_seconds is nan; give a number above 0, or None",
        ),
        ({"payload": 5}, "payload 5; use simulation.toy.request"),
        (
            {"prompt_units": 1 << 20},
            "1048576 prompt units and up to 12 more need 1048587 units; a session of this runner"
            " holds 1048576",
        ),
    ],
)
def test_malformed_requests_are_refused_at_once(fields: dict[str, Any], text: str) -> None:
    request = dataclasses.replace(REQUEST, **fields)
    bench = make()
    with pytest.raises(errors.RequestError) as caught:
        bench.engine.submit(request)
    assert str(caught.value) == text
    assert bench.engine.idle


def test_settings_are_checked() -> None:
    for ahead_seconds, drain_seconds in ((-1.0, 1.0), (0.0, 0.0), (float("nan"), 1.0)):
        with pytest.raises(errors.ConfigError, match="give at least 0 and more than 0"):
            engine.EngineSettings(ahead_seconds=ahead_seconds, drain_seconds=drain_seconds)
    with pytest.raises(errors.ConfigError, match="stream_tokens_max is 0"):
        engine.EngineSettings(stream_tokens_max=0)


def test_tokens_reach_the_client_as_they_come() -> None:
    bench = make()
    stream = bench.engine.submit(REQUEST)
    seen = []
    while not stream.ended:
        bench.step()
        seen.append(len(tokens) if (tokens := stream.read()) else 0)
    assert sum(seen) == 12
    assert len([count for count in seen if count]) > 1
    assert stream.first_token_at is not None
    assert 0 < stream.first_token_at < (stream.ended_at or 0)


def test_slice_k_plus_1_is_dispatched_before_slice_k_ends() -> None:
    bench = make(steps_max=8)
    ends, starts = [], []
    dispatch = bench.runner.dispatch

    def spy(batch: types.Batch) -> Any:
        ticket = dispatch(batch)
        starts.append(bench.clock.now())
        ends.append(ticket)
        return ticket

    bench.runner.dispatch = spy
    bench.engine.submit(toy.request([1], 60))
    finish(bench)
    finished = [ticket.finished_at for ticket in ends]
    ahead = [
        end - start for end, start in zip(finished, starts[1:], strict=False) if end is not None
    ]
    # From the third on the pace is known: 4 ms before the running one ends, not earlier.
    assert ahead[2:] == pytest.approx([0.004] * len(ahead[2:]), abs=1e-3)


def test_a_stop_is_seen_one_slice_late_and_the_surplus_is_dropped() -> None:
    request = next(
        request
        for seed in range(100)
        if 3 < len(toy.expected_tokens(request := toy.request([seed], 40, stop_modulus=5))) < 30
    )
    bench = make(steps_max=2)
    stream = bench.engine.submit(request)
    finish(bench)
    assert stream.reason == "stop"
    assert stream.read() == toy.expected_tokens(request)


def test_abort_ends_a_session_once_and_unknown_ids_are_over() -> None:
    bench = make()
    stream = bench.engine.submit(REQUEST)
    bench.step()
    for id in (stream.id, stream.id, 999):
        bench.engine.abort(id)
    bench.step()
    assert stream.reason == "abort"
    finish(bench)
    tokens = stream.read()
    assert tokens == toy.expected_tokens(REQUEST)[: len(tokens)]
    assert len(tokens) < 12


def test_any_thread_may_submit_and_abort() -> None:
    bench = make(lanes=4)
    streams = []

    def work(seed: int) -> None:
        streams.append(bench.engine.submit(toy.request([seed], 6)))
        bench.engine.abort(bench.engine.submit(toy.request([seed], 600 // 6)).id)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finish(bench)
    assert sorted(stream.reason for stream in streams) == ["length"] * 8


def test_a_deadline_ends_a_session_on_time() -> None:
    bench = make(lanes=1)
    long = bench.engine.submit(toy.request([1], 60))
    stream = bench.engine.submit(
        types.Request(
            kind="toy",
            prompt_units=3,
            steps_max=100,
            payload=REQUEST.payload,
            deadline_seconds=0.03,
        )
    )
    finish(bench)
    assert (stream.reason, stream.ended_at) == ("deadline", pytest.approx(0.03))
    assert long.reason == "length"


def test_a_full_queue_ends_the_stream_with_its_reason() -> None:
    bench = make(controller={"sessions_max": 1})
    first, second = bench.engine.submit(REQUEST), bench.engine.submit(REQUEST)
    finish(bench)
    assert (first.reason, second.reason) == ("length", "refused")
    with pytest.raises(errors.QueueFullError, match="1 sessions are living"):
        list(second.tokens())


def test_a_full_inbox_refuses_at_once_and_takes_more_after_a_step() -> None:
    bench = make()
    bench.engine.settings = dataclasses.replace(bench.engine.settings, inbox_max=1)
    first = bench.engine.submit(REQUEST)
    with pytest.raises(errors.QueueFullError, match=r"1 requests wait .* inbox_max"):
        bench.engine.submit(REQUEST)
    bench.step(None)
    second = bench.engine.submit(REQUEST)
    finish(bench)
    assert (first.reason, second.reason) == ("length", "length")


def test_a_slice_that_ends_while_the_next_is_decided_leaves_an_idle_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = make()
    decide, host_seconds = bench.controller.decide, 0.05  # a slice takes a tenth of that

    def slow(now: float) -> Any:
        bench.clock.wait([], now + host_seconds)
        return decide(now)

    monkeypatch.setattr(bench.controller, "decide", slow)
    bench.engine.submit(REQUEST)
    finish(bench)
    seconds = bench.engine.usage.seconds
    assert seconds[usage.Use.IDLE] > seconds[usage.Use.RUNNING] > 0


def test_weights_far_apart_leave_no_tenant_behind() -> None:
    bench = make()
    for weight in (1e3, 1e-3, 1e-3):
        bench.engine.submit(dataclasses.replace(REQUEST, weight=weight, tenant="a"))
    finish(bench)


def test_who_does_not_read_is_parked_and_goes_on_when_it_reads() -> None:
    bench = make(stream_tokens_max=2, steps_max=2)
    stream = bench.engine.submit(REQUEST)
    got = []
    for _ in range(20):
        for _ in range(50):
            bench.step(bench.clock.now() + 0.01)
        tokens = stream.read()
        assert len(tokens) <= 2 + 2 * 3
        got += tokens
        if stream.ended:
            break
    assert stream.reason == "length"
    assert got == toy.expected_tokens(REQUEST)


def test_draining_takes_no_more_and_lets_the_living_end() -> None:
    bench = make()
    stream = bench.engine.submit(REQUEST)
    bench.engine.drain(1.0)
    assert stream.reason == "length"
    with pytest.raises(errors.QueueFullError, match="draining and takes no more"):
        bench.engine.submit(REQUEST)
    bench.check_all_free()


def test_draining_aborts_what_does_not_end_in_time() -> None:
    bench = cramped()
    streams = [bench.engine.submit(toy.request([seed] * 12, 12)) for seed in range(4)]
    bench.engine.drain(0.02)
    assert [stream.reason for stream in streams].count("abort") >= 2
    assert bench.clock.now() < 0.1
    bench.check_all_free()


def test_a_slice_that_never_ends_is_reported() -> None:
    bench = make()
    bench.runner.dispatch = lambda batch: tickets.Ticket("stuck")
    bench.engine.submit(REQUEST)
    bench.step()
    with pytest.raises(errors.InternalError, match="1 slices did not end within drain_seconds=10"):
        bench.engine.close()
    assert bench.clock.now() == pytest.approx(10.0)


def test_a_failed_slice_costs_time_and_no_token() -> None:
    calm, failing = cramped(), cramped(fail_at=frozenset({3, 9}))
    ends = []
    for bench in (calm, failing):
        requests = [toy.request([seed] * 12, 12) for seed in range(3)]
        streams = [bench.engine.submit(request) for request in requests]
        finish(bench)
        assert [stream.read() for stream in streams] == [toy.expected_tokens(r) for r in requests]
        ends.append(bench.clock.now())
    assert ends[1] > ends[0]
    assert failing.controller.counters.recomputed_tokens > 0


def test_slices_that_keep_failing_end_the_sessions_and_not_the_engine() -> None:
    bench = make(fail_at=frozenset(range(1, 9)))
    stream = bench.engine.submit(REQUEST)
    bench.run_until(lambda: stream.ended)
    assert stream.reason == "error"
    with pytest.raises(RuntimeError, match="failed on purpose"):
        list(stream.tokens())
    later = []
    for _ in range(8):
        later.append(bench.engine.submit(REQUEST))
        finish(bench)
    assert later[-1].read() == toy.expected_tokens(REQUEST)


@pytest.mark.parametrize("faults", [{"fail": 0.4}, {"refuse": 0.4}, {"delay": 0.8}])
def test_failing_copies_cost_time_and_no_token(faults: dict[str, float]) -> None:
    bench = cramped(faults=toy.ToyFaults(seed=1, **faults))
    requests = [toy.request([seed] * 12, 12) for seed in range(4)]
    streams = [bench.engine.submit(request) for request in requests]
    finish(bench)
    assert [stream.read() for stream in streams] == [toy.expected_tokens(r) for r in requests]
    assert (bench.controller.counters.copy_errors > 0) == ("delay" not in faults)


def test_integrity_covers_streams() -> None:
    bench = make()
    bench.engine.submit(REQUEST)
    bench.step()
    bench.controller.end(bench.controller.sessions[1], "abort", 0.0)
    with pytest.raises(errors.InternalError, match="streams and the controller's sessions differ"):
        bench.engine.check_integrity()
