"""Every number of a report: its name, unit and definition, in one table.

Knows: words. Does not know: how numbers are computed (`measure.py`) or drawn.
Report, web page, terminal tables and tests all read this table, so a number
that is not defined here cannot be shown.

Names are dotted paths into `report.json` below `arms.<arm>`; `*` stands for
any one name. A distribution is one metric: `STATISTICS` defines its members.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aqua_jax.workloads import benchmark_metrics, metric

Metric = metric.Metric
BENCHMARK = benchmark_metrics.BENCHMARK

STATISTICS: Mapping[str, str] = {
    "mean": "arithmetic mean",
    "p50": "median, nearest rank",
    "p90": "90th percentile, nearest rank",
    "p99": "99th percentile, nearest rank",
    "max": "largest",
}

ARM: Mapping[str, Metric] = {
    "requests": Metric("Requests", "requests", "requests of the workload"),
    "finished": Metric("Finished", "requests", "requests that got all their tokens"),
    "refused": Metric("Refused", "requests", "requests turned away at submission"),
    "ttft_seconds": Metric(
        "First token",
        "s",
        "TTFT: from scheduled arrival to the delivery of the first token, over all requests "
        "that got one",
    ),
    "tpot_seconds": Metric(
        "Time per token",
        "s",
        "TPOT: (end to end - first token) / (tokens - 1) of a finished request; requests of one "
        "token are left out",
    ),
    "e2e_seconds": Metric(
        "End to end", "s", "from scheduled arrival to the last token, over finished requests"
    ),
    "output_tokens": Metric("Output tokens", "tokens", "tokens emitted by finished requests"),
    "output_tokens_per_second": Metric(
        "Throughput",
        "tokens/s",
        "output tokens over the seconds in which at least one request was unfinished",
    ),
    "makespan_seconds": Metric("Makespan", "s", "from the first scheduled arrival to the last end"),
    "prefill_share": Metric("Prefill share", "share", "share of device seconds spent on prompts"),
    "prefill_tokens": Metric("Prefilled", "tokens", "tokens that prefill programs computed"),
    "prefix.query_tokens": Metric(
        "Looked up",
        "tokens",
        "tokens known of sessions without state when they began, whose pages were looked for; "
        "present where prefixes are reused, as are the next",
    ),
    "prefix.hit_tokens": Metric(
        "Reused", "tokens", "those of them whose pages were there, on the device or in a tier"
    ),
    "prefix.reused_share": Metric(
        "Reused share", "share", "reused tokens over those looked up: what was reached"
    ),
    "prefix.cached_pages": Metric(
        "Cached pages", "pages", "pages and slots kept for reuse that nobody uses, at the end"
    ),
    "prefix.reusable_share": Metric(
        "Reusable",
        "share",
        "share of the workload's prompt tokens in blocks with which an earlier request of the same "
        "tenant began too",
    ),
    "preemptions": Metric("Preemptions", "", "times a session lost its lane before its end"),
    "recomputed_tokens": Metric(
        "Recomputed", "tokens", "tokens computed again because their state had been given up"
    ),
    "overrun_tokens": Metric(
        "Overrun", "tokens", "tokens computed past a request's end and dropped, never emitted"
    ),
    "stall_seconds": Metric(
        "Stall", "s", "seconds a device idled while a decided session waited only for a copy"
    ),
    "paged_bytes.out.*": Metric("Paged out", "bytes", "bytes copied off the device to this tier"),
    "paged_bytes.in.*": Metric("Paged in", "bytes", "bytes copied back from this tier"),
    "paged_bytes.wasted": Metric(
        "Paged out early, unused", "bytes", "bytes copied out ahead of need and never used"
    ),
    "attended_bytes.*": Metric(
        "Attended away",
        "bytes",
        "bytes that slices read in this tier, where the pages were: each page that they see once a "
        "decode step and, at the least, once a prefill program; present when there were any",
    ),
    "copies.count": Metric("Copies", "", "batches of pages copied between tiers"),
    "copies.bytes_p50": Metric("Copy size p50", "bytes", "median bytes of a copy"),
    "copies.late": Metric("Late copies", "", "emulation: copies slower than the time they emulate"),
    "device_idle_fraction": Metric(
        "Device idle",
        "share",
        "share of wall time in which a session could run and no program was queued or running",
    ),
    "controller_seconds.p50": Metric(
        "Controller p50",
        "s",
        "host seconds of the controller for one dispatch, median: outcomes and copies taken in, "
        "slice and copies planned",
    ),
    "controller_seconds.p99": Metric(
        "Controller p99", "s", "the same, 99th percentile over dispatches"
    ),
    "fairness.jain": Metric(
        "Jain's index",
        "index",
        "evenness of service rates, (sum x)^2 / (n sum x^2); x is the weighted service of a "
        "tenant, over its weight, a second in which it and another tenant were backlogged (more "
        "unfinished requests than ran), or, with one tenant, of a request over its seconds in the "
        "system; 1 is perfectly even, 1/n is one takes all",
    ),
    "fairness.service_gap_max": Metric(
        "Largest service gap",
        "weighted tokens",
        "largest difference between two tenants, of weighted service over weight, in any period "
        "throughout which both were backlogged",
    ),
    "token_ids_sha256": Metric(
        "Token ids",
        "",
        "SHA-256 over finished requests in id order of (id, count, ids) as little-endian int32",
    ),
    "interrupted": Metric("Interrupted", "", "present and true when the run was cut short"),
    "mover_errors": Metric("Failed copies", "", "copies that failed; present when there were any"),
}

COMPARISON: Mapping[str, Metric] = {
    f"{name}_ratio": Metric(title, "ratio", definition)
    for name, title, definition in (
        ("ttft_mean", "First token mean", "TTFT mean, baseline over candidate"),
        ("ttft_p50", "First token p50", "TTFT p50, baseline over candidate"),
        ("ttft_p90", "First token p90", "TTFT p90, baseline over candidate"),
        ("ttft_p99", "First token p99", "TTFT p99, baseline over candidate"),
        ("tpot_p50", "Time per token p50", "TPOT p50, baseline over candidate"),
        ("tpot_p99", "Time per token p99", "TPOT p99, baseline over candidate"),
        ("e2e_mean", "End to end mean", "end-to-end mean, baseline over candidate"),
        ("e2e_p99", "End to end p99", "end-to-end p99, baseline over candidate"),
        ("throughput", "Throughput", "throughput, candidate over baseline"),
        ("prefill", "Prefilled", "prefill tokens, baseline over candidate"),
        ("stall", "Stall", "stall seconds, baseline over candidate"),
    )
} | {
    "token_ids_equal": Metric(
        "Same token ids", "", "both arms finished the same requests with the same token ids"
    ),
}

TENANT: Mapping[str, Metric] = {
    "service": Metric("Service", "weighted tokens", "weighted tokens charged to the tenant"),
    "preemptions": ARM["preemptions"],
    **{
        name: ARM[name]
        for name in ("requests", "finished", "ttft_seconds", "e2e_seconds", "output_tokens")
    },
}

_SWEPT = ("ttft_seconds", "tpot_seconds", "e2e_seconds", "output_tokens_per_second")
SWEEP: Mapping[str, Metric] = {
    "windows": Metric("Windows", "", "windows of the workload that the arm ran at this rate"),
    **{
        name: ARM[name]._replace(definition=f"{ARM[name].definition}; median over windows")
        for name in (*_SWEPT, "stall_seconds", "preemptions", "recomputed_tokens")
    },
    "paged_bytes": Metric(
        "Paged", "bytes", "bytes copied off the device and back, all tiers; median over windows"
    ),
    **{
        f"ratios.{name}.*": metric._replace(
            definition=f"{metric.definition}, the better of the baselines in each window: median"
            " and least over the windows, and each of them"
        )
        for name, metric in COMPARISON.items()
        if metric.unit == "ratio"
    },
}

# By client, whole and by time of arrival; of the requests that both finished.
MEASURED: Mapping[str, Metric] = {
    "requests": Metric("Requests", "requests", "requests that arrived within and are compared"),
    **{
        f"{name}_{statistic}_seconds.*": Metric(
            f"{ARM[f'{name}_seconds'].title} {statistic}",
            "s",
            f"{ARM[f'{name}_seconds'].definition}: {STATISTICS[statistic]}, as measured on a real "
            "system and as simulated",
        )
        for name in ("ttft", "e2e")
        for statistic in ("mean", "p99")
    },
    **{
        f"{name}_{statistic}_ratio": Metric(
            f"{ARM[f'{name}_seconds'].title} {statistic} ratio",
            "ratio",
            "simulated over measured",
        )
        for name in ("ttft", "e2e")
        for statistic in ("mean", "p99")
    },
    "output_tokens_per_second.*": Metric(
        "Tokens",
        "tokens/s",
        "output tokens of all the client's compared requests that were emitted within these "
        "seconds, over them; the whole: until the last arrival. A request's tokens are taken to "
        "come evenly from its first to its last",
    ),
    "output_tokens_ratio": Metric("Tokens ratio", "ratio", "simulated over measured"),
}

HOST: Mapping[str, Metric] = {
    "seconds": Metric("Simulated in", "s", "seconds of this machine for all runs of the arm"),
    "dispatches": Metric("Dispatches", "", "slices of all runs of the arm"),
    "memory_bytes_peak": Metric("Memory", "bytes", "the most that a process of this machine had"),
    "events": Metric("Events", "", "moments at which something happened in a simulated cluster"),
    "events_per_second": Metric("Events a second", "", "of this machine's seconds"),
    "controller_seconds.*": Metric(
        "Controller",
        "s",
        "seconds of this machine for one dispatch, of the run that is shown: the production "
        "controller's, in Python",
    ),
}

EMULATION: Mapping[str, Metric] = {
    "slices": Metric("Slices", "", "dispatches to the device"),
    "slices_late": Metric("Late slices", "", "slices slower than the time they emulate"),
    "copies": ARM["copies.count"],
    "copies_late": ARM["copies.late"],
    "late_share": Metric(
        "Late share", "share", "the larger of late slices and late copies, as shares"
    ),
    "valid": Metric("Valid", "", "at most 1 % of slices and of copies were late"),
}

PROGRAM: Mapping[str, Metric] = {
    "compiles": Metric("Compiles", "", "times the program was compiled"),
    "compile_seconds": Metric("Compile time", "s", "host seconds spent compiling"),
    "calls": Metric("Calls", "", "times the program was dispatched"),
    "seconds": Metric("Device time", "s", "device seconds of all its calls"),
}

LINK: Mapping[str, Metric] = {
    "source": Metric("From", "", "where copies start"),
    "target": Metric("To", "", "where copies end"),
    "mover": Metric("Mover", "", "what copied"),
    "latency_seconds": Metric(
        "Latency", "s", "from submission to completion of a copy of one page, the best of five"
    ),
    "bytes_per_second": Metric(
        "Bandwidth", "bytes/s", "bytes a second of the copies that carried the most"
    ),
    "plan_bytes_per_second.*": Metric(
        "Copies of",
        "bytes/s",
        "bytes a second of a copy of this size, from submission to completion, the best of five",
    ),
    "compared_bytes": Metric("Compared", "bytes", "bytes of the pattern that was sent"),
    "wrong_bytes": Metric("Wrong bytes", "", "bytes of the pattern that arrived changed"),
    "kept": Metric("Kept", "", "the speed was measured in an earlier run on this machine"),
    "refused": Metric("Refused", "", "why the link is not used; its tier is left out of all arms"),
}

DATA_PATH: Mapping[str, Metric] = {
    "used": Metric("Used", "", "what the setting came to in this run"),
    "because": Metric("Because", "", "why it came to that"),
}

STARTUP: Mapping[str, Metric] = {
    "seconds": Metric("Time", "s", "seconds of this stage of the start"),
    "until_seconds": Metric(
        "Until its end",
        "s",
        "seconds from the start of the process to the end of this stage, calibration left out; of "
        "the first token: of the first request that was served, from its arrival on",
    ),
}

SAMPLE: Mapping[str, Metric] = {
    "arm": Metric("Arm", "", "whose answer it is"),
    "prompt": Metric("Prompt", "", "what the request began with, in words"),
    "answer": Metric("Answer", "", "what it was answered, in words, up to its end"),
}

# Of a simulated run, by arm and member; of all servers together.
LENDER: Mapping[str, Metric] = {
    "items": Metric("Items", "", "images or clips made"),
    "item_seconds": Metric("Item", "s", "from an image's or clip's arrival to its batch's end"),
    "batch_mean": Metric("Batch", "", "items of a batch, mean"),
    "offered_bytes_mean": Metric("Lent", "bytes", "memory lent, granted or not, mean over time"),
    "held_bytes_mean": Metric(
        "Held", "bytes", "of what is lent, held by borrowers, mean over time"
    ),
    "held_bytes_max": Metric("Held most", "bytes", "of what is lent, held by borrowers at a time"),
    "reclaims": Metric("Reclaims", "", "times that it called memory back"),
    "overdue": Metric("Overdue", "", "reclaims that were not met by their deadline"),
}

# Tables of a report and what stands in a row of each; `*` is a row's name.
SECTIONS: Mapping[str, Mapping[str, Metric]] = {
    "arms.*": ARM,
    "comparisons.*": COMPARISON,
    "tenants.*.*": TENANT,
    "emulation.*": EMULATION,
    "programs.*.*": PROGRAM,
    "links.*": LINK,
    "data_path.*": DATA_PATH,
    "benchmark.*": BENCHMARK,
    "sweep.*.*": SWEEP,
    "runs.*.*": ARM,
    "host.*": HOST,
    "measured.*.*": MEASURED,
    "lenders.*.*": LENDER,
    "samples.*": SAMPLE,
    "startup.*": STARTUP,
}


def lookup(section: str, path: str) -> Metric | None:
    """The metric of a dotted path in a section, or None when there is no definition.

    >>> lookup("arms.*", "ttft_seconds.p99").unit
    's'
    """
    table = SECTIONS[section]
    for name in (path, _starred(path)):
        if name in table:
            return table[name]
    head, _, statistic = path.rpartition(".")
    return table.get(head) if statistic in STATISTICS else None


def undefined(report: Mapping[str, Any]) -> list[str]:
    """Dotted paths of numbers in the report's tables that have no definition."""
    missing: list[str] = []
    for section in SECTIONS:
        name, *stars = section.split(".")
        for row, values in _descend({name: report.get(name, {})}, depth=1 + len(stars)):
            for path, _ in flatten(values):
                if lookup(section, path) is None:
                    missing.append(f"{row}.{path}")
    return missing


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, leaf) of nested mappings, in order.

    >>> list(flatten({"a": {"b": 1}, "c": 2}))
    [('a.b', 1), ('c', 2)]
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _starred(path: str) -> str:
    """The path with its last name as `*`: tiers are named by the config."""
    return path.rpartition(".")[0] + ".*"


def _descend(values: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if depth == 0:
        yield "", values
        return
    for key, value in values.items():
        for path, row in _descend(value, depth - 1):
            yield f"{key}.{path}".rstrip("."), row
