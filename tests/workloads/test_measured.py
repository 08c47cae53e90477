"""What was measured beside what is simulated: reading, matching, arithmetic by hand."""

from __future__ import annotations

import pathlib

import pytest

from aqua_jax.control import errors
from aqua_jax.workloads import measured, metrics, records
from tests.workloads import synthetic

HEADER = "req_time_s,client,prompt_len,output_len,first_token_s,latency_s\n"


def write(folder: pathlib.Path, *rows: str) -> pathlib.Path:
    path = folder / "trace.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def request(id: int, tenant: str, at: float, first: float, latency: float, tokens: int = 5):
    return synthetic.request(
        id,
        tenant=tenant,
        scheduled_at=at,
        first_token_at=at + first,
        ended_at=at + latency,
        tokens=tokens,
    )


def run(*requests: records.RequestRecord) -> records.RunRecord:
    return records.RunRecord(arm="a", evidence="simulated", requests=list(requests))


def test_latencies_are_read_from_the_first_row_on(tmp_path):
    rows = measured.read(write(tmp_path, "2.5,x,4,8,1.0,3.0", "4.0,y,5,2,0.5,0.75"))
    assert [(r.tenant, r.scheduled_at, r.first_token_at, r.ended_at) for r in rows] == [
        ("x", 0.0, 1.0, 3.0),
        ("y", 1.5, 2.0, 2.25),
    ]
    assert [(r.prompt_tokens, len(r.token_ids)) for r in rows] == [(4, 8), (5, 2)]
    assert all(r.finished for r in rows)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["1.0,x,4,8,1.0,soon"], "line 2: found 1.0, 4, 8, 1.0, soon; expected numbers for"),
        (["1.0,x,4,8,3.0,2.0"], "line 2: found 3 and 2; expected 0 <= first_token_s <= latency_s"),
        (["1.0,x,4,8,1.0,nan"], "expected 0 <= first_token_s <= latency_s"),
        ([], "found no rows"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, rows, said):
    with pytest.raises(errors.TraceError, match=said.replace("(", r"\(")):
        measured.read(write(tmp_path, *rows))


def test_requests_are_matched_by_tenant_and_arrival_and_only_those_finished_in_both():
    own = run(request(0, "x", 0.0, 1, 2), request(1, "y", 1.0, 1, 2), request(2, "x", 1.0, 1, 2))
    own.requests[2].reason = "abort"
    own.measured = [request(7, "x", 1.0, 3, 4), request(8, "x", 0.0000000001, 3, 4)]
    (pair,) = measured.pairs(own)
    assert (pair.measured.id, pair.simulated.id) == (8, 0)
    arrivals = [records.Arrival(2.0, 4, 8, tenant="x")]
    measured.check(own.measured, [records.Arrival(1.0, 4, 8, tenant="x")], "a")
    with pytest.raises(errors.ConfigError, match=r"none of the 1 requests is among the 2 of"):
        measured.check(own.measured, arrivals, "a")


def test_figures_by_hand():
    own = run(request(0, "x", 0.0, 1, 5), request(1, "x", 10.0, 3, 3, tokens=1))
    own.measured = [request(0, "x", 0.0, 2, 10), request(1, "x", 10.0, 2, 2, tokens=1)]
    table = measured.summarise(own)
    assert list(table) == ["client x"]  # no windows in a trace this short
    assert table["client x"] == {
        "requests": 2,
        "ttft_mean_seconds": {"measured": 2.0, "simulated": 2.0},
        "ttft_mean_ratio": 1.0,
        "ttft_p99_seconds": {"measured": 2.0, "simulated": 3.0},
        "ttft_p99_ratio": 1.5,
        "e2e_mean_seconds": {"measured": 6.0, "simulated": 4.0},
        "e2e_mean_ratio": 4.0 / 6.0,
        "e2e_p99_seconds": {"measured": 10.0, "simulated": 5.0},
        "e2e_p99_ratio": 0.5,
        # Until the last arrival, second 10: all five of the first; the second's comes later.
        "output_tokens_per_second": {"measured": 0.5, "simulated": 0.5},
        "output_tokens_ratio": 1.0,
    }
    undefined = metrics.undefined({"measured": {"a": table}})
    assert not undefined


def test_windows_of_arrivals_stand_below_the_whole():
    times = (0.0, 100.0, 130.0, 239.0)
    own = run(*(request(i, "x", at, 1, 2) for i, at in enumerate(times)))
    own.measured = [request(i, "x", at, 2, 4) for i, at in enumerate(times)]
    table = measured.summarise(own)
    assert {name: row["requests"] for name, row in table.items()} == {
        "client x": 4,
        "client x, 0 to 120 s": 2,
        "client x, 120 to 240 s": 2,
    }
    assert {row["ttft_mean_ratio"] for row in table.values()} == {0.5}


def test_what_was_not_measured_has_no_table():
    assert measured.summarise(run(request(0, "x", 0.0, 1, 2))) == {}


def test_tokens_are_spread_from_the_first_to_the_last():
    requests = [request(0, "x", 0.0, 1, 5), request(1, "x", 3.0, 1, 1, tokens=1)]
    assert measured.tokens_between(requests, [0.0, 2.0, 4.0, 6.0]) == [2.0, 2.0, 2.0]
    assert measured.tokens_between(requests, [0.0, 1.0]) == [0.0]
