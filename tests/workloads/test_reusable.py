"""What counts as reusable: whole blocks, in the same place, of the same tenant, seen before."""

from __future__ import annotations

import pytest

from aqua_jax.workloads import records, reusable


def arrival(prompt_tokens: int, *ids: int, tenant: str = "") -> records.Arrival:
    return records.Arrival(
        at_seconds=0.0,
        prompt_tokens=prompt_tokens,
        output_tokens=1,
        tenant=tenant,
        prefix_ids=ids,
        prefix_block_tokens=4 if ids else 0,
    )


@pytest.mark.parametrize(
    ("arrivals", "share"),
    [
        ([], 0.0),
        ([arrival(8), arrival(8)], 0.0),
        ([arrival(8, 1, 2), arrival(8, 1, 2)], 8 / 16),
        ([arrival(8, 1, 2), arrival(8, 3, 2)], 0.0),
        ([arrival(10, 1, 2, 3), arrival(10, 1, 2, 3)], 8 / 20),
        ([arrival(8, 1, 2, tenant="a"), arrival(8, 1, 2, tenant="b")], 0.0),
        ([arrival(8, 1, 2), arrival(8, 1, 3), arrival(8, 1, 3)], 12 / 24),
    ],
)
def test_share(arrivals: list[records.Arrival], share: float) -> None:
    assert reusable.share(arrivals) == pytest.approx(share)
