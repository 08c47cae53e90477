"""The records of several engines as one: their requests and sums, samples over all of them.

Knows: records, engines' states. Does not know: how an engine's record came about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aqua_jax.control import types
from aqua_jax.experiments import recorder
from aqua_jax.simulation import cluster
from aqua_jax.workloads import records

# Of a record: numbers that add up.
_SUMS = (
    "copies_late", "slices", "slices_late", "preemptions", "recomputed_tokens", "overrun_tokens",
    "prefill_tokens", "prefix_query_tokens", "prefix_hit_tokens", "cached_pages",
    "stall_seconds", "idle_seconds", "busy_window_seconds", "prefill_seconds", "device_seconds",
    "wasted_bytes", "mover_errors",
)  # fmt: skip


def merge(
    arm: str, parts: Sequence[records.RunRecord], samples: list[records.Sample]
) -> records.RunRecord:
    """One record of all, requests in the order of their ids."""
    whole = records.RunRecord(arm=arm, evidence="simulated", samples=samples)
    for part in parts:
        whole.requests += part.requests
        whole.controller_seconds.extend(part.controller_seconds)
        whole.copy_bytes.extend(part.copy_bytes)
        for name in _SUMS:
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
        for direction, paged in part.paged_bytes.items():
            _add(whole.paged_bytes[direction], paged)
        _add(whole.attended_bytes, part.attended_bytes)
        _add(whole.capacity_pages, part.capacity_pages)
    whole.requests.sort(key=lambda request: request.id)
    return whole


def merge_lenders(
    servers: Sequence[dict[str, records.LenderRecord]],
) -> dict[str, records.LenderRecord]:
    """Lenders of one name as one: servers have the same members and are looked at together."""
    merged: dict[str, records.LenderRecord] = {}
    for lenders in servers:
        for name, lender in lenders.items():
            if name not in merged:
                merged[name] = lender
                continue
            whole = merged[name]
            for n in range(len(whole.at_seconds)):
                whole.offered_bytes[n] += lender.offered_bytes[n]
                whole.held_bytes[n] += lender.held_bytes[n]
            whole.items_done_at.extend(lender.items_done_at)
            whole.items_seconds.extend(lender.items_seconds)
            whole.batches += lender.batches
            whole.reclaims += lender.reclaims
            whole.overdue += lender.overdue
    return merged


class Samples:
    """The state of all engines of a cluster, from time to time."""

    def __init__(self) -> None:
        self.samples: list[records.Sample] = []

    def take(self, at: float, of: cluster.Cluster, keepers: Iterable[recorder.Recorder]) -> None:
        """How it stands now. Pages of all models count alike."""
        running = away = 0
        pages: dict[str, int] = {}
        for text in of.texts:
            controller = text.engine.controller
            states, memory = controller.count_states(), controller.memory
            running += states[types.State.RUNNING]
            away += states[types.State.AWAY] + states[types.State.LEAVING]
            away += states[types.State.ARRIVING]
            _add(pages, {"device": memory.device.used_count})
            for tier in memory.tiers:
                _add(pages, {tier.name: tier.slots.used_count})
        waiting, tokens = 0, 0
        for keeper in keepers:
            waiting += keeper.waiting_first
            tokens += keeper.tokens
        self.samples.append(
            records.Sample(
                at_seconds=at,
                running=running,
                waiting_first=waiting,
                away=away,
                pages=pages,
                tokens_emitted=tokens,
            )
        )


def _add(sums: dict[str, int], more: dict[str, int]) -> None:
    for name, value in more.items():
        sums[name] = sums.get(name, 0) + value
