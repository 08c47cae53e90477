"""Small records with known numbers, for the tests of measurement and reports."""

from __future__ import annotations

from typing import Any

from aqua_jax.workloads import measure, records, report, sweep

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
    record.prefill_tokens = 400 if first_token_seconds < 2 else 800
    record.prefill_seconds, record.device_seconds = 1.0, 4.0
    record.idle_seconds, record.busy_window_seconds = 0.5, 5.0
    record.stall_seconds = 0.25
    return record


def swept(*, different: str = "") -> dict[str, Any]:
    """A report over two rates and two windows: fcfs waits 4 and 6 s for first tokens, cfs less.

    different: an arm that emits other tokens in one window.
    """
    windows = []
    for rate, seconds in (("2 requests/s", (4.0, 2.0)), ("4 requests/s", (6.0, 0.5))):
        for seed in (0, 1):
            arms = {
                arm: measure.summarise(
                    run(arm, first_token_seconds=(1 + seed) * first, evidence="simulated")
                )
                for arm, first in zip(("fcfs", "cfs"), seconds, strict=True)
            }
            if different and seed:
                arms[different]["token_ids_sha256"] = "0" * 64
            windows.append(sweep.Window(rate, seed, arms))
    shown = [run(arm, evidence="simulated") for arm in ("fcfs", "cfs")]
    value = report.assemble(shown, config={}, devices=["H100"], notes=["Shown: a window."])
    value["sweep"] = sweep.summarise(windows, ["fcfs"])
    value["runs"] = {f"{w.rate}, seed {w.seed}": dict(w.arms) for w in windows}
    value["host"] = {"fcfs": {"seconds": 1.5, "dispatches": 8}}
    return value
