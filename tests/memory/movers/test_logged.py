"""Every completion makes one span, with its tiers, times and errors."""

from __future__ import annotations

from typing import Any

from aqua_jax.control import clock as clocks
from aqua_jax.memory.movers import faults, logged, reference
from aqua_jax.workloads import records
from tests.memory import parts

POOL, PEER, HOST = parts.POOL, parts.PEER, parts.HOST


def test_spans() -> None:
    clock, spans = clocks.VirtualClock(), []

    def keep(track: str, name: str, start: float, end: float, args: dict[str, Any]) -> None:
        spans.append(records.Span(track, name, start, end, args))

    plan = faults.Faults(exact={0: faults.Fault.DELAY, 2: faults.Fault.FAIL}, delay_seconds=0.5)
    inner = faults.FaultyMover(reference.ReferenceMover(parts.make_stores(), clock), clock, plan)
    mover = logged.LoggedMover(inner, clock, tiers=parts.TIERS, on_span=keep)
    pending = [
        mover.submit(parts.moves(POOL, [1, 2], HOST, [0, 1])),
        mover.submit(parts.moves(PEER, [3], HOST, [2])),
        mover.submit(parts.moves(HOST, [0], POOL, [5])),
    ]
    parts.drain(mover, clock, pending)
    by_track = {span.track: span for span in spans}
    assert len(spans) == 3
    assert by_track["device->host"] == records.Span(
        "device->host", "page_out", 0.0, 0.5, {"pages": 2, "bytes": 2 * parts.PAGE_BYTES}
    )
    assert by_track["peer->host"].name == "page_out"
    failed = by_track["host->device"]
    assert (failed.name, failed.args["bytes"]) == ("page_in", 0)
    assert "injected" in str(failed.args["error"])
    mover.close()
