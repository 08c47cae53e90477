"""Turns what the engine tells its observer into the record of an arm.

Knows: the engine's observer, records. Does not know: jax, how a record is shown.
"""

from __future__ import annotations

import array
import collections
from collections.abc import Sequence
from typing import Any

from aqua_jax.control import copying, types
from aqua_jax.engine import engine as engines
from aqua_jax.engine import observer, streams, usage
from aqua_jax.experiments import away_reads
from aqua_jax.workloads import records

_SAMPLE_SECONDS = 0.05


class Recorder(observer.Observer):
    """Fills a `RunRecord`; times are seconds from `begin`.

    reads: counts pages attended away. sample_seconds: the least from one sample to the next.
    keeps_timeline: samples and spans stay in the record; else it grows by what a request leaves
    alone. finished, waiting_first, tokens: requests that got all their tokens and that wait for
    the first, tokens emitted, so far.
    """

    def __init__(
        self,
        record: records.RunRecord,
        page_bytes: int,
        reads: away_reads.AwayReads,
        *,
        sample_seconds: float = _SAMPLE_SECONDS,
        keeps_timeline: bool = True,
    ) -> None:
        self.record = record
        self.finished = 0
        self._page_bytes = page_bytes
        self._reads = reads
        self._start = 0.0
        self._engine: engines.Engine | None = None
        self.tokens = 0
        self.waiting_first = 0
        self._sample_seconds = sample_seconds
        self._keeps_timeline = keeps_timeline
        self._sampled_at = -sample_seconds
        self._unfinished: dict[str, int] = {}  # requests, by tenant
        self._came: collections.deque[tuple[float, str]] = collections.deque()  # lately: a tenant's
        self._attended: dict[int, int] = {}  # pages read in place, by space
        self._admitted: dict[int, records.RequestRecord] = {}  # by the session's id
        self._sessions: dict[int, types.Session] = {}  # that ran and have not ended, by request

    def begin(self, engine: engines.Engine) -> None:
        """The run starts now."""
        self._engine = engine
        self._start = engine.clock.now()

    def admitted(self, request: records.RequestRecord, session: int) -> None:
        """The engine has taken the request in as `session`."""
        self._admitted[session] = request

    def sink(self, request: records.RequestRecord) -> streams.Sink:
        """What the engine calls with the tokens of a request."""
        self.record.requests.append(request)
        self.waiting_first += 1
        self._unfinished[request.tenant] = self._unfinished.get(request.tenant, 0) + 1
        self._came.append((request.scheduled_at, request.tenant))
        token_ids = array.array("i")
        request.token_ids = token_ids

        def take(tokens: Sequence[Any], reason: str, at: float) -> None:
            if tokens and request.first_token_at is None:
                request.first_token_at = at - self._start
                self.waiting_first -= 1
            token_ids.extend(tokens)
            self.tokens += len(tokens)
            if reason:
                request.reason, request.ended_at = reason, at - self._start
                self.waiting_first -= request.first_token_at is None
                self.finished += request.finished
                self._unfinished[request.tenant] -= 1
                self._settle(request)

        return take

    def sample(self) -> records.Sample | None:
        """The run's state now; None when the last one is fresh, or nobody keeps it."""
        if not self._keeps_timeline:  # it would look at every session
            return None
        engine = self._engine
        assert engine is not None, "begin() comes first"
        at = engine.clock.now() - self._start
        if at - self._sampled_at < self._sample_seconds:
            return None
        self._sampled_at = at
        states = engine.controller.count_states()
        memory = engine.controller.memory
        pages = {"device": memory.device.used_count}
        for tier in memory.tiers:  # several grants have one name
            pages[tier.name] = pages.get(tier.name, 0) + tier.slots.used_count
        sample = records.Sample(
            at_seconds=at,
            running=states[types.State.RUNNING],
            waiting_first=self.waiting_first,
            away=states[types.State.AWAY]
            + states[types.State.LEAVING]
            + states[types.State.ARRIVING],
            pages=pages,
            tokens_emitted=self.tokens,
        )
        self.record.samples.append(sample)
        return sample

    def slice_done(
        self, batch: types.Batch, chunks: int, started_at: float, finished_at: float
    ) -> None:
        assert self._engine is not None
        seconds = finished_at - started_at
        pace = self._engine.pace
        prefill, steps = chunks * pace.chunk_seconds, batch.steps * pace.step_seconds
        self.record.slices += 1
        self.record.device_seconds += seconds
        if chunks:
            self.record.prefill_seconds += seconds * (prefill / (prefill + steps) if steps else 1.0)
        for plan in batch.lanes:
            request = self._admitted.get(plan.session.id)
            if request is not None:  # else it has ended
                self._sessions[request.id] = plan.session
        self._note_tenants(self._engine, batch, started_at, finished_at)
        for space, pages in self._reads.count(batch).items():
            self._attended[space] = self._attended.get(space, 0) + pages
        args = {"lanes": len(batch.lanes), "prefill": batch.prefill_units, "steps": batch.steps}
        self._span("device", "slice", started_at, finished_at, args)

    def copy_done(
        self, copy: copying.Copy, completion: types.Completion, started_at: float, at: float
    ) -> None:
        if completion.error is not None:
            self.record.mover_errors += 1
            return
        self.record.copy_bytes.append(completion.bytes)
        tracks = {"out": f"device->{copy.tier}", "in": f"{copy.tier}->device"}
        track = tracks.get(copy.direction, f"{copy.origin}->{copy.tier}")
        args = {"pages": len(copy.moves), "bytes": completion.bytes}
        self._span(track, f"page_{copy.direction}", started_at, at, args)

    def decided(self, host_seconds: float) -> None:
        self.record.controller_seconds.append(host_seconds)

    def end(self, *, interrupted: bool) -> None:
        """The run is over: sums that the engine keeps go into the record."""
        engine = self._engine
        assert engine is not None
        counters, moved = engine.controller.counters, engine.controller.memory.moved
        engine.usage.mark(engine.clock.now(), usage.Use.EMPTY)
        seconds = engine.usage.seconds
        record = self.record
        record.preemptions = counters.preemptions
        record.prefill_tokens = counters.prefill_tokens
        record.prefix_query_tokens = counters.prefix_query_tokens
        record.prefix_hit_tokens = counters.prefix_hit_tokens
        memory = engine.controller.memory
        pools = (memory.device, *(tier.slots for tier in memory.tiers))
        record.cached_pages = sum(pool.cached_count for pool in pools)
        record.recomputed_tokens = counters.recomputed_tokens
        record.overrun_tokens = counters.overrun_tokens
        record.stall_seconds = seconds[usage.Use.STALL]
        record.idle_seconds = seconds[usage.Use.IDLE]
        record.busy_window_seconds = record.idle_seconds + seconds[usage.Use.RUNNING]
        record.paged_bytes = {
            "out": {tier: pages * self._page_bytes for tier, pages in moved.out.items()},
            "in": {tier: pages * self._page_bytes for tier, pages in moved.into.items()},
        }
        record.attended_bytes = {
            tier.name: self._attended[tier.slots.space] * self._page_bytes
            for tier in engine.controller.memory.tiers
            if tier.slots.space in self._attended
        }
        record.wasted_bytes = moved.wasted * self._page_bytes
        record.interrupted = interrupted
        for request in list(self._admitted.values()):
            self._settle(request)

    def _settle(self, request: records.RequestRecord) -> None:
        """Takes from the request's session what is told of it, and forgets the session."""
        session = self._sessions.pop(request.id, None)
        if session is not None:
            request.service, request.preemptions = session.service, session.preemptions
            del self._admitted[session.id]

    def _note_tenants(
        self, engine: engines.Engine, batch: types.Batch, started_at: float, finished_at: float
    ) -> None:
        """What the slice gave to each tenant, and who had requests that waited all the while."""
        while self._came and self._came[0][0] <= started_at - self._start:
            self._came.popleft()
        if len(self._unfinished) < 2:
            return
        served: dict[str, float] = {}
        not_waiting: dict[str, int] = {}
        for plan in batch.lanes:
            tenant = plan.session.request.tenant
            service = engine.controller.policy.service(plan.prefill, plan.steps)
            served[tenant] = served.get(tenant, 0.0) + service
            not_waiting[tenant] = not_waiting.get(tenant, 0) + 1
        for _, tenant in self._came:  # while the slice ran
            not_waiting[tenant] = not_waiting.get(tenant, 0) + 1
        backlogged = [t for t, n in self._unfinished.items() if n > not_waiting.get(t, 0)]
        self.record.fairness.note(finished_at - self._start, served, backlogged)

    def _span(
        self, track: str, name: str, started_at: float, at: float, args: dict[str, Any]
    ) -> None:
        if self._keeps_timeline:
            self.record.spans.append(
                records.Span(track, name, started_at - self._start, at - self._start, args)
            )
