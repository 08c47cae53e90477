"""Under a load that never ends every session gets on, tenants and weights get their share.

Service is weighted tokens, as the policy counts them; how much the device has
given in all is the policy's floor times `sessions_fair`.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest

from aqua_jax.control import errors, types
from aqua_jax.control.policies import base, cfs
from aqua_jax.engine import streams
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench as benches
from aqua_jax.simulation.fuzz import harness

FAIR = 8  # sessions_fair: small, so that the bound is soon reached
LEAD = 4.0  # of newcomers, in virtual time


@dataclasses.dataclass(slots=True)
class Fate:
    """One session of an overload: what the device had given when it came, and when it ended."""

    work: float  # its own service, prefill and steps
    lead: float  # its virtual time at the start, less the floor, and the lead of newcomers
    came_at: float
    ended_at: float | None = None


class Overload:
    """A bench under cfs on which sessions arrive faster than they can be served."""

    def __init__(self, *, quantum_tokens: int, sessions_fair: int = FAIR, **fields: Any) -> None:
        self.settings = base.PolicySettings(
            quantum_tokens=quantum_tokens,
            prefill_quantum_tokens=quantum_tokens,
            sessions_fair=sessions_fair,
            newcomer_lead_tokens=LEAD,
            tenant_weights=fields.pop("tenant_weights", {}),
        )
        scenario = benches.Scenario(policy=self.settings, page_seconds=1e-5, **fields)
        self.bench = benches.Bench(scenario)
        policy = self.bench.controller.policy
        assert isinstance(policy, cfs.Cfs)
        self.policy = policy

    @property
    def given(self) -> float:
        """Service of the device so far."""
        floors = [tenant.floor for tenant in self.policy.groups.named.values()]
        return math.fsum(floors) * self.settings.sessions_fair

    def submit(self, request: types.Request) -> Fate:
        """One more session; its fate is filled in when it ends."""
        work = self.policy.service(request.prompt_units, request.steps_max - 1)
        fate = Fate(work, 0.0, self.given)

        def sink(tokens: Sequence[Any], reason: str, at: float) -> None:
            if reason:
                fate.ended_at = self.given

        stream = self.bench.engine.submit(request, sink=sink)
        self.bench.engine.step()
        floor = self.policy.groups.named[request.tenant].floor
        fate.lead = self.session(stream).vtime_at_start - floor + LEAD
        return fate

    def session(self, stream: streams.Stream) -> types.Session:
        return self.bench.controller.sessions[stream.id]

    def run_for(self, seconds: float) -> None:
        """Steps for so long; integrity is checked at the end, for sessions are many."""
        until = self.bench.clock.now() + seconds
        while self.bench.clock.now() < until:
            self.bench.engine.step(until)
        self.bench.engine.check_integrity()

    def run_arrivals(self, count: int, *, seed: int) -> list[Fate]:
        """`count` sessions at twice the rate at which two lanes can serve them."""
        rng = random.Random(seed)
        fates = []
        for number in range(count):
            steps = 24 if number < 10 else 8  # the early ones are three times as long
            fates.append(self.submit(toy.request([number] * 8, steps)))
            # A prefill takes 2 ms and 8 steps beside another lane 4 ms of the device.
            self.run_for(rng.expovariate(1 / 0.003))
        return fates


@pytest.mark.parametrize("quantum_tokens", [1, 16, 64])
def test_newcomers_at_twice_the_capacity_hold_nobody_up_for_ever(quantum_tokens: int) -> None:
    overload = Overload(quantum_tokens=quantum_tokens, lanes=2)
    fates = overload.run_arrivals(600, seed=quantum_tokens)
    assert len(overload.bench.controller.sessions) > 150  # it was an overload indeed
    for fate in fates[:40]:
        # Once the floor has reached its last virtual time nobody who comes starts before it.
        # Those that came until then may all have their work done first, and no other.
        closed_at = fate.came_at + FAIR * (fate.lead + fate.work)
        before = sum(other.work for other in fates if other.came_at <= closed_at)
        # Two lanes, each in a quantum that has grown a little; and each time that it gives up its
        # lane, both run a slice of others, 8 rows and 4 steps, before its own has been read.
        slack = 2 * 2 * quantum_tokens + 8 + 2 * (4 + 4) * (24 // quantum_tokens)
        assert fate.ended_at is not None
        assert fate.ended_at <= before + slack


def test_without_a_floor_that_rises_newcomers_do_starve_the_early() -> None:
    overload = Overload(quantum_tokens=1, sessions_fair=10**9, lanes=2)
    fates = overload.run_arrivals(300, seed=1)
    assert [fate.ended_at for fate in fates[:10]].count(None) > 5


@pytest.mark.parametrize("slots", [40, 400])
def test_a_long_session_gets_on_under_a_stream_of_newcomers_and_so_do_they(slots: int) -> None:
    overload = Overload(
        quantum_tokens=16,
        lanes=3,
        pool_pages=17,
        tier_pages=(slots,),
        attend_away=types.AttendAway.LONG,
    )
    long = overload.submit(toy.request([7] * 160, 8))  # 42 pages, in 16 and slots that others want
    fates = overload.run_arrivals(200, seed=5)
    assert long.ended_at is not None
    assert overload.bench.controller.memory.moved.out["peer"] >= 42 - 16
    assert None not in [fate.ended_at for fate in fates[:60]]


@pytest.mark.parametrize("unread", [[100], [16] * 8])
def test_who_never_reads_holds_up_no_long_session_that_came_later(unread: list[int]) -> None:
    bench = benches.Bench(
        benches.Scenario(
            pool_pages=17, tier_pages=(30,), attend_away=types.AttendAway.LONG, stream_tokens_max=4
        )
    )
    for prompt_units in unread:
        bench.engine.submit(toy.request([1] * prompt_units, 40))  # nobody reads its stream
    sessions = bench.controller.sessions
    bench.run_until(lambda: bool(sessions) and all(s.parked for s in sessions.values()))
    request = toy.request([2] * 100, 8)
    got: list[int] = []
    later = bench.engine.submit(request, sink=lambda tokens, *_: got.extend(tokens))
    bench.run_until(lambda: later.ended, steps_max=300)
    assert got == toy.expected_tokens(request)
    assert len(sessions) == len(unread)


@pytest.mark.parametrize("faults", [toy.ToyFaults(refuse=1.0), toy.ToyFaults(fail=1.0)])
def test_a_long_session_on_a_dead_link_ends_with_its_error_and_lets_the_others_run(
    faults: toy.ToyFaults,
) -> None:
    bench = benches.Bench(
        benches.Scenario(
            pool_pages=17, tier_pages=(30,), attend_away=types.AttendAway.LONG, faults=faults
        )
    )
    long, short = (bench.engine.submit(toy.request([1] * units, 8)) for units in (100, 20))
    bench.run_until(lambda: long.ended and short.ended, steps_max=200)
    assert (long.reason, type(long.error)) == ("error", errors.MoveError)
    assert "on purpose" in str(long.error)
    assert short.read() == toy.expected_tokens(toy.request([1] * 20, 8))
    assert bench.controller.counters.copy_errors < 20
    bench.run_until(lambda: bench.engine.idle)
    bench.check_all_free()


@pytest.mark.parametrize("faults", [toy.ToyFaults(refuse=1.0), toy.ToyFaults(fail=1.0)])
def test_where_all_shed_a_dead_link_ends_nobody(faults: toy.ToyFaults) -> None:
    bench = benches.Bench(
        benches.Scenario(
            pool_pages=17, tier_pages=(30,), attend_away=types.AttendAway.ALL, faults=faults
        )
    )
    requests = [toy.request([number] * 30, 8) for number in range(4)]  # 10 pages each
    streams = [bench.engine.submit(request) for request in requests]
    bench.run_until(lambda: all(stream.ended for stream in streams), steps_max=2_000)
    for stream, request in zip(streams, requests, strict=True):
        assert (stream.reason, stream.read()) == ("length", toy.expected_tokens(request))
    bench.run_until(lambda: bench.engine.idle)
    bench.check_all_free()


@pytest.mark.parametrize("mode", [types.AttendAway.LONG, types.AttendAway.ALL])
def test_where_all_that_have_pages_are_paused_and_none_can_go_on_one_gives_way(
    mode: types.AttendAway,
) -> None:
    bench = benches.Bench(
        benches.Scenario(
            policy=base.PolicySettings(
                quantum_tokens=2,
                prefill_quantum_tokens=2,
                newcomer_quantum_tokens=1,
                newcomer_lead_tokens=0.0,
            ),
            page_units=2,
            pool_pages=9,
            tier_pages=(4,),
            lanes=1,
            chunk_units=4,
            controller={"steps_contended": 2, "looks_max": 1, "passes_max": 1},
            attend_away=mode,
        )
    )
    requests = [toy.request([number] * 10, 9) for number in range(4)]  # 9 pages each, in 12
    streams = [bench.engine.submit(request) for request in requests]
    bench.run_until(lambda: all(stream.ended for stream in streams), steps_max=2_000)
    for stream, request in zip(streams, requests, strict=True):
        assert (stream.reason, stream.read()) == ("length", toy.expected_tokens(request))
    bench.run_until(lambda: bench.engine.idle)
    bench.check_all_free()


def test_who_sheds_does_not_leave_before_the_copies_were_begun() -> None:
    """While requests wait for a page that another computes, whose pages the long one sheds."""
    alike = [10] * 6
    came = [  # prompt, steps, tenant, second
        (alike, 8, "a", 0.0),
        ([2] * 60, 14, "b", 0.002),
        *[(alike + [5] * 10, 14, "b", 0.002)] * 2,
        ([3] * 4, 1, "a", 0.0028),
        *[([4] * 7, 14, "", 0.004)] * 4,
    ]
    clients = tuple(
        benches.Client(request=toy.request(prompt, steps, tenant=tenant), arrives_at=at)
        for prompt, steps, tenant, at in came
    )
    policy = base.PolicySettings(
        quantum_tokens=3,
        prefill_quantum_tokens=4,
        newcomer_quantum_tokens=1,
        tenant_weights={"a": 3.0},
    )
    for seed in (30, 40, 45, 55):
        scenario = benches.Scenario(
            policy=policy,
            page_units=2,
            pool_pages=17,
            tier_pages=(40,),
            lanes=4,
            chunk_units=4,
            steps_max=4,
            controller={"steps_contended": 1, "chunks_max": 3},
            page_seconds=1e-5,
            attend_away=types.AttendAway.LONG,
            prefix_reuse=True,
            faults=toy.ToyFaults(seed=seed, fail=0.5, refuse=0.1, delay_factor=10.0),
            clients=clients,
        )
        harness.run(scenario)


def test_a_long_session_waits_out_a_link_that_refuses_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = benches.Bench(
        benches.Scenario(pool_pages=17, tier_pages=(30,), attend_away=types.AttendAway.LONG)
    )
    submit, refused_at = bench.mover.submit, list[float]()

    def refuse_at_first(*args: Any) -> Any:
        if len(refused_at) < 7:
            refused_at.append(bench.clock.now())
            raise errors.MoveError("too many tickets")
        return submit(*args)

    monkeypatch.setattr(bench.mover, "submit", refuse_at_first)
    stream = bench.engine.submit(toy.request([1] * 100, 8))
    bench.run_until(lambda: stream.ended, steps_max=200)
    assert stream.read() == toy.expected_tokens(toy.request([1] * 100, 8))
    assert len(set(refused_at)) == 7  # each time the engine waited


def test_a_tenant_that_floods_leaves_the_other_its_half() -> None:
    overload = Overload(quantum_tokens=4, lanes=4, pool_pages=1025)
    for number in range(40):
        overload.submit(toy.request([number] * 4, 80, tenant="flood"))
    for number in range(3):
        overload.submit(toy.request([number] * 4, 900, tenant="calm"))
    overload.run_for(0.2)
    start = tenants_service(overload.bench)
    overload.run_for(0.5)
    given = {name: end - start[name] for name, end in tenants_service(overload.bench).items()}
    assert given["calm"] == pytest.approx(given["flood"], rel=0.1)


def test_weights_of_sessions_are_kept_over_a_long_run() -> None:
    overload = Overload(quantum_tokens=4, lanes=2, pool_pages=513)
    weights = [1.0, 1.0, 2.0, 2.0]
    for weight in weights:
        overload.submit(toy.request([1] * 4, 900, weight=weight))
    overload.run_for(0.8)
    sessions = list(overload.bench.controller.sessions.values())
    shares = [session.service / session.request.weight for session in sessions]
    assert len(shares) == 4
    assert shares == pytest.approx([sum(shares) / 4] * 4, rel=0.1)
    assert sum(session.service for session in sessions) > 1000


def test_weights_of_tenants_are_kept_over_a_long_run() -> None:
    overload = Overload(quantum_tokens=4, lanes=4, pool_pages=513, tenant_weights={"a": 3.0})
    for number in range(8):
        overload.submit(toy.request([1] * 4, 900, tenant="ab"[number % 2]))
    overload.run_for(0.8)
    given = tenants_service(overload.bench)
    assert given["a"] == pytest.approx(3 * given["b"], rel=0.1)


def test_long_prompts_are_charged_for_their_prefill() -> None:
    overload = Overload(quantum_tokens=8, lanes=2, pool_pages=1025, controller={"chunks_max": 1})
    for _ in range(2):
        overload.submit(toy.request([1] * 1500, 2, tenant="reads"))
        overload.submit(toy.request([1], 1500, tenant="writes"))
    overload.run_for(0.5)
    given = tenants_service(overload.bench)
    assert given["reads"] == pytest.approx(given["writes"], rel=0.2)
    read = [s.cached for s in overload.bench.controller.sessions.values() if s.id in (1, 3)]
    written = [len(s.emitted) for s in overload.bench.controller.sessions.values()]
    assert sum(read) > 1.5 * sum(written)  # a unit of prefill costs half a step


def tenants_service(bench: benches.Bench) -> dict[str, float]:
    """Service of the living sessions, by tenant. All must live: it is a backlog."""
    given: dict[str, float] = {}
    for session in bench.controller.sessions.values():
        tenant = session.request.tenant
        given[tenant] = given.get(tenant, 0.0) + session.service
    return given
