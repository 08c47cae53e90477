"""Measurement against figures worked out by hand and a naive second opinion."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqua_jax.workloads import fairness, measure, records
from tests.workloads import synthetic


def test_a_run_computed_by_hand():
    record = records.RunRecord(
        arm="a",
        evidence="measured",
        requests=[
            # ttft 1, e2e 5, 5 tokens: tpot (5 - 1) / 4 = 1
            synthetic.request(0, scheduled_at=0, first_token_at=1, ended_at=5, tokens=5),
            # ttft 3, e2e 3, one token: no tpot
            synthetic.request(1, scheduled_at=1, first_token_at=4, ended_at=4, tokens=1),
            # after a gap of 5 s; ttft 2, e2e 3, 3 tokens: tpot 0.5
            synthetic.request(2, scheduled_at=10, first_token_at=12, ended_at=13, reason="stop"),
            # aborted: counts with its first token (0.5 s), not with its tokens or its end
            synthetic.request(3, scheduled_at=10, first_token_at=10.5, ended_at=11, reason="abort"),
            synthetic.request(
                4, scheduled_at=11, first_token_at=None, ended_at=11, tokens=0, reason="refused"
            ),
        ],
        controller_seconds=[0.3, 0.1, 0.2],
        copy_bytes=[10, 30],
        copies_late=1,
        prefill_tokens=5,
        preemptions=6,
        recomputed_tokens=7,
        overrun_tokens=8,
        stall_seconds=0.25,
        idle_seconds=1.0,
        busy_window_seconds=8.0,
        prefill_seconds=2.0,
        device_seconds=5.0,
        paged_bytes={"out": {"peer": 40}, "in": {"disk": 5}},
        wasted_bytes=9,
        fairness=fairness.Fairness({}, gap_max=3.5),
    )
    assert measure.summarise(record) == {
        "requests": 5,
        "finished": 3,
        "refused": 1,
        "ttft_seconds": {"mean": 6.5 / 4, "p50": 1, "p90": 3, "p99": 3, "max": 3},
        "tpot_seconds": {"mean": 0.75, "p50": 0.5, "p90": 1, "p99": 1, "max": 1},
        "e2e_seconds": {"mean": 11 / 3, "p50": 3, "p90": 5, "p99": 5, "max": 5},
        "output_tokens": 9,
        "output_tokens_per_second": 9 / 8,  # unfinished in [0, 5] and [10, 13]
        "makespan_seconds": 13,
        "prefill_share": 0.4,
        "prefill_tokens": 5,
        "preemptions": 6,
        "recomputed_tokens": 7,
        "overrun_tokens": 8,
        "stall_seconds": 0.25,
        "paged_bytes": {
            "out": {"peer": 40, "host": 0},
            "in": {"peer": 0, "host": 0, "disk": 5},
            "wasted": 9,
        },
        "copies": {"count": 2, "bytes_p50": 10, "late": 1},
        "device_idle_fraction": 0.125,
        "controller_seconds": {"p50": 0.2, "p99": 0.3},
        "fairness": {"jain": measure.jain([1 / 5, 1 / 3, 1 / 3, 1]), "service_gap_max": 3.5},
        "token_ids_sha256": hashlib.sha256(
            np.array(
                [*(0, 5, 0, 1, 2, 3, 4), *(1, 1, 1), *(2, 3, 2, 3, 4)],
                dtype="<i4",
            ).tobytes()
        ).hexdigest(),
    }


def test_a_run_without_requests_has_null_and_not_nan():
    summary = measure.summarise(records.RunRecord(arm="a", evidence="measured"))
    assert set(summary["ttft_seconds"].values()) == {None}
    for name in ("output_tokens_per_second", "makespan_seconds", "prefill_share"):
        assert summary[name] is None
    assert summary["fairness"]["jain"] is None
    assert summary["token_ids_sha256"] == hashlib.sha256().hexdigest()


def test_an_interrupted_run_and_failed_copies_are_said():
    record = synthetic.run("a")
    assert not {"interrupted", "mover_errors"} & set(measure.summarise(record))
    record.interrupted = True
    record.mover_errors = 2
    summary = measure.summarise(record)
    assert (summary["interrupted"], summary["mover_errors"]) == (True, 2)


def test_a_request_that_never_ended_lasts_to_the_last_known_moment():
    record = records.RunRecord(arm="a", evidence="measured")
    record.requests = [
        synthetic.request(0, ended_at=2.0),
        synthetic.request(1, first_token_at=None, ended_at=None, tokens=0, reason=""),
    ]
    record.samples = [records.Sample(6.0, 1, 1, 0, {}, 3)]
    assert measure.summarise(record)["output_tokens_per_second"] == 3 / 6


def test_tenants_are_measured_apart_and_only_when_there_are_several():
    record = synthetic.run("a", requests=5, tenants=("x", "y"))
    tenants = measure.summarise_tenants(record)
    assert list(tenants) == ["x", "y"]
    assert (tenants["x"]["requests"], tenants["y"]["requests"]) == (3, 2)
    assert tenants["x"]["service"] == 3.0
    assert tenants["x"]["output_tokens"] == 9
    assert measure.summarise_tenants(synthetic.run("a")) == {}


def test_fairness_compares_tenants_over_the_seconds_in_which_they_competed():
    record = records.RunRecord(arm="a", evidence="measured")
    record.requests = [
        synthetic.request(id, ended_at=10, tenant=tenant, service=100.0)
        for id, tenant in enumerate("xyz")
    ]
    record.fairness.contended = {  # z never waited beside another
        "x": fairness.Contended(seconds=3.0, service=6.0),
        "y": fairness.Contended(seconds=2.0, service=2.0),
    }
    assert measure.summarise(record)["fairness"]["jain"] == pytest.approx(
        (2 + 1) ** 2 / (2 * (2**2 + 1**2))
    )
    record.fairness.contended = {}
    assert measure.summarise(record)["fairness"]["jain"] is None


def test_emulation_is_valid_up_to_one_late_in_a_hundred():
    record = records.RunRecord(arm="a", evidence="emulated", slices=200, slices_late=2)
    assert measure.summarise_emulation(record)["valid"]
    record.copy_bytes, record.copies_late = [1] * 50, 1
    summary = measure.summarise_emulation(record)
    assert (summary["late_share"], summary["valid"]) == (0.02, False)


def test_compare_is_better_above_one():
    fcfs = measure.summarise(synthetic.run("fcfs", first_token_seconds=4.0))
    fair = measure.summarise(synthetic.run("fair", first_token_seconds=1.0))
    comparison = measure.compare(fcfs, fair)
    assert comparison["ttft_p99_ratio"] == pytest.approx(4.0)
    assert comparison["e2e_mean_ratio"] == pytest.approx(5 / 2)
    assert comparison["tpot_p99_ratio"] == pytest.approx(1.0)
    assert comparison["stall_ratio"] == 1.0
    # 12 tokens in 10..18 s against 12 in 10..15 s.
    assert comparison["throughput_ratio"] == pytest.approx(8 / 5)
    assert comparison["token_ids_equal"]


def test_compare_leaves_open_what_is_not_defined():
    nothing = measure.summarise(records.RunRecord(arm="a", evidence="measured"))
    comparison = measure.compare(nothing, measure.summarise(synthetic.run("b")))
    assert {value for name, value in comparison.items() if name.endswith("_ratio")} == {None}
    assert not comparison["token_ids_equal"]


@given(st.lists(st.integers(-50, 50), min_size=1), st.integers(1, 100))
def test_percentile_is_the_least_value_that_enough_do_not_exceed(values, percent):
    enough = [v for v in values if sum(w <= v for w in values) * 100 >= percent * len(values)]
    assert measure.percentile(values, percent) == min(enough)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_union_seconds_counts_every_second_once(spans):
    covered = {second for start, length in spans for second in range(start, start + length)}
    assert measure.union_seconds([(s, s + length) for s, length in spans]) == len(covered)


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=20))
def test_jain_lies_between_one_share_and_one(rates):
    index = measure.jain(rates)
    assert index is not None
    assert 1 / len(rates) - 1e-9 <= index <= 1 + 1e-9
    assert measure.jain([rates[0]] * len(rates)) == pytest.approx(1.0)
    assert measure.jain([rates[0]] + [0.0] * 3) == pytest.approx(0.25)


_SECONDS = st.integers(0, 40)
_REQUESTS = st.lists(
    st.tuples(
        _SECONDS, _SECONDS, _SECONDS, st.integers(1, 6), st.sampled_from(["length", "abort"])
    ),
    max_size=10,
)


@given(_REQUESTS)
def test_summary_agrees_with_a_naive_one_second_at_a_time(drawn):
    record = records.RunRecord(arm="a", evidence="measured")
    for id, (at, wait, rest, tokens, reason) in enumerate(drawn):
        record.requests.append(
            synthetic.request(
                id,
                scheduled_at=at,
                first_token_at=at + wait,
                ended_at=at + wait + rest,
                tokens=tokens,
                reason=reason,
            )
        )
    summary = measure.summarise(record)
    busy = sum(any(at <= t < at + wait + rest for at, wait, rest, *_ in drawn) for t in range(200))
    done = [row for row in drawn if row[4] == "length"]
    tokens = sum(row[3] for row in done)
    tpots = sorted(row[2] / (row[3] - 1) for row in done if row[3] > 1)
    assert summary["finished"] == len(done)
    assert summary["output_tokens"] == tokens
    assert summary["output_tokens_per_second"] == (pytest.approx(tokens / busy) if busy else None)
    assert summary["ttft_seconds"]["max"] == max((row[1] for row in drawn), default=None)
    assert summary["tpot_seconds"]["max"] == (pytest.approx(tpots[-1]) if tpots else None)
    assert summary["e2e_seconds"]["mean"] == (
        pytest.approx(sum(row[1] + row[2] for row in done) / len(done)) if done else None
    )


def test_digest_depends_on_ids_counts_and_tokens_and_not_on_order():
    first, second = synthetic.request(1), synthetic.request(2)
    digest = measure.token_ids_sha256([first, second])
    assert measure.token_ids_sha256([second, first]) == digest
    assert measure.token_ids_sha256([first]) != digest
    second.token_ids = [2, 3, 5]
    assert measure.token_ids_sha256([first, second]) != digest
