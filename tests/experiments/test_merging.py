"""Records of several engines as one."""

from __future__ import annotations

import array

from aqua_jax.experiments import merging
from aqua_jax.workloads import records


def part(ids: list[int], slices: int, tier: str) -> records.RunRecord:
    made = records.RunRecord("arm", "simulated", slices=slices, stall_seconds=0.5)
    made.requests = [records.RequestRecord(n, "", 1, 0.0) for n in ids]
    made.paged_bytes = {"out": {tier: 10}, "in": {"host": 1}}
    made.capacity_pages = {"device": 7}
    made.copy_bytes.append(slices)
    return made


def test_sums_add_up_and_requests_are_in_order():
    whole = merging.merge("arm", [part([2, 3], 5, "peer"), part([1], 6, "host")], [])
    assert [request.id for request in whole.requests] == [1, 2, 3]
    assert (whole.slices, whole.stall_seconds) == (11, 1.0)
    assert whole.paged_bytes == {"out": {"peer": 10, "host": 10}, "in": {"host": 2}}
    assert whole.capacity_pages == {"device": 14}
    assert list(whole.copy_bytes) == [5, 6]
    assert whole.evidence == "simulated"


def test_lenders_of_a_name_are_one():
    def lender(held: int) -> records.LenderRecord:
        return records.LenderRecord(
            "SDXL",
            at_seconds=array.array("d", [0.0, 1.0]),
            offered_bytes=array.array("q", [9, 9]),
            held_bytes=array.array("q", [0, held]),
            items_done_at=array.array("d", [1.0]),
            items_seconds=array.array("d", [0.5]),
            batches=1,
            reclaims=2,
            overdue=1,
        )

    merged = merging.merge_lenders([{"a": lender(3)}, {"a": lender(4), "b": lender(5)}])
    assert list(merged) == ["a", "b"]
    assert list(merged["a"].held_bytes) == [0, 7]
    assert list(merged["a"].offered_bytes) == [18, 18]
    assert len(merged["a"].items_seconds) == merged["a"].batches == merged["a"].overdue == 2
    assert merged["a"].reclaims == 4
    assert list(merged["b"].held_bytes) == [0, 5]
