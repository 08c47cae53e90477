"""The Chrome trace: its structure, and what viewers refuse."""

from __future__ import annotations

import itertools
import json

from aqua_jax.workloads import chrome, records
from tests.workloads import synthetic


def _named(trace, name):
    return [event for event in trace["traceEvents"] if event["name"] == name]


def test_one_process_per_arm_and_one_row_per_track():
    runs = [synthetic.run("fcfs"), synthetic.run("cfs", evidence="emulated")]
    runs[1].spans.append(records.Span("device 0->peer", "page_out", 11.0, 11.25, {"bytes": 7}))
    trace = json.loads(json.dumps(chrome.trace(runs), allow_nan=False))
    assert [e["args"]["name"] for e in _named(trace, "process_name")] == [
        "fcfs (measured)",
        "cfs (emulated)",
    ]
    assert [(e["pid"], e["args"]["name"]) for e in _named(trace, "thread_name")] == [
        (1, "device 0"),
        (2, "device 0"),
        (2, "device 0->peer"),
    ]
    (out,) = _named(trace, "page_out")
    assert (out["ts"], out["dur"], out["args"]) == (1_000_000.0, 250_000.0, {"bytes": 7})


def test_every_event_has_what_its_phase_needs():
    trace = chrome.trace([synthetic.run("fcfs")])
    needed = {"M": {"args"}, "X": {"ts", "dur", "cat", "args"}, "C": {"ts", "args"}}
    for event in trace["traceEvents"]:
        assert {"name", "ph", "pid", "tid"} | needed[event["ph"]] == set(event)
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0
    counters = _named(trace, "sessions")
    assert len(counters) == 8
    assert counters[1]["args"] == {"running": 1, "waiting for first token": 1, "away": 1}
    assert _named(trace, "pages")[3]["args"] == {"device": 4, "peer": 3}


def test_spans_that_overlap_get_rows_of_their_own():
    run = records.RunRecord(arm="a", evidence="measured")
    times = [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0), (3.5, 5.0), (3.6, 3.7)]
    run.spans = [records.Span("link", "copy", start, end) for start, end in times]
    trace = chrome.trace([run])
    names = [e["args"]["name"] for e in _named(trace, "thread_name")]
    assert names == ["link", "link (2)", "link (3)"]
    bars = sorted(_named(trace, "copy"), key=lambda e: (e["tid"], e["ts"]))
    assert len(bars) == len(times)
    for one, two in itertools.pairwise(bars):
        if one["tid"] == two["tid"]:
            assert one["ts"] + one["dur"] <= two["ts"]


def test_an_arm_without_events_is_an_empty_process():
    trace = chrome.trace([records.RunRecord(arm="a", evidence="measured")])
    assert [event["name"] for event in trace["traceEvents"]] == ["process_name"]
