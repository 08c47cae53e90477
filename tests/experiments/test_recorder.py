"""What the engine tells becomes the record: checked against the toy devices' known figures."""

from __future__ import annotations

import dataclasses
import gc
import itertools

import pytest

from aqua_jax.control import types
from aqua_jax.control.policies import base
from aqua_jax.experiments import away_reads, recorder
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench
from aqua_jax.workloads import measure, records

PAGE_BYTES = 100


class Run:
    """A recorded run of a bench: submit, then run to the end."""

    def __init__(self, **scenario) -> None:
        self.bench = bench.Bench(bench.Scenario(**scenario))
        self.record = records.RunRecord("arm", "simulated")
        reads = away_reads.AwayReads(chunk_units=self.bench.runner.chunk_units)
        self.keeper = recorder.Recorder(self.record, PAGE_BYTES, reads)
        self.bench.engine.observer = self.keeper
        self.bench.clock.at(5.0, lambda: None)
        while self.bench.clock.now() < 5.0:  # a run does not begin at the clock's zero
            self.bench.engine.step(5.0)
        self.keeper.begin(self.bench.engine)

    def submit(self, request, *, tenant: str = "") -> records.RequestRecord:
        taken = records.RequestRecord(
            id=len(self.record.requests), tenant=tenant, prompt_tokens=0, scheduled_at=0.0
        )
        stream = self.bench.engine.submit(request, sink=self.keeper.sink(taken))
        self.keeper.admitted(taken, stream.id)
        return taken

    def finish(self) -> records.RunRecord:
        while not self.bench.engine.idle:
            self.bench.step()
            self.keeper.sample()
        self.keeper.end(interrupted=False)
        return self.record


def test_a_request_alone_has_the_devices_times_from_the_start_of_the_run():
    run = Run(chunk_units=8, steps_max=4)
    request = toy.request(list(range(12)), 9)
    taken = run.submit(request)
    record = run.finish()
    # Two prefill programs of 2 ms, which give the first token, then eight steps of 1 ms.
    assert taken.first_token_at is not None
    assert taken.first_token_at <= 0.010
    assert taken.ended_at == pytest.approx(0.012)
    assert list(taken.token_ids) == toy.expected_tokens(request)
    assert taken.reason == "length"
    assert taken.preemptions == 0
    assert taken.service == pytest.approx(base.Weights().service(12, 8))
    assert record.device_seconds == pytest.approx(0.012)
    assert record.slices == len(record.controller_seconds)
    assert record.stall_seconds == 0
    assert record.busy_window_seconds == pytest.approx(0.012)


def test_slices_become_spans_on_the_devices_row_and_prefill_has_its_share():
    run = Run(chunk_units=8, steps_max=4)
    run.submit(toy.request(list(range(8)), 41))
    record = run.finish()
    spans = [span for span in record.spans if span.track == "device"]
    assert len(spans) == record.slices
    assert spans[0].start_seconds == 0.0
    assert sum(span.args["prefill"] for span in spans) == 8
    assert sum(span.args["steps"] for span in spans) >= 40
    assert record.prefill_seconds == pytest.approx(0.002, rel=0.2)


def test_paging_is_counted_by_tier_and_drawn_by_link():
    run = Run(pool_pages=9, policy=base.PolicySettings(quantum_tokens=1))
    taken = [run.submit(toy.request([n] * 6, 18)) for n in range(5)]
    record = run.finish()
    moved = run.bench.controller.memory.moved
    assert record.paged_bytes["out"]["peer"] == moved.out["peer"] * PAGE_BYTES > 0
    assert record.paged_bytes["in"]["peer"] == moved.into["peer"] * PAGE_BYTES > 0
    assert {"device", "device->peer", "peer->device"} == {span.track for span in record.spans}
    assert record.preemptions == sum(request.preemptions for request in taken) > 0
    assert len(record.copy_bytes) == len([s for s in record.spans if s.track != "device"])


def test_pages_attended_away_count_each_time_that_a_slice_reads_them():
    run = Run(pool_pages=9, attend_away=types.AttendAway.LONG, chunk_units=8)
    request = toy.request(list(range(48)), 9)  # 14 pages of 4 units, in 8
    taken = run.submit(request)
    record = run.finish()
    assert list(taken.token_ids) == toy.expected_tokens(request)
    assert record.attended_bytes.keys() == {"peer"}
    # At least the 4 pages beyond the pool in each of 8 steps.
    assert record.attended_bytes["peer"] >= 4 * 8 * PAGE_BYTES
    assert record.attended_bytes["peer"] % PAGE_BYTES == 0
    assert measure.summarise(record)["attended_bytes"] == record.attended_bytes


def test_failed_copies_are_errors_and_no_spans():
    run = Run(
        pool_pages=9,
        policy=base.PolicySettings(quantum_tokens=1),
        faults=toy.ToyFaults(seed=3, fail=1.0),
    )
    for n in range(4):
        run.submit(toy.request([n] * 6, 12))
    record = run.finish()
    assert record.mover_errors > 0
    assert not record.copy_bytes
    assert {span.track for span in record.spans} == {"device"}
    assert record.recomputed_tokens > 0


def test_samples_say_who_waits_and_what_is_held():
    run = Run(lanes=1, chunk_units=8, page_units=16)
    for n in range(3):
        run.submit(toy.request([n] * 4, 200))
    run.bench.step()
    first = run.keeper.sample()
    assert first is not None
    assert (first.running, first.waiting_first) == (1, 3)
    assert first.pages == {"device": first.pages["device"], "peer": 0, "host": 0}
    assert first.pages["device"] > 0
    assert run.keeper.sample() is None  # the last one is fresh
    record = run.finish()
    assert record.samples[0] is first
    assert record.samples[-1].tokens_emitted > first.tokens_emitted
    moments = [sample.at_seconds for sample in record.samples]
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert min(gaps) >= 0.05


def test_aborted_requests_wait_no_more_and_the_end_is_an_abort():
    run = Run(lanes=1)
    taken = [run.submit(toy.request([n] * 4, 50)) for n in range(2)]
    for _ in range(3):  # the first runs, the second waits for the lane
        run.bench.step()
    run.bench.engine.drain(0.0)
    run.keeper.end(interrupted=True)
    assert [request.reason for request in taken] == ["abort", "abort"]
    assert run.record.interrupted
    assert taken[1].first_token_at is None
    assert measure.summarise(run.record)["finished"] == 0


def test_tenants_that_wait_at_the_same_time_are_measured_against_each_other():
    run = Run(lanes=1, page_units=16, policy=base.PolicySettings(name="fcfs"))
    taken = [
        run.submit(dataclasses.replace(toy.request([1] * 4, 200), tenant=name), tenant=name)
        for name in ("first", "first", "second", "second")
    ]
    record = run.finish()
    # Until the second of the first runs both tenants have more than that; the second had nothing.
    contended = record.fairness.contended
    assert contended["second"].service == 0.0
    assert 0.9 * taken[0].service < contended["first"].service <= taken[0].service
    assert record.fairness.gap_max == contended["first"].service
    assert contended["first"].seconds == contended["second"].seconds > 0


def test_what_has_ended_leaves_its_record_alone():
    """No session, no sample and no span of it, however many there were."""
    made = bench.Bench(bench.Scenario(pool_pages=9, policy=base.PolicySettings(quantum_tokens=1)))
    record = records.RunRecord("arm", "simulated")
    keeper = recorder.Recorder(
        record, PAGE_BYTES, away_reads.AwayReads(), sample_seconds=0.001, keeps_timeline=False
    )
    made.engine.observer = keeper
    keeper.begin(made.engine)
    for n in range(40):
        taken = records.RequestRecord(id=n, tenant="", prompt_tokens=0, scheduled_at=0.0)
        stream = made.engine.submit(toy.request([n] * 6, 12), sink=keeper.sink(taken))
        keeper.admitted(taken, stream.id)
    while not made.engine.idle:
        made.step()
        assert keeper.sample() is None
    assert keeper.finished == 40
    assert record.samples == []
    assert record.spans == []
    assert all(request.preemptions and request.service for request in record.requests)
    held = gc.get_referents(*vars(keeper).values())
    assert not [thing for thing in held if isinstance(thing, types.Session)]
    # Ids are kept as numbers of 4 bytes.
    assert {request.token_ids.itemsize for request in record.requests} == {4}
