"""From what happened in a run to the numbers of its arm in the report.

Knows: records, and the definitions in `metrics.py`. Does not know: how a run
was made or how numbers are shown. Numbers that have no value (a percentile of
nothing, a ratio to zero) are None, never NaN.
"""

from __future__ import annotations

import hashlib
import math
import resource
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aqua_jax.workloads import records

_LATE_SHARE_MAX = 0.01
_TIERS = ("peer", "host")


def summarise(record: records.RunRecord) -> dict[str, Any]:
    """The arm's numbers: names as in `metrics.ARM`, nested at the dots."""
    finished = [request for request in record.requests if request.finished]
    end_seconds = _end_seconds(record)
    intervals = [_interval(request, end_seconds) for request in record.requests]
    output_tokens = sum(len(request.token_ids) for request in finished)
    summary: dict[str, Any] = {
        "requests": len(record.requests),
        "finished": len(finished),
        "refused": sum(request.reason == "refused" for request in record.requests),
        "ttft_seconds": distribution(ttft_seconds(record.requests)),
        "tpot_seconds": distribution(_tpot_seconds(finished)),
        "e2e_seconds": distribution(e2e_seconds(finished)),
        "output_tokens": output_tokens,
        "output_tokens_per_second": ratio(output_tokens, union_seconds(intervals)),
        "makespan_seconds": _makespan_seconds(intervals),
        "prefill_share": ratio(record.prefill_seconds, record.device_seconds),
        "prefill_tokens": record.prefill_tokens,
        "preemptions": record.preemptions,
        "recomputed_tokens": record.recomputed_tokens,
        "overrun_tokens": record.overrun_tokens,
        "stall_seconds": record.stall_seconds,
        "paged_bytes": _paged_bytes(record),
        "copies": {
            "count": len(record.copy_bytes),
            "bytes_p50": percentile(record.copy_bytes, 50),
            "late": record.copies_late,
        },
        "device_idle_fraction": ratio(record.idle_seconds, record.busy_window_seconds),
        "controller_seconds": _controller_seconds(record),
        "fairness": {
            "jain": jain(_service_rates(record, intervals)),
            "service_gap_max": record.fairness.gap_max,
        },
        "token_ids_sha256": token_ids_sha256(finished),
    }
    if record.evidence == "simulated":  # seconds of this host do not belong to the simulated one
        del summary["controller_seconds"]
    if record.interrupted:
        summary["interrupted"] = True
    if record.prefix_query_tokens:
        summary["prefix"] = {
            "query_tokens": record.prefix_query_tokens,
            "hit_tokens": record.prefix_hit_tokens,
            "reused_share": ratio(record.prefix_hit_tokens, record.prefix_query_tokens),
            "cached_pages": record.cached_pages,
            "reusable_share": record.reusable_share,
        }
    if record.attended_bytes:
        summary["attended_bytes"] = dict(record.attended_bytes)
    if record.mover_errors:
        summary["mover_errors"] = record.mover_errors
    return summary


def summarise_tenants(record: records.RunRecord) -> dict[str, dict[str, Any]]:
    """The numbers of each tenant (`metrics.TENANT`), by name; empty when there is only one."""
    by_tenant = _group_by_tenant(record.requests)
    if len(by_tenant) < 2:
        return {}
    return {tenant: _summarise_tenant(by_tenant[tenant]) for tenant in sorted(by_tenant)}


def summarise_emulation(record: records.RunRecord) -> dict[str, Any]:
    """Whether an emulated run kept up with the times it emulates (`metrics.EMULATION`)."""
    copies = len(record.copy_bytes)
    late_share = max(
        ratio(record.slices_late, record.slices) or 0.0, ratio(record.copies_late, copies) or 0.0
    )
    return {
        "slices": record.slices,
        "slices_late": record.slices_late,
        "copies": copies,
        "copies_late": record.copies_late,
        "late_share": late_share,
        "valid": late_share <= _LATE_SHARE_MAX,
    }


def summarise_host(record: records.RunRecord, seconds: float) -> dict[str, Any]:
    """What this machine took to simulate a run (`metrics.HOST`): other in every run."""
    return {
        "seconds": seconds,
        "memory_bytes_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "dispatches": len(record.controller_seconds),
        "controller_seconds": _controller_seconds(record),
    }


def result_text(summary: Mapping[str, Any]) -> str:
    """An arm's result in a few words, from its summary."""
    slowest = summary["ttft_seconds"]["max"]
    if slowest is None:
        return "no token"
    tokens_per_second = summary["output_tokens_per_second"] or 0
    return f"first token max {slowest:.2f} s, {tokens_per_second:,.0f} tok/s"


def compare(baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> dict[str, Any]:
    """Ratios of two summaries (`metrics.COMPARISON`): above 1 the candidate is better."""

    def sooner(name: str, statistic: str) -> float | None:
        return _time_ratio(baseline[name][statistic], candidate[name][statistic])

    throughput = "output_tokens_per_second"
    return {
        "ttft_mean_ratio": sooner("ttft_seconds", "mean"),
        "ttft_p50_ratio": sooner("ttft_seconds", "p50"),
        "ttft_p90_ratio": sooner("ttft_seconds", "p90"),
        "ttft_p99_ratio": sooner("ttft_seconds", "p99"),
        "tpot_p50_ratio": sooner("tpot_seconds", "p50"),
        "tpot_p99_ratio": sooner("tpot_seconds", "p99"),
        "e2e_mean_ratio": sooner("e2e_seconds", "mean"),
        "e2e_p99_ratio": sooner("e2e_seconds", "p99"),
        "throughput_ratio": ratio(candidate[throughput], baseline[throughput]),
        "stall_ratio": _time_ratio(baseline["stall_seconds"], candidate["stall_seconds"]),
        "prefill_ratio": _time_ratio(baseline["prefill_tokens"], candidate["prefill_tokens"]),
        "token_ids_equal": baseline["token_ids_sha256"] == candidate["token_ids_sha256"],
    }


def distribution(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, nearest-rank percentiles and maximum; all None when empty."""
    return {
        "mean": ratio(math.fsum(values), len(values)),
        "p50": percentile(values, 50),
        "p90": percentile(values, 90),
        "p99": percentile(values, 99),
        "max": max(values, default=None),
    }


def ttft_seconds(requests: Iterable[records.RequestRecord]) -> list[float]:
    """Of each request that got a token, from its scheduled arrival to the first."""
    return [r.first_token_at - r.scheduled_at for r in requests if r.first_token_at is not None]


def e2e_seconds(finished: Iterable[records.RequestRecord]) -> list[float]:
    """Of each request that ended, from its scheduled arrival to that."""
    return [r.ended_at - r.scheduled_at for r in finished if r.ended_at is not None]


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The smallest value that at least `percent` % of the values do not exceed (nearest rank).

    >>> percentile([15, 20, 35, 40, 50], 30)
    20
    """
    if not values:
        return None
    rank = max(1, -(-percent * len(values) // 100))
    return sorted(values)[rank - 1]


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """The quotient, or None where it is not defined."""
    if numerator is None or not denominator:
        return None
    return numerator / denominator


def union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals (start, end).

    >>> union_seconds([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
    4.0
    """
    covered = 0.0
    reached = -math.inf
    for start, end in sorted(intervals):
        if end > reached:
            covered += end - max(start, reached)
            reached = end
    return covered


def jain(rates: Sequence[float]) -> float | None:
    """Jain's index of fairness (R. Jain et al., DEC-TR-301, 1984); None when all rates are 0."""
    return ratio(math.fsum(rates) ** 2, len(rates) * math.fsum(rate * rate for rate in rates))


def token_ids_sha256(finished: Iterable[records.RequestRecord]) -> str:
    """Digest over requests in id order of (id, count, ids) as little-endian int32."""
    digest = hashlib.sha256()
    for request in sorted(finished, key=lambda request: request.id):
        count = len(request.token_ids)
        digest.update(struct.pack(f"<{count + 2}i", request.id, count, *request.token_ids))
    return digest.hexdigest()


def _controller_seconds(record: records.RunRecord) -> dict[str, float | None]:
    seconds = sorted(record.controller_seconds)
    return {"p50": percentile(seconds, 50), "p99": percentile(seconds, 99)}


def _time_ratio(baseline: float | None, candidate: float | None) -> float | None:
    """Baseline over candidate; None unless both took time: 0 of a second is no factor."""
    return ratio(baseline, candidate) if baseline else None


def _end_seconds(record: records.RunRecord) -> float:
    """The last moment the record knows of: where requests that never ended are cut off."""
    moments = [sample.at_seconds for sample in record.samples]
    moments += [span.end_seconds for span in record.spans]
    for request in record.requests:
        known = (request.scheduled_at, request.first_token_at, request.ended_at)
        moments += [moment for moment in known if moment is not None]
    return max(moments, default=0.0)


def _interval(request: records.RequestRecord, end_seconds: float) -> tuple[float, float]:
    """The seconds in which the request was unfinished."""
    ended_at = end_seconds if request.ended_at is None else request.ended_at
    return request.scheduled_at, max(request.scheduled_at, ended_at)


def _tpot_seconds(finished: Iterable[records.RequestRecord]) -> list[float]:
    return [
        (r.ended_at - r.first_token_at) / (len(r.token_ids) - 1)
        for r in finished
        if r.ended_at is not None and r.first_token_at is not None and len(r.token_ids) > 1
    ]


def _makespan_seconds(intervals: Sequence[tuple[float, float]]) -> float | None:
    if not intervals:
        return None
    return max(end for _, end in intervals) - min(start for start, _ in intervals)


def _paged_bytes(record: records.RunRecord) -> dict[str, Any]:
    paged: dict[str, Any] = {
        direction: dict.fromkeys(_TIERS, 0) | record.paged_bytes.get(direction, {})
        for direction in ("out", "in")
    }
    return paged | {"wasted": record.wasted_bytes}


def _service_rates(
    record: records.RunRecord, intervals: Sequence[tuple[float, float]]
) -> list[float]:
    """Service a second: of each tenant while it competed with another, else of each request."""
    if len({request.tenant for request in record.requests}) > 1:
        contended = record.fairness.contended.values()
        return [tenant.service / tenant.seconds for tenant in contended if tenant.seconds > 0]
    return [
        request.service / (end - start)
        for request, (start, end) in zip(record.requests, intervals, strict=True)
        if end > start
    ]


def _group_by_tenant(
    requests: Iterable[records.RequestRecord],
) -> dict[str, list[records.RequestRecord]]:
    groups: dict[str, list[records.RequestRecord]] = {}
    for request in requests:
        groups.setdefault(request.tenant, []).append(request)
    return groups


def _summarise_tenant(requests: Sequence[records.RequestRecord]) -> dict[str, Any]:
    finished = [request for request in requests if request.finished]
    return {
        "requests": len(requests),
        "finished": len(finished),
        "ttft_seconds": distribution(ttft_seconds(requests)),
        "e2e_seconds": distribution(e2e_seconds(finished)),
        "output_tokens": sum(len(request.token_ids) for request in finished),
        "service": math.fsum(request.service for request in requests),
        "preemptions": sum(request.preemptions for request in requests),
    }
