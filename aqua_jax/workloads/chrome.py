"""A run as a Chrome trace: opens in Perfetto (ui.perfetto.dev) or chrome://tracing.

Knows: the trace event format (JSON object form; times in microseconds). Does
not know: what the spans mean. One process per arm, one row per track, and
counters for sessions, pages and tokens from the samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aqua_jax.workloads import records


def trace(runs: Sequence[records.RunRecord]) -> dict[str, Any]:
    """The trace of all arms, as a value for `json.dump`. Every arm starts at time 0."""
    events: list[dict[str, Any]] = []
    for process, run in enumerate(runs, start=1):
        events += _process_events(process, run)
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _process_events(process: int, run: records.RunRecord) -> list[dict[str, Any]]:
    start_seconds = _start_seconds(run)
    label = f"{run.arm} ({run.evidence})"
    events = [_metadata("process_name", process, 0, {"name": label})]
    for thread, (row, spans) in enumerate(_rows(run.spans), start=1):
        events.append(_metadata("thread_name", process, thread, {"name": row}))
        events.append(_metadata("thread_sort_index", process, thread, {"sort_index": thread}))
        events += [_bar(process, thread, span, start_seconds) for span in spans]
    for sample in run.samples:
        events += _counters(process, sample, start_seconds)
    return events


def _start_seconds(run: records.RunRecord) -> float:
    moments = [request.scheduled_at for request in run.requests]
    moments += [span.start_seconds for span in run.spans]
    moments += [sample.at_seconds for sample in run.samples]
    return min(moments, default=0.0)


def _rows(spans: Iterable[records.Span]) -> list[tuple[str, list[records.Span]]]:
    """(row name, spans) in order of tracks; a track whose spans overlap gets further rows.

    The format wants bars of one row to nest, and copies that are in flight
    together need not.
    """
    tracks: dict[str, list[list[records.Span]]] = {}
    for span in sorted(spans, key=lambda span: (span.start_seconds, span.end_seconds)):
        rows = tracks.setdefault(span.track, [])
        free = next((row for row in rows if row[-1].end_seconds <= span.start_seconds), None)
        if free is None:
            rows.append([span])
        else:
            free.append(span)
    return [
        (track if index == 0 else f"{track} ({index + 1})", row)
        for track, rows in sorted(tracks.items())
        for index, row in enumerate(rows)
    ]


def _metadata(name: str, process: int, thread: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": process, "tid": thread, "args": args}


def _bar(process: int, thread: int, span: records.Span, start_seconds: float) -> dict[str, Any]:
    start = _microseconds(span.start_seconds - start_seconds)
    end = _microseconds(span.end_seconds - start_seconds)
    return {
        "name": span.name,
        "cat": span.track,
        "ph": "X",
        "pid": process,
        "tid": thread,
        "ts": start,
        "dur": round(max(0.0, end - start), 3),
        "args": span.args,
    }


def _counters(
    process: int, sample: records.Sample, start_seconds: float
) -> Iterable[dict[str, Any]]:
    at = _microseconds(sample.at_seconds - start_seconds)
    sessions = {
        "running": sample.running,
        "waiting for first token": sample.waiting_first,
        "away": sample.away,
    }
    for name, values in (("sessions", sessions), ("pages", sample.pages)):
        if values:
            yield {"name": name, "ph": "C", "pid": process, "tid": 0, "ts": at, "args": values}


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)
