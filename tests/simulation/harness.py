"""Random runs of the production controller and engine on toy devices, with checks after every step.

Knows: how to draw a scenario from a seed, how clients behave, what must hold.
Does not know: how the controller decides. `python -m tests.simulation.harness SEED`
replays one seed and shows what the controller did.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aqua_jax.control import clock as clocks
from aqua_jax.control import controller, errors, pages, residency, types
from aqua_jax.control.policies import base, registry
from aqua_jax.engine import engine, streams
from aqua_jax.simulation import toy

DEVICE = 0
TIER_NAMES = ("peer", "host")
STEPS_MAX = 30_000  # of the engine in one run: many times what the longest needs
_ABORTABLE = tuple(state for state in types.State if state is not types.State.ENDED)


class WrongTokensError(AssertionError):
    """A client got tokens that an undisturbed run does not emit."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One request and how its client behaves.

    read_every_seconds: 0 reads at once, more reads late, None has a sink.
    abort_in: aborts when its session is first seen in this state; abort_at: at this second.
    """

    request: types.Request
    arrives_at: float = 0.0
    read_every_seconds: float | None = 0.0
    abort_in: types.State | None = None
    abort_at: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything a run needs; the same scenario runs the same way every time."""

    policy: base.PolicySettings = dataclasses.field(default_factory=base.PolicySettings)
    page_units: int = 4
    pool_pages: int = 33
    tier_pages: tuple[int, ...] = (64, 64)
    lanes: int = 4
    chunk_units: int = 8
    steps_max: int = 4
    controller: dict[str, int] = dataclasses.field(default_factory=dict)
    stream_tokens_max: int = 65_536
    page_seconds: float = 1e-4
    faults: toy.ToyFaults = dataclasses.field(default_factory=toy.ToyFaults)
    fail_at: frozenset[int] = frozenset()
    clients: tuple[Client, ...] = ()
    drain_at: float | None = None
    drain_seconds: float = 0.0


@dataclasses.dataclass(slots=True)
class Report:
    """What a run reached: counts by name, to show that the rare cases were met."""

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    seconds: float = 0.0

    def add(self, other: Report) -> None:
        """Adds another run's counts."""
        self.counts.update(other.counts)
        self.seconds += other.seconds


class Bench:
    """A controller and an engine over toy devices, as a scenario describes them."""

    def __init__(self, scenario: Scenario) -> None:
        spaces = {DEVICE: scenario.pool_pages}
        spaces |= dict(enumerate(scenario.tier_pages, 1))
        self.clock = clocks.VirtualClock()
        self.memory = toy.ToyMemory(spaces, scenario.page_units)
        self.runner = toy.ToyRunner(
            self.memory,
            self.clock,
            lanes=scenario.lanes,
            chunk_units=scenario.chunk_units,
            steps_max=scenario.steps_max,
            fail_at=scenario.fail_at,
        )
        self.mover = toy.ToyMover(
            self.memory, self.clock, page_seconds=scenario.page_seconds, faults=scenario.faults
        )
        self.controller = make_controller(scenario, self.runner)
        self.engine = engine.Engine(
            self.controller,
            self.mover,
            self.runner,
            self.clock,
            settings=engine.EngineSettings(stream_tokens_max=scenario.stream_tokens_max),
        )

    @property
    def pools(self) -> list[pages.PagePool]:
        """The device's pool and every tier's slots."""
        memory = self.controller.memory
        return [memory.device, *(tier.slots for tier in memory.tiers)]

    def step(self, until: float | None = None) -> bool:
        """One checked step of the engine."""
        done = self.engine.step(until)
        self.engine.check_integrity()
        return done

    def run_until(self, done: Callable[[], bool], *, steps_max: int = STEPS_MAX) -> None:
        """Checked steps until `done()`. Fails when that takes more than `steps_max`."""
        for _ in range(steps_max):
            if done():
                return
            self.step()
        raise AssertionError(f"not done after {steps_max} steps: {self.describe()}")

    def describe(self) -> str:
        """Where the sessions stand and what is free."""
        states = {s.value: n for s, n in self.controller.count_states().items() if n}
        return f"sessions {states}, free pages {[pool.free_count for pool in self.pools]}"

    def check_all_free(self) -> None:
        """Nothing is in flight, every page and slot is FREE."""
        assert self.engine.idle, self.describe()
        self.engine.check_integrity()
        for pool in self.pools:
            assert pool.free_count == pool.capacity, self.describe()


def make_controller(scenario: Scenario, runner: toy.ToyRunner) -> controller.Controller:
    """The production controller over the scenario's memory."""
    tiers = [
        residency.Tier(name, pages.PagePool(number, count))
        for number, (name, count) in enumerate(
            zip(TIER_NAMES, scenario.tier_pages, strict=False), 1
        )
    ]
    memory = residency.Residency(
        pages.PagePool(DEVICE, scenario.pool_pages, reserved=1),
        tiers,
        pages_needed=runner.pages_needed,
        units_in_page=runner.units_in_page,
    )
    settings = controller.ControllerSettings(
        lanes=scenario.lanes,
        chunk_units=scenario.chunk_units,
        steps_max=scenario.steps_max,
        **scenario.controller,
    )
    return controller.Controller(settings, registry.make(scenario.policy), memory)


def run_seeds(seeds: Iterable[int]) -> Report:
    """Runs every seed; a failure names its seed and the command that replays it."""
    total = Report()
    for seed in seeds:
        try:
            total.add(run(draw(seed)))
        except Exception as error:
            error.add_note(f"seed {seed}; replay: python -m tests.simulation.harness {seed}")
            raise
    return total


def run(scenario: Scenario) -> Report:
    """Runs the scenario to its end, checks integrity after every step and the tokens at the end."""
    return _Run(Bench(scenario), scenario).run()


class _Run:
    """One run: the clients' events and the engine's steps, interleaved in virtual time."""

    def __init__(self, bench: Bench, scenario: Scenario) -> None:
        self.bench = bench
        self.scenario = scenario
        self.report = Report()
        self.streams: list[tuple[Client, streams.Stream]] = []
        self.got: dict[int, list[Any]] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waits_to_abort: dict[int, types.State] = {}
        self._parked: set[int] = set()

    def run(self) -> Report:
        for client in self.scenario.clients:
            self._at(client.arrives_at, lambda client=client: self._arrive(client))
        draining = self.scenario.drain_at is not None
        if self.scenario.drain_at is not None:
            self._at(self.scenario.drain_at, self._drain)
        for _ in range(STEPS_MAX):
            self._run_due()
            self._read_eager()
            if self.bench.engine.idle and not (self._events and not self._is_over(draining)):
                break
            self.bench.step(self._events[0][0] if self._events else None)
            self._look()
        else:
            raise AssertionError(f"no end after {STEPS_MAX} steps: {self.bench.describe()}")
        self._finish()
        return self.report

    def _is_over(self, draining: bool) -> bool:
        """After a drain the events that are left are of clients who come too late."""
        return draining and self.bench.clock.now() > (self.scenario.drain_at or 0.0)

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _run_due(self) -> None:
        while self._events and self._events[0][0] <= self.bench.clock.now():
            heapq.heappop(self._events)[2]()

    def _arrive(self, client: Client) -> None:
        got: list[Any] = []
        sink = (
            (lambda tokens, *_: got.extend(tokens)) if client.read_every_seconds is None else None
        )
        try:
            stream = self.bench.engine.submit(client.request, sink=sink)
        except errors.RequestError:
            self.report.counts["too large"] += 1
            return
        except errors.QueueFullError:
            self.report.counts["came while draining"] += 1
            return
        self.streams.append((client, stream))
        self.got[stream.id] = got
        if client.read_every_seconds:
            self._read_later(stream, client.read_every_seconds)
        if client.abort_at is not None:
            self._at(client.abort_at, lambda: self.bench.engine.abort(stream.id))
        if client.abort_in is not None:
            self._waits_to_abort[stream.id] = client.abort_in

    def _read_later(self, stream: streams.Stream, every_seconds: float) -> None:
        def read() -> None:
            self.got[stream.id] += stream.read()
            if not stream.ended:
                self._read_later(stream, every_seconds)

        self._at(self.bench.clock.now() + every_seconds, read)

    def _read_eager(self) -> None:
        for client, stream in self.streams:
            if client.read_every_seconds == 0:
                self.got[stream.id] += stream.read()

    def _look(self) -> None:
        """Counts what the sessions are in, and aborts those who waited for it."""
        counts = self.report.counts
        living = self.bench.controller.sessions
        for id, state in list(self._waits_to_abort.items()):
            session = living.get(id)
            if session is not None and session.state is state:
                counts[f"abort {state.value}"] += 1
                counts["abort in flight"] += session.flights > 0
                counts["abort parked"] += session.parked
                self.bench.engine.abort(id)
                del self._waits_to_abort[id]
        parked = {id for id, session in living.items() if session.parked}
        for id in parked - self._parked:
            counts[f"park {living[id].state.value}"] += 1
        counts["unpark"] += len((self._parked & living.keys()) - parked)
        self._parked = parked

    def _drain(self) -> None:
        self.report.counts["drain"] += 1
        self.bench.engine.drain(self.scenario.drain_seconds)
        self.bench.check_all_free()

    def _finish(self) -> None:
        bench, counts = self.bench, self.report.counts
        for _, stream in self.streams:
            self.got[stream.id] += stream.read()
        bench.engine.close()
        bench.check_all_free()
        for client, stream in self.streams:
            counts[f"end {stream.reason}"] += 1
            check_tokens(client.request, stream, self.got[stream.id])
        for field in dataclasses.fields(bench.controller.counters):
            counts[field.name] += getattr(bench.controller.counters, field.name)
        moved = bench.controller.memory.moved
        counts.update({f"out {tier}": count for tier, count in moved.out.items()})
        counts.update({f"in {tier}": count for tier, count in moved.into.items()})
        counts["wasted"] += moved.wasted
        self.report.seconds = bench.clock.now()


def check_tokens(request: types.Request, stream: streams.Stream, got: Sequence[Any]) -> None:
    """It ended with a reason; finished: every token; else: those it got are the first ones."""
    assert stream.ended, f"request {stream.id} has no end"
    assert stream.reason in ("stop", "length", "abort", "deadline", "refused", "error")
    expected = toy.expected_tokens(request)
    if stream.reason not in ("stop", "length"):
        expected = expected[: len(got)]
    elif (len(expected) < request.steps_max) and stream.reason == "length":
        raise WrongTokensError(f"request {stream.id} ended by length at a stop token")
    if list(got) != expected:
        raise WrongTokensError(
            f"request {stream.id} ({stream.reason}) got {got}, expected {expected}"
        )
    assert (stream.error is not None) == (stream.reason in ("refused", "error"))


def draw(seed: int) -> Scenario:
    """A random scenario: now roomy, now cramped; now calm, now hostile."""
    rng = random.Random(seed)
    page_units = rng.choice([1, 2, 4])
    pool_pages = rng.randint(8, 24)
    cramped, roomy = rng.randint(1, 10), rng.randint(20, 60)
    clients = _draw_clients(rng, (pool_pages - 1) * page_units)
    last = clients[-1].arrives_at
    return Scenario(
        policy=_draw_policy(rng),
        page_units=page_units,
        pool_pages=pool_pages,
        tier_pages=rng.choice([(), (cramped,), (cramped, roomy), (roomy, roomy), (1, 2)]),
        lanes=rng.randint(1, 6),
        chunk_units=rng.choice([2, 4, 8]),
        steps_max=rng.randint(1, 5),
        controller={
            "steps_contended": rng.randint(1, 4),
            "chunks_max": rng.randint(1, 3),
            "looks_max": rng.choice([1, 2, 8]),
            "passes_max": rng.choice([1, 4]),
            "early_pages": rng.choice([0, 2, 8]),
            "sessions_max": rng.choice([3] + [1000] * 7),
        },
        stream_tokens_max=rng.choice([1, 3, 65_536]),
        page_seconds=rng.choice([1e-5, 1e-3, 5e-3]),
        faults=_draw_faults(rng),
        fail_at=_draw_failures(rng),
        clients=clients,
        drain_at=rng.uniform(0, 2 * last) if rng.random() < 0.1 else None,
        drain_seconds=rng.choice([0.0, 0.02, 10.0]),
    )


def _draw_policy(rng: random.Random) -> base.PolicySettings:
    return base.PolicySettings(
        name=rng.choice(["fcfs", "fcfs_reserve", "cfs", "cfs", "cfs", "cfs_recompute"]),
        quantum_tokens=rng.choice([1, 2, 8, 64]),
        prefill_quantum_tokens=rng.choice([1, 8, 512]),
        tenant_weights=rng.choice([{}, {"a": 3.0}]),
    )


def _draw_faults(rng: random.Random) -> toy.ToyFaults:
    return toy.ToyFaults(
        seed=rng.randint(0, 1 << 30),
        fail=rng.choice([0, 0, 0.1, 0.5]),
        delay=rng.choice([0, 0.5]),
        refuse=rng.choice([0, 0, 0.1]),
    )


def _draw_failures(rng: random.Random) -> frozenset[int]:
    """Dispatches that fail: mostly none, sometimes two, now and then enough to give all up."""
    chance = rng.random()
    if chance < 0.05:
        first = rng.randint(1, 40)
        return frozenset(range(first, first + 12))
    return frozenset(rng.sample(range(1, 300), 2)) if chance < 0.3 else frozenset()


def _draw_clients(rng: random.Random, units_max: int) -> tuple[Client, ...]:
    gap_seconds = rng.choice([1e-4, 1e-3, 1e-2])
    slow = rng.random() < 0.5  # some of the clients read late
    now = 0.0
    clients = []
    for _ in range(rng.randint(3, 18)):
        now += rng.expovariate(1 / gap_seconds)
        prompt = rng.randint(1, max(1, units_max // 2))
        steps = min(rng.randint(1, max(1, units_max - prompt)), 24)
        if rng.random() < 0.02:
            prompt += units_max  # more than all memory
        request = toy.request(
            [rng.randint(0, 99) for _ in range(prompt)],
            steps,
            stop_modulus=rng.choice([0, 0, 7]),
            tenant=rng.choice(["", "a", "b"]),
            weight=rng.choice([1.0, 2.0]),
            deadline_seconds=rng.choice([None] * 6 + [0.05]),
        )
        clients.append(
            Client(
                request=request,
                arrives_at=now,
                read_every_seconds=rng.choice([0.0, 0.004, 0.06, None] if slow else [0.0, None]),
                abort_in=rng.choice(_ABORTABLE) if rng.random() < 0.25 else None,
                abort_at=now + rng.uniform(0, 0.1) if rng.random() < 0.1 else None,
            )
        )
    return tuple(clients)


def replay(seed: int) -> None:
    """Runs one seed, writes what the controller did and how it ended."""
    scenario = draw(seed)
    bench = Bench(scenario)
    write = sys.stdout.write
    write(f"{dataclasses.replace(scenario, clients=())}\n")
    try:
        report = _Run(bench, scenario).run()
    finally:
        for event in bench.controller.log.events:
            write(f"{event.at:10.5f} {event.name:16} session {event.session:3} {event.value}\n")
    write(f"{dict(report.counts)}\n")


if __name__ == "__main__":
    replay(int(sys.argv[1]))
