"""The figures of benchmarks, which measure one part alone: names, units, definitions.

Knows: words. Does not know: what is measured. Part of the table in `metrics.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from aqua_jax.workloads import metric

Metric = metric.Metric

BENCHMARK: Mapping[str, Metric] = {
    "ended_count": Metric("Ended", "", "requests that ended"),
    "events": Metric("Events", "", "moments at which something happened"),
    "events_per_second": Metric("Events a second", "", "of the host's seconds, over the whole run"),
    "early_event_seconds": Metric("Event, early", "s", "host seconds, in the second fifth"),
    "late_event_seconds": Metric("Event, late", "s", "host seconds, in the last fifth"),
    "late_ratio": Metric("Late over early", "ratio", "of the seconds for an event"),
    "memory_bytes_peak": Metric("Memory", "bytes", "the most that the process had so far"),
    "dispatches": Metric("Dispatches", "", "slices that were dispatched and measured"),
    "controller_seconds": Metric(
        "Controller",
        "s",
        "host seconds of the controller for one dispatch: outcomes and copies taken in, slice and "
        "copies planned",
    ),
    "engine_seconds_mean": Metric(
        "Engine and all",
        "s",
        "host seconds for one dispatch, mean: controller, engine, arrivals, simulated devices",
    ),
    "lanes_mean": Metric("Sessions in a slice", "", "mean over the measured dispatches"),
    "waiting": Metric("Waiting", "", "living sessions without a lane, at the end"),
    "ended_per_dispatch": Metric("Ended", "", "sessions that ended, mean for a dispatch"),
    "preemptions_per_dispatch": Metric(
        "Preempted", "", "sessions that lost their pages, mean for a dispatch"
    ),
    "pages_out_per_dispatch": Metric("Pages out", "", "pages copied to a tier, mean"),
    "pages_in_per_dispatch": Metric("Pages in", "", "pages copied back, mean"),
    "xla_seconds": Metric(
        "XLA", "s", "attention of one layer, or a whole decode step, by XLA: median over the run"
    ),
    "native_seconds": Metric("Native", "s", "the same by the native library"),
    "native_speedup": Metric("Native over XLA", "ratio", "XLA's seconds over the native ones"),
    "kv_bytes": Metric("KV read", "bytes", "keys and values that were read before any were again"),
    "native_bytes_per_second": Metric(
        "Native reads", "bytes/s", "keys and values read over the native seconds"
    ),
    "read_bytes_per_second": Metric(
        "Memory reads",
        "bytes/s",
        "the largest number in as many bytes sought by a thread on every core, measured in turn",
    ),
    "read_share": Metric("Native over memory", "share", "of memory's rate that native reads reach"),
    "memcpy_bytes_per_second.*": Metric(
        "memcpy", "bytes/s", "the same byte ranges by memcpy on as many threads, page out or in"
    ),
    "ffi_bytes_per_second.*": Metric(
        "ffi", "bytes/s", "by the ffi mover, from the first submission to the last completion"
    ),
    "xla_bytes_per_second.*": Metric("xla", "bytes/s", "by the xla mover, likewise"),
    "layers_bytes_per_second.*": Metric(
        "Layer by layer", "bytes/s", "the same pages, kept as one array a layer, copied in turn"
    ),
    "ffi_share.*": Metric("ffi of memcpy", "share", "of memcpy's rate that the ffi mover reaches"),
    "ffi_over_xla.*": Metric("ffi over xla", "ratio", "seconds of xla over those of ffi"),
    "step_seconds": Metric("Decode step alone", "s", "a step while nothing is copied"),
    "paged_bytes_per_second": Metric("Paged", "bytes/s", "pages moved beside decoding, both ways"),
    "paging_slowdown": Metric(
        "Slower by paging", "share", "how much longer a decode step takes beside it"
    ),
    "bare_bytes_per_second": Metric("memcpy beside", "bytes/s", "copied by a bare memcpy thread"),
    "bare_slowdown": Metric(
        "Slower by memcpy", "share", "how much longer a decode step takes beside that"
    ),
    "paging_over_bare": Metric(
        "Paging over memcpy", "ratio", "the first slowdown over the second, where that is above 1 %"
    ),
    "fitted": Metric("Slices", "", "timed slices that the cost of a slice was fitted to"),
    "outliers": Metric("Outliers", "", "of these, slices that counted for less than half"),
    "fit_error_p50": Metric(
        "Error p50", "share", "the fit's relative error, median over slices or sizes of copies"
    ),
    "fit_error_p90": Metric("Error p90", "share", "the same, 90th percentile"),
    "cost_seconds.*": Metric(
        "Cost",
        "s",
        "of one dispatch, program, chunk, prefill row, unit that a row attends to, step, lane in a "
        "step, cached unit that is read",
    ),
    "host_seconds.*": Metric(
        "Host",
        "s",
        "median host seconds: from a decision to its dispatch, for submitting a copy, from the end "
        "of a slice until its tokens are read",
    ),
    "copy_latency_seconds": Metric("Copy latency", "s", "of a copy, whatever its size"),
    "copy_bytes_per_second": Metric("Copy rate", "bytes/s", "beyond that, scattered pages"),
    "error.ttft_p50": Metric(
        "Error of first token p50",
        "share",
        "predicted over real less 1; in a row of medians, the median of its size over the runs",
    ),
    "error.ttft_p99": Metric("Error of first token p99", "share", "the same for that figure"),
    "error.makespan": Metric("Error of makespan", "share", "the same for that figure"),
    "within_bound": Metric("Within the bound", "", "none of these medians exceeds it"),
    "ttft_p50_seconds.*": Metric("First token p50", "s", "of a real run and as predicted"),
    "ttft_p99_seconds.*": Metric("First token p99", "s", "of a real run and as predicted"),
    "makespan_seconds.*": Metric("Makespan", "s", "of a real run and as predicted"),
    "slices.*": Metric("Slices", "", "dispatched in a real run and as predicted"),
    "slice_seconds.*": Metric("Slice", "s", "mean seconds of a slice, real and as predicted"),
    "preemptions.*": Metric(
        "Preempted", "", "times that a session lost its lane, real and as predicted"
    ),
    "lanes_mean.*": Metric("Sessions in a slice", "", "mean over slices, real and as predicted"),
    "steps_mean.*": Metric("Steps of a slice", "", "mean over slices, real and as predicted"),
    "tokens_per_second.*": Metric(
        "Useful tokens",
        "tokens/s",
        "tokens made over the seconds from the first request to the last token, median of runs; "
        "full: with memory for all requests",
    ),
    "over_peer.*": Metric(
        "Over a peer", "ratio", "the better of exact and inexact over a peer's tokens a second"
    ),
    "of_full_memory": Metric(
        "Of full memory", "share", "tokens a second with a third of the memory, of those with all"
    ),
    "preempted.*": Metric(
        "Preempted", "", "times that a session of this engine lost its lane or its memory, a run"
    ),
    "same_answers.*": Metric(
        "Same answers", "share", "requests whose tokens all equal those of exact"
    ),
    "products_per_second": Metric(
        "Products",
        "",
        "multiplications and additions a second of a product of large matrices, the best: of XLA "
        "in float32, of the native library in bfloat16",
    ),
    "native_products_per_second": Metric(
        "native products", "", "multiplications and additions a second of the native library"
    ),
    "limit_tokens_per_second": Metric(
        "The machine's limit",
        "tokens/s",
        "all prompts' products at that rate, then in each step all weights read at memory's rate "
        "or multiplied, whichever takes longer; weights that caches hold are read faster",
    ),
    "of_limit.*": Metric("Of the limit", "share", "tokens a second of that limit"),
    "absent.*": Metric("Absent", "", "a peer that did not run, and why"),
}
