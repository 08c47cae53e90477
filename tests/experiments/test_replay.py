"""Arrivals in, requests submitted when they are due, an end that leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import away_reads, recorder, replay, settings, trial
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench
from aqua_jax.workloads import records
from tests.experiments import tiny

WORKLOAD = settings.WorkloadSettings(
    requests=6, rate=2.0, prompt_scale=0.01, output_scale=0.1, prompt_max=24, output_max=40
)


def arrival(at_seconds: float, output_tokens: int = 5) -> records.Arrival:
    return records.Arrival(at_seconds, 4, output_tokens)


def replayed(drawn: list[records.Arrival], *, stop_after: int | None = None, **scenario):
    """(record, finished counts seen, bench) of a replay on toy devices."""
    made = bench.Bench(bench.Scenario(**scenario))
    record = records.RunRecord("arm", "simulated")
    keeper = recorder.Recorder(record, 1, away_reads.AwayReads())
    made.engine.observer = keeper
    wanted = [
        toy.request([n] * one.prompt_tokens, one.output_tokens) for n, one in enumerate(drawn)
    ]
    seen: list[int] = []
    asked = iter(range(1_000_000))
    replay.run(
        made.engine,
        keeper,
        drawn,
        wanted,
        on_sample=lambda sample, finished: seen.append(finished),
        stopped=lambda: stop_after is not None and next(asked) >= stop_after,
    )
    made.check_all_free()
    return record, seen, made


def test_requests_are_submitted_when_they_are_due_and_all_finish():
    drawn = [arrival(0.0), arrival(0.5), arrival(0.5), arrival(3.25)]
    record, seen, _ = replayed(drawn)
    assert [request.scheduled_at for request in record.requests] == [0.0, 0.5, 0.5, 3.25]
    for request in record.requests:
        assert request.finished
        assert request.first_token_at is not None
        # Alone on the device, each begins at once: within a wait of the clock.
        assert 0 < request.first_token_at - request.scheduled_at < 0.02
    assert seen == sorted(seen)
    assert not record.interrupted


def test_what_can_never_run_is_refused_and_the_rest_goes_on():
    drawn = [arrival(0.0), arrival(0.1, output_tokens=5_000), arrival(0.2)]
    record, _, _ = replayed(drawn, pool_pages=9)
    assert [request.reason for request in record.requests] == ["length", "refused", "length"]
    refused = record.requests[1]
    assert refused.ended_at == pytest.approx(0.1, abs=0.01)
    assert not refused.token_ids


def test_a_stop_ends_the_run_at_once_with_nothing_in_flight():
    drawn = [arrival(0.0, 80), arrival(0.0, 80), arrival(1e6)]
    record, _, made = replayed(drawn, stop_after=8)
    assert record.interrupted
    assert [request.reason for request in record.requests] == ["abort", "abort"]
    assert made.clock.now() < 1.0


def test_lengths_are_scaled_to_the_limits_and_the_rate_is_the_one_asked_for():
    drawn = replay.arrivals(dataclasses.replace(WORKLOAD, requests=400), units_max=64).arrivals
    assert max(one.prompt_tokens for one in drawn) == 24
    assert max(one.output_tokens for one in drawn) == 40
    assert min(one.prompt_tokens for one in drawn) >= 1
    assert (len(drawn) - 1) / drawn[-1].at_seconds == pytest.approx(2.0, rel=0.15)
    with pytest.raises(errors.ConfigError, match=r"prompt_max 24 \+ output_max 40 is over engine"):
        replay.arrivals(WORKLOAD, units_max=63)


def test_a_trace_that_is_not_sorted_is_sorted_and_said_so(tmp_path):
    path = tmp_path / "vtc.csv"
    rows = ["req_time_s,client,prompt_len,output_len", "3,a,7,5", "1,b,8,5", "2,c,9,5"]
    path.write_text("\n".join(rows) + "\n")
    workload = dataclasses.replace(
        WORKLOAD, trace=str(path), requests=3, prompt_scale=1.0, output_scale=1.0
    )
    drawn = replay.arrivals(workload, units_max=64)
    assert [one.prompt_tokens for one in drawn.arrivals] == [8, 9, 7]
    (note,) = drawn.notes
    assert note == (
        f"{path} is not sorted by time: 2 of its 3 rows stand behind a later one; it was sorted"
    )


def test_requests_are_the_same_for_a_seed_and_differ_between_seeds():
    drawn = replay.arrivals(WORKLOAD, units_max=64).arrivals
    first, again = (replay.requests(drawn, WORKLOAD, vocab_size=128) for _ in range(2))
    other = replay.requests(drawn, dataclasses.replace(WORKLOAD, seed=1), vocab_size=128)
    for one, same, different in zip(first, again, other, strict=True):
        assert one.prompt_units == len(one.payload.prompt_ids)
        np.testing.assert_array_equal(one.payload.prompt_ids, same.payload.prompt_ids)
        assert list(one.payload.prompt_ids) != list(different.payload.prompt_ids)
    assert len({one.payload.seed for one in first}) == len(first)


def test_tenants_of_the_generator_reach_the_requests():
    workload = dataclasses.replace(WORKLOAD, tenants=3, requests=60)
    drawn = replay.arrivals(workload, units_max=64).arrivals
    made = replay.requests(drawn, workload, vocab_size=128)
    assert {request.tenant for request in made} == {"tenant0", "tenant1", "tenant2"}


def test_a_mooncake_trace_replays_with_its_shared_prefixes(shared, tmp_path):
    rows = [
        {"timestamp": 40 * n, "input_length": 1024, "output_length": 60, "hash_ids": [7, 8 + n % 2]}
        for n in range(6)
    ]
    path = tmp_path / "mooncake.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    value, prompts = replay_trace(shared, path, requests=6)
    assert value["arms"]["fcfs"]["finished"] == 6
    assert len(tiny.digests(value)) == 1
    assert len({tuple(ids[:8]) for ids in prompts}) == 1  # hash id 7, scaled to 8 tokens
    assert len({tuple(ids) for ids in prompts}) == 2


def test_a_vtc_trace_replays_with_its_clients_as_tenants(shared, tmp_path):
    path = tmp_path / "vtc.csv"
    lines = [f"{n / 10},client{n % 2},700,80" for n in range(6)]
    path.write_text("\n".join(["req_time_s,client,prompt_len,output_len", *lines]) + "\n")
    value, _ = replay_trace(shared, path, requests=6)
    assert len(tiny.digests(value)) == 1
    tenants = value["tenants"]["cfs_peer"]
    assert {name: row["finished"] for name, row in tenants.items()} == {"client0": 3, "client1": 3}
    assert all(row["service"] > 0 for row in tenants.values())


def replay_trace(shared, path, *, requests: int):
    """(report, prompts) of a trace file on the smoke machine."""
    one = trial.Trial(
        tiny.experiment(
            arms="fcfs,cfs_peer", workload__trace=str(path), workload__requests=requests
        )
    )
    one.calibrate(shared)
    workload = one.experiment.workload
    drawn = replay.arrivals(workload, units_max=96).arrivals
    made = replay.requests(drawn, workload, vocab_size=shared.vocab_size)
    return tiny.run(one, shared).value, [request.payload.prompt_ids for request in made]
