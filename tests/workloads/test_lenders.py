"""The numbers of lenders, each of which is defined."""

from __future__ import annotations

import array

from aqua_jax.workloads import lenders, metrics, records

RUN = records.RunRecord("arm", "simulated")
RUN.lenders["images"] = records.LenderRecord(
    "SDXL",
    at_seconds=array.array("d", [0.0, 1.0]),
    offered_bytes=array.array("q", [10, 20]),
    held_bytes=array.array("q", [0, 5]),
    items_done_at=array.array("d", [3.0, 3.0, 5.0]),
    items_seconds=array.array("d", [2.0, 1.0, 3.0]),
    batches=2,
    reclaims=4,
    overdue=1,
)
RUN.lenders["pool"] = records.LenderRecord("Llama-3.1-8B")


def test_each_lender_has_its_numbers():
    table = lenders.summarise(RUN)
    assert table["images"] == {
        "items": 3,
        "item_seconds": {"p50": 2.0, "p99": 3.0},
        "batch_mean": 1.5,
        "offered_bytes_mean": 15,
        "held_bytes_mean": 2,
        "held_bytes_max": 5,
        "reclaims": 4,
        "overdue": 1,
    }
    assert table["pool"]["items"] == 0
    assert table["pool"]["batch_mean"] is table["pool"]["held_bytes_max"] is None


def test_each_number_is_defined():
    paths = [path for path, _ in metrics.flatten(lenders.summarise(RUN)["images"])]
    assert all(metrics.lookup("lenders.*.*", path) for path in paths)
