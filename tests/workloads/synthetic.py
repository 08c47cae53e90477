"""Small records with known numbers, for the tests of measurement and reports."""

from __future__ import annotations

from aqua_jax.workloads import records

STEP_SECONDS = 0.5


def request(
    id: int,
    *,
    scheduled_at: float = 0.0,
    first_token_at: float | None = 1.0,
    ended_at: float | None = 2.0,
    tokens: int = 3,
    tenant: str = "",
    reason: str = "length",
    service: float = 1.0,
) -> records.RequestRecord:
    """A finished request with token ids id, id + 1 ..."""
    return records.RequestRecord(
        id=id,
        tenant=tenant,
        prompt_tokens=4,
        scheduled_at=scheduled_at,
        first_token_at=first_token_at,
        ended_at=ended_at,
        reason=reason,
        token_ids=list(range(id, id + tokens)),
        service=service,
    )


def run(
    arm: str,
    *,
    first_token_seconds: float = 1.0,
    requests: int = 4,
    evidence: str = "measured",
    tenants: tuple[str, ...] = ("",),
) -> records.RunRecord:
    """Requests a second apart from second 10 on, each a second long after its first token."""
    record = records.RunRecord(arm=arm, evidence=evidence)
    for id in range(requests):
        scheduled_at = 10.0 + id
        first_token_at = scheduled_at + first_token_seconds
        record.requests.append(
            request(
                id,
                scheduled_at=scheduled_at,
                first_token_at=first_token_at,
                ended_at=first_token_at + 1.0,
                tenant=tenants[id % len(tenants)],
            )
        )
    for step in range(8):
        start = 10.0 + step * STEP_SECONDS
        end = start + STEP_SECONDS
        record.spans.append(records.Span("device 0", "slice", start, end, {"steps": 4}))
        record.samples.append(
            records.Sample(end, 1, step % 2, 1, {"device": 4, "peer": step}, step)
        )
        record.controller_seconds.append(1e-4 * (step + 1))
    record.slices = 8
    record.capacity_pages = {"device": 6, "peer": 12}
    record.copy_bytes = [1024, 4096]
    record.paged_bytes = {"out": {"peer": 4096}, "in": {"peer": 1024}}
    record.prefill_seconds, record.device_seconds = 1.0, 4.0
    record.idle_seconds, record.busy_window_seconds = 0.5, 5.0
    record.stall_seconds = 0.25
    return record
