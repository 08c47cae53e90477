"""From the records of lenders to the numbers of a report (`metrics.LENDER`).

Knows: records. Does not know: how they came about or are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aqua_jax.workloads import measure, records


def summarise(run: records.RunRecord) -> dict[str, dict[str, Any]]:
    """The numbers of each lender, by name."""
    return {name: _summarise(lender) for name, lender in run.lenders.items()}


def _summarise(lender: records.LenderRecord) -> dict[str, Any]:
    return {
        "items": len(lender.items_seconds),
        "item_seconds": {
            name: value
            for name, value in measure.distribution(lender.items_seconds).items()
            if name in ("p50", "p99")
        },
        "batch_mean": measure.ratio(len(lender.items_seconds), lender.batches),
        "offered_bytes_mean": _mean(lender.offered_bytes),
        "held_bytes_mean": _mean(lender.held_bytes),
        "held_bytes_max": max(lender.held_bytes, default=None),
        "reclaims": lender.reclaims,
        "overdue": lender.overdue,
    }


def _mean(values: Sequence[int]) -> int | None:
    """In whole bytes: samples are as far apart as each other."""
    return sum(values) // len(values) if values else None
