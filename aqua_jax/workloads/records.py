"""What a workload is made of and what a run leaves behind: plain values, no jax."""

from __future__ import annotations

import array
import dataclasses
from collections.abc import MutableSequence, Sequence

from aqua_jax.workloads import fairness as fairnesses


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a workload before token ids are drawn.

    at_seconds: scheduled arrival, from the start of the run, undilated.
    prefix_ids: equal ids stand for equal blocks of `prefix_block_tokens` prompt
      tokens (Mooncake's hash_ids); empty when the trace has none.
    """

    at_seconds: float
    prompt_tokens: int
    output_tokens: int
    tenant: str = ""
    prefix_ids: tuple[int, ...] = ()
    prefix_block_tokens: int = 0


@dataclasses.dataclass(slots=True)
class RequestRecord:
    """What happened to one request. Seconds are clock seconds; None: did not happen."""

    id: int
    tenant: str
    prompt_tokens: int
    scheduled_at: float
    first_token_at: float | None = None
    ended_at: float | None = None
    reason: str = ""  # finished: "stop", "length"; not: "refused", "abort", "deadline", "error"
    token_ids: Sequence[int] = ()
    service: float = 0.0
    preemptions: int = 0

    @property
    def finished(self) -> bool:
        """True when the request got all its tokens."""
        return self.reason in ("stop", "length")


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """The state of a run at one moment, for plots and the live view.

    pages: tier name -> pages in use ("device", "peer", "host").
    waiting_first: sessions that have not got their first token.
    """

    at_seconds: float
    running: int
    waiting_first: int
    away: int
    pages: dict[str, int]
    tokens_emitted: int


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """One bar of the timeline: a slice on a device or a batch of copies on a link."""

    track: str  # "device 0", "device->peer", "peer->device", "controller"
    name: str  # "slice", "page_out" ...
    start_seconds: float
    end_seconds: float
    args: dict[str, int | float | str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class LenderRecord:
    """What a lender of memory did. Arrays of a group have one length.

    at_seconds, offered_bytes, held_bytes: from time to time, what it has lent and what of it
    borrowers hold. items_done_at, items_seconds: when each item of its own was made, and how long
    after it arrived. overdue: reclaims that were not met by their deadline.
    """

    model: str
    at_seconds: MutableSequence[float] = dataclasses.field(default_factory=lambda: array.array("d"))
    offered_bytes: MutableSequence[int] = dataclasses.field(
        default_factory=lambda: array.array("q")
    )
    held_bytes: MutableSequence[int] = dataclasses.field(default_factory=lambda: array.array("q"))
    items_done_at: MutableSequence[float] = dataclasses.field(
        default_factory=lambda: array.array("d")
    )
    items_seconds: MutableSequence[float] = dataclasses.field(
        default_factory=lambda: array.array("d")
    )
    batches: int = 0
    reclaims: int = 0
    overdue: int = 0


@dataclasses.dataclass(slots=True)
class RunRecord:
    """Everything measured in one arm; `measure.summarise` turns it into the report's numbers.

    paged_bytes: {"out": {tier: bytes}, "in": {tier: bytes}}. attended_bytes: {tier: bytes}.
    controller_seconds: host seconds of every decide-and-observe, one per dispatch.
    evidence: "measured", "emulated" or "simulated".
    """

    arm: str
    evidence: str
    requests: list[RequestRecord] = dataclasses.field(default_factory=list)
    samples: list[Sample] = dataclasses.field(default_factory=list)
    spans: list[Span] = dataclasses.field(default_factory=list)
    controller_seconds: MutableSequence[float] = dataclasses.field(
        default_factory=lambda: array.array("d")
    )
    copy_bytes: MutableSequence[int] = dataclasses.field(default_factory=lambda: array.array("q"))
    copies_late: int = 0
    slices: int = 0
    slices_late: int = 0
    prefill_tokens: int = 0
    prefix_query_tokens: int = 0  # of sessions without state that began, where prefixes are reused
    prefix_hit_tokens: int = 0
    cached_pages: int = 0
    reusable_share: float | None = None
    preemptions: int = 0
    recomputed_tokens: int = 0
    overrun_tokens: int = 0
    stall_seconds: float = 0.0
    idle_seconds: float = 0.0
    busy_window_seconds: float = 0.0  # seconds in which some session could run
    prefill_seconds: float = 0.0  # of prefill programs (estimated from rows where fused)
    device_seconds: float = 0.0
    paged_bytes: dict[str, dict[str, int]] = dataclasses.field(
        default_factory=lambda: {"out": {}, "in": {}}
    )
    attended_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    wasted_bytes: int = 0
    mover_errors: int = 0
    capacity_pages: dict[str, int] = dataclasses.field(default_factory=dict)
    fairness: fairnesses.Fairness = dataclasses.field(
        default_factory=lambda: fairnesses.Fairness({})
    )
    programs: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    measured: Sequence[RequestRecord] = ()  # by a real system, of the same workload
    lenders: dict[str, LenderRecord] = dataclasses.field(default_factory=dict)
    interrupted: bool = False
