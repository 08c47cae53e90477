"""What a real system made of a workload, beside what a simulation makes of the same requests.

Knows: the latencies in VTC files (`traces.py` reads their arrivals), how the
two are compared. Does not know: how runs are made, how numbers are shown.

Requests are matched by tenant and time of arrival, and only those that both
have finished are compared, so a shorter file compares with the part it has.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aqua_jax.control import errors
from aqua_jax.workloads import lines, measure, records

WINDOW_SECONDS = 120.0  # of arrivals that are compared by themselves
_COLUMNS = ("req_time_s", "client", "prompt_len", "output_len", "first_token_s", "latency_s")
_PLACES = 6  # of a second, to which times of arrival are equal


class Pair(NamedTuple):
    """One request as it went in either."""

    measured: records.RequestRecord
    simulated: records.RequestRecord


def read(path: str | os.PathLike[str]) -> list[records.RequestRecord]:
    """The requests of a VTC file with their latencies, from its first row's time on.

    Token ids are positions: the file tells how many there were. Raises TraceError.
    """
    rows: list[records.RequestRecord] = []
    start: float | None = None
    for line, (at, client, *numbers) in lines.csv_rows(path, _COLUMNS):
        try:
            scheduled_at, first, latency = float(at), float(numbers[2]), float(numbers[3])
            prompt, output = int(numbers[0]), int(numbers[1])
        except ValueError:
            found = f"{at}, {', '.join(numbers)}"
            raise lines.wrong(path, line, found, f"numbers for {', '.join(_COLUMNS)}") from None
        if not 0 <= first <= latency < math.inf:
            expected = "0 <= first_token_s <= latency_s"
            raise lines.wrong(path, line, f"{first:g} and {latency:g}", expected)
        start = scheduled_at if start is None else start
        scheduled_at -= start
        rows.append(
            records.RequestRecord(
                id=len(rows),
                tenant=client,
                prompt_tokens=prompt,
                scheduled_at=scheduled_at,
                first_token_at=scheduled_at + first,
                ended_at=scheduled_at + latency,
                reason="length",
                token_ids=range(output),
            )
        )
    if not rows:
        raise lines.empty(path)
    return rows


def check(
    requests: Sequence[records.RequestRecord], arrivals: Sequence[records.Arrival], name: str
) -> None:
    """That some of the arrivals were measured. Raises ConfigError."""
    known = {_key(request.tenant, request.scheduled_at) for request in requests}
    if not any(_key(arrival.tenant, arrival.at_seconds) in known for arrival in arrivals):
        raise errors.ConfigError(
            f"none of the {len(arrivals)} requests is among the {len(requests)} of"
            f" report.measured.{name} by tenant and time of arrival; give a file of the same"
            " requests, and rates=0, the trace's own times"
        )


def pairs(run: records.RunRecord) -> list[Pair]:
    """The run's requests that were measured as well, in order; those that finished in both."""
    known = {_key(r.tenant, r.scheduled_at): r for r in run.measured if r.finished}
    finished = [(_key(r.tenant, r.scheduled_at), r) for r in run.requests if r.finished]
    return [Pair(known[key], request) for key, request in finished if key in known]


def summarise(run: records.RunRecord) -> dict[str, dict[str, Any]]:
    """Each tenant's figures (`metrics.MEASURED`), whole and by time of arrival; {} for none."""
    both = pairs(run)
    if not both:
        return {}
    end_seconds = max(pair.measured.scheduled_at for pair in both)
    tenants = sorted({pair.measured.tenant for pair in both})
    spans = [("", 0.0, end_seconds)]
    for low, high in _windows(end_seconds):
        spans.append((f", {low:g} to {high:g} s", low, high))
    table: dict[str, dict[str, Any]] = {}
    for tenant in tenants:
        its = [pair for pair in both if pair.measured.tenant == tenant]
        for label, low, high in spans:
            arrived = [p for p in its if low <= p.measured.scheduled_at < high or not label]
            if arrived:
                table[f"client {tenant}{label}"] = _compare(arrived, its, low, high)
    return table


def tokens_between(
    requests: Iterable[records.RequestRecord], edges: Sequence[float]
) -> list[float]:
    """Tokens emitted between each two neighbours of `edges`.

    A request's first token comes at once, the others evenly from there to its end: files tell
    no more.
    """
    totals = [0.0] * (len(edges) - 1)
    for request in requests:
        first, end = request.first_token_at, request.ended_at
        if first is None or end is None:
            continue
        others = len(request.token_ids) - 1
        for index, (low, high) in enumerate(itertools.pairwise(edges)):
            totals[index] += low <= first < high
            if end > first:
                totals[index] += others * max(0.0, min(high, end) - max(low, first)) / (end - first)
    return totals


def _key(tenant: str, at_seconds: float) -> tuple[str, float]:
    return tenant, round(at_seconds, _PLACES)


def _windows(end_seconds: float) -> Iterator[tuple[float, float]]:
    """Whole windows of arrivals; none when there would be one."""
    count = int(end_seconds / WINDOW_SECONDS + 0.5)
    if count > 1:
        for index in range(count):
            yield index * WINDOW_SECONDS, (index + 1) * WINDOW_SECONDS


def _compare(
    arrived: Sequence[Pair], its: Sequence[Pair], low: float, high: float
) -> dict[str, Any]:
    """Latencies of those that arrived in a window; tokens of all the tenant's, within it."""
    row: dict[str, Any] = {"requests": len(arrived)}
    sides = {name: [getattr(pair, name) for pair in arrived] for name in Pair._fields}
    latencies = {name: _latencies(requests) for name, requests in sides.items()}
    for latency in ("ttft", "e2e"):
        for statistic in ("mean", "p99"):
            seconds = {name: both[latency][statistic] for name, both in latencies.items()}
            row[f"{latency}_{statistic}_seconds"] = seconds
            row[f"{latency}_{statistic}_ratio"] = _ratio(seconds)
    if high > low:
        rates = {
            name: tokens_between([getattr(p, name) for p in its], (low, high))[0] / (high - low)
            for name in Pair._fields
        }
        row["output_tokens_per_second"] = rates
        row["output_tokens_ratio"] = _ratio(rates)
    return row


def _latencies(requests: Sequence[records.RequestRecord]) -> dict[str, dict[str, float | None]]:
    return {
        "ttft": measure.distribution(measure.ttft_seconds(requests)),
        "e2e": measure.distribution(measure.e2e_seconds(requests)),
    }


def _ratio(values: Mapping[str, float | None]) -> float | None:
    return measure.ratio(values["simulated"], values["measured"])
