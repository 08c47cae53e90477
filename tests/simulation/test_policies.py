"""What every policy promises: progress, overtaking within its bound, a device that is not idle.

Sessions arrive without end, at twice the rate at which they can be served. Each
policy has a scale on which newcomers get their places, and says of a session up
to where on it newcomers may overtake: on the scale of arrivals nobody, on that
of a floor or of the clock those who came before it has risen so far.

That tokens are those of an undisturbed run, under any load, is for
`test_random_runs.py`, which draws every policy.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest

from aqua_jax.control import admission, tickets, types
from aqua_jax.control.policies import base, buffered, cfs, eevdf, fcfs, mlfq, registry, srpt, vtc
from aqua_jax.engine import usage
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench as benches

FAIR = 8  # sessions_fair: small, so that bounds are soon reached
LANES = 2
LEAD = 4.0  # of newcomers under cfs, in virtual time
TENANTS = ("a", "b", "c")
BY_FLOOR = (eevdf.Eevdf, mlfq.Mlfq, srpt.Srpt)

every_policy = pytest.mark.parametrize("name", sorted(registry.POLICIES))


@dataclasses.dataclass(slots=True)
class Fate:
    """One session of an overload; `given` figures are the device's service in all by then."""

    session: types.Session
    work: float  # its own service, prefill and steps
    came: float  # where the policy's scale stood when it came
    given_when_came: float
    given: float = 0.0  # to itself
    closes: float = 0.0  # the furthest that it was ever overtaken to, on that scale
    given_when_ended: float | None = None
    tokens: list[int] = dataclasses.field(default_factory=list)


class Overload:
    """A bench that is watched: who overtakes at each dispatch, who could run at each wait."""

    def __init__(self, name: str, *, quantum_tokens: int = 8, fair: int = FAIR, **fields: Any):
        self.settings = base.PolicySettings(
            name=name,
            quantum_tokens=quantum_tokens,
            prefill_quantum_tokens=quantum_tokens,
            sessions_fair=fair,
            newcomer_lead_tokens=LEAD,
            reading_tokens_per_second=400.0,
        )
        fields = {"lanes": LANES, "pool_pages": 1025, "page_seconds": 1e-5} | fields
        self.bench = benches.Bench(benches.Scenario(policy=self.settings, **fields))
        self.policy = self.bench.controller.policy
        self.fates: dict[int, Fate] = {}
        self.given = 0.0
        self.waits = 0  # of the engine
        self._begun: set[int] = set()
        self._slices: list[tickets.Ticket] = []
        self._dispatch, self.bench.runner.dispatch = self.bench.runner.dispatch, self.dispatch
        self._wait, self.bench.clock.wait = self.bench.clock.wait, self.wait

    @property
    def scale(self) -> float:
        """Where a newcomer gets its place."""
        if isinstance(self.policy, cfs.Cfs):  # nobody here has a tenant
            return max((tenant.floor for tenant in self.policy.groups.named.values()), default=0.0)
        if isinstance(self.policy, BY_FLOOR):
            return self.policy.floor
        if isinstance(self.policy, buffered.Buffered):
            return self.bench.clock.now()
        return float(len(self.fates))

    def closes(self, session: types.Session) -> float:
        """Who comes when the scale stands here, or later, does not go before the session."""
        if isinstance(self.policy, eevdf.Eevdf):
            return self.policy.key(session)[0]
        if isinstance(self.policy, mlfq.Mlfq):
            return session.vtime - self.settings.quantum_tokens
        if isinstance(self.policy, cfs.Cfs):
            return self.policy.groups.key(session)[0] + LEAD
        if isinstance(self.policy, (srpt.Srpt, buffered.Buffered)):
            return session.vtime
        return float(session.id)

    def submit(self, request: types.Request) -> Fate:
        """One more session, and a step of the engine that takes it in."""
        work = self.policy.service(request.prompt_units, request.steps_max - 1)
        came, given = self.scale, self.given

        def sink(tokens: Sequence[Any], reason: str, at: float) -> None:
            fate.tokens.extend(tokens)
            if reason:
                fate.given_when_ended = self.given

        stream = self.bench.engine.submit(request, sink=sink)
        session = types.Session(stream.id, request, 0.0)  # until the engine has its own
        fate = self.fates[stream.id] = Fate(session, work, came, given)
        self.bench.engine.step()
        fate.session = self.bench.controller.sessions[stream.id]
        return fate

    def arrive(self, count: int, *, seed: int) -> None:
        """`count` sessions at twice the rate at which two lanes can serve them."""
        rng = random.Random(seed)
        # Where tenants share by weight, one's virtual time runs faster the more sessions it has,
        # and the bound with it: then each is for itself.
        tenants = TENANTS if isinstance(self.policy, vtc.Vtc) else ("",)
        for number in range(count):
            steps = 24 if number < 10 else 8  # the early ones are three times as long
            tenant = tenants[rng.randrange(len(tenants))]
            self.submit(toy.request([number] * 8, steps, tenant=tenant))
            # A prefill takes 2 ms and 8 steps beside another lane 4 ms of the device.
            until = self.bench.clock.now() + 0.006 * rng.random()
            while self.bench.clock.now() < until:
                self.bench.engine.step(until)
        self.bench.engine.check_integrity()

    def dispatch(self, batch: types.Batch) -> tickets.Ticket:
        """Counts what the device gives, and looks at whom the sessions that begin go past."""
        sessions = self.bench.controller.sessions
        for session in sessions.values():
            fate = self.fates[session.id]
            fate.closes = max(fate.closes, self.closes(session))
        waiting = [s for s in sessions.values() if s.lane < 0 and not s.flights]
        for plan in batch.lanes:
            service = self.policy.service(plan.prefill, plan.steps)
            self.given += service
            self.fates[plan.session.id].given += service
            if plan.session.id not in self._begun:
                self._begun.add(plan.session.id)
                for one in waiting:
                    if one.state in (types.State.WAITING, types.State.PAUSED):
                        self._check_not_past(plan.session, one)
        self._slices.append(self._dispatch(batch))
        return self._slices[-1]

    def wait(self, pending: Sequence[tickets.Ticket], until: float) -> list[tickets.Ticket]:
        """While the device has nothing to do, nobody could run."""
        self.waits += 1
        self._slices = [ticket for ticket in self._slices if not ticket.done()]
        if not self._slices:
            self._check_nobody_could_run()
        return self._wait(pending, until)

    def slack(self, fate: Fate) -> float:
        """What the device gives at most while it runs the session itself, others beside it."""
        limits = self.bench.controller.settings
        steps = max(1, limits.steps_contended // 2)
        slices = -(-fate.session.request.steps_max // steps) + 2
        of_slice = self.policy.service(limits.rows_max, limits.lanes * limits.steps_contended)
        return slices * of_slice + 2 * LANES * self.settings.quantum_tokens

    def _check_not_past(self, newcomer: types.Session, waiting: types.Session) -> None:
        if self.roomy and self.may_not_pass(newcomer, waiting):
            came, closes = self.fates[newcomer.id].came, self.closes(waiting)
            raise AssertionError(
                f"{self.settings.name}: session {newcomer.id}, which came at {came}, begins before"
                f" {waiting.id}, which newcomers overtake up to {closes}"
            )

    @property
    def roomy(self) -> bool:
        """True when pages are never what a session waits for, so that nobody is passed over."""
        return self.bench.controller.memory.device.capacity >= 1000

    def may_not_pass(self, newcomer: types.Session, waiting: types.Session) -> bool:
        """True when the newcomer came too late to go before the one that waits."""
        if isinstance(self.policy, vtc.Vtc) and newcomer.request.tenant != waiting.request.tenant:
            return False  # each tenant has a scale of its own: see the tests of tenants
        if newcomer.id <= waiting.id:
            return False
        if not isinstance(self.policy, (*BY_FLOOR, cfs.Cfs, buffered.Buffered)):
            return True
        return self.fates[newcomer.id].came >= self.closes(waiting)

    def _check_nobody_could_run(self) -> None:
        controller = self.bench.controller
        memory, lanes = controller.memory, controller.settings.lanes
        free = memory.device.free_count
        running = [session for session in controller.sessions.values() if session.lane >= 0]
        for session in running:
            if session.state is types.State.RUNNING:
                grown = memory.pages_for(session, session.planned_cached + 1)
                assert grown > memory.covered(session) + free, f"{session} could run"
        waiting = controller._stage.queue
        if len(running) < lanes and waiting:
            # Who comes back is let in with the pages that it will want at once.
            kept = sum(controller._shaper.growth(session) for session in running)
            first = waiting.first()
            if first.state is not types.State.AWAY:
                needed = self._pages_to_begin(first)
                assert needed > memory.covered(first) + free - kept, f"{first} could run"
        if not memory.copies_in_flight:
            stuck = [s for s in controller.sessions.values() if not s.parked]
            assert not stuck, f"nothing is under way and nobody runs: {self.bench.describe()}"

    def _pages_to_begin(self, session: types.Session) -> int:
        memory, chunk_units = (
            self.bench.controller.memory,
            self.bench.controller.settings.chunk_units,
        )
        if self.policy.reserves_output:
            return memory.pages_for(session, session.units_end - 1)
        rows = min(session.prefill_left, chunk_units) or 1
        return memory.pages_for(session, session.planned_cached + rows)


@every_policy
@pytest.mark.parametrize("quantum_tokens", [1, 32])
def test_newcomers_without_end_hold_nobody_up_beyond_the_bound(
    name: str, quantum_tokens: int
) -> None:
    overload = Overload(name, quantum_tokens=quantum_tokens)
    overload.arrive(300, seed=quantum_tokens)
    assert len(overload.bench.controller.sessions) > 100  # it was an overload indeed
    assert overload.waits > 100
    for fate in list(overload.fates.values())[:40]:
        assert fate.given_when_ended is not None
        assert fate.given_when_ended <= may_come_before(overload, fate) + overload.slack(fate)
        assert fate.tokens == toy.expected_tokens(fate.session.request)


def may_come_before(overload: Overload, fate: Fate) -> float:
    """The service that the policy may give to others before the session, and the session's own."""
    fates = list(overload.fates.values())
    if isinstance(overload.policy, vtc.Vtc):
        return _tenants_bound(overload, fate)
    return sum(o.work for o in fates if o is fate or o.came < fate.closes)


def _tenants_bound(overload: Overload, fate: Fate) -> float:
    """As `vtc.py` states it, from the beginning, when all counters are 0."""
    tenant, most = fate.session.request.tenant, max(o.work for o in overload.fates.values())
    fates = [o for o in overload.fates.values() if o.session.id <= fate.session.id]
    own = sum(o.work for o in fates if o.session.request.tenant == tenant)
    return own + (len(TENANTS) - 1) * (own + LANES * most)


@every_policy
@pytest.mark.parametrize("slots", [(), (6, 12), (200,)])
def test_every_session_gets_on_where_pages_are_few(name: str, slots: tuple[int, ...]) -> None:
    overload = Overload(
        name,
        pool_pages=13,
        tier_pages=slots,
        lanes=3,
        page_seconds=1e-3,
        controller={"looks_max": 3, "passes_max": 2},
    )
    overload.arrive(400, seed=3)
    assert overload.bench.controller.counters.preemptions > 0 or name == "fcfs_reserve"
    early = list(overload.fates.values())[:20]
    assert [fate.session.reason for fate in early] == ["length"] * 20
    assert all(fate.tokens == toy.expected_tokens(fate.session.request) for fate in early)
    assert overload.bench.engine.usage.seconds[usage.Use.IDLE] == 0.0


@pytest.mark.parametrize("name", ["cfs", "mlfq", "srpt"])
def test_without_a_floor_that_rises_newcomers_do_starve_the_early(name: str) -> None:
    overload = Overload(name, quantum_tokens=1, fair=10**9)
    overload.arrive(300, seed=1)
    ended = [fate.given_when_ended for fate in list(overload.fates.values())[:10]]
    assert ended.count(None) > 5


def test_who_overtakes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcfs.Fcfs, "key", lambda self, session: (-session.id,))
    with pytest.raises(AssertionError, match=r"session \d+, which came at .*, begins before"):
        Overload("fcfs").arrive(50, seed=1)


def test_a_device_that_idles_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission.Admission, "walk", lambda *_, **__: None)
    with pytest.raises(AssertionError, match="could run"):
        Overload("fcfs").arrive(1, seed=1)


def test_tenants_with_sessions_waiting_are_served_alike_by_vtc() -> None:
    overload = Overload("vtc")
    for number in range(120):
        overload.submit(toy.request([number] * 32, 16, tenant="heavy"))
        overload.submit(toy.request([number] * 8, 6, tenant="light"))
    start, most = tenants_service(overload), 0.0
    gains = dict.fromkeys(start, 0.0)
    for _ in range(400):
        overload.bench.engine.step()
        for name, given in tenants_service(overload).items():
            gains[name] = given - start[name]
        most = max(most, abs(gains["heavy"] - gains["light"]))
    longest = max(fate.work for fate in overload.fates.values())
    assert {session.request.tenant for session in waiting(overload)} == {"heavy", "light"}
    assert min(gains.values()) > 10 * longest
    assert most <= LANES * longest


def test_a_tenant_saves_nothing_up_while_it_is_away() -> None:
    overload = Overload("vtc")
    for number in range(40):
        overload.submit(toy.request([number] * 8, 24, tenant="stays"))
    for _ in range(60):
        overload.bench.engine.step()
    before = tenants_service(overload)["stays"]
    for number in range(40):
        overload.submit(toy.request([number] * 8, 24, tenant="returns"))
    for _ in range(60):
        overload.bench.engine.step()
    given = tenants_service(overload)
    longest = max(fate.work for fate in overload.fates.values())
    assert before > 3 * longest
    assert abs(given["stays"] - before - given["returns"]) <= LANES * longest


def waiting(overload: Overload) -> list[types.Session]:
    """Sessions in the queue."""
    return list(overload.bench.controller._stage.queue)


def tenants_service(overload: Overload) -> dict[str, float]:
    """Service that each tenant was given, as decided."""
    given: dict[str, float] = {}
    for fate in overload.fates.values():
        tenant = fate.session.request.tenant
        given[tenant] = given.get(tenant, 0.0) + fate.given
    return given
