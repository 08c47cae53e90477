"""Processes of a random server: an engine or a lender that may die, stall, fall silent, start anew.

Knows: lives and troubles, what a process is made of. Does not know: whose turn
it is (`whole.py`), what the ledger decides. A process that dies takes its
memory with it; what others had mapped of it stays with them until they let go.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from aqua_jax.control import borrowing, lease_types, lending, sources
from aqua_jax.control import clock as clocks
from aqua_jax.engine import protocols
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench as benches
from aqua_jax.simulation.fuzz import crowd as crowds
from aqua_jax.simulation.fuzz import desk as desks
from aqua_jax.simulation.fuzz import frames, leaping, line, servers, verdict

_SPACES = range(20, 23)
_LIFE = 1000  # incarnations that a process may use up by itself
# Between the ledger's silence and a borrower's: its longest slice and copy, and a leap.
_SILENCE_SECONDS = 0.1
_GONE_SECONDS = 0.5


class Process(Protocol):
    """What may die and start anew."""

    @property
    def is_over(self) -> bool:
        """It has nothing to do any more, and nobody to do it for."""
        ...

    def start(self) -> None:
        """A new life."""
        ...

    def die(self) -> None:
        """From one moment to the next."""
        ...

    def turn(self) -> bool:
        """Takes in what happened and does what is due, checked. True: it did something."""
        ...

    def wakes_at(self) -> float:
        """The second of its own clock at which a turn is due though nothing happens."""
        ...

    def close(self) -> None:
        """It wants nothing any more, and all its memory back."""
        ...

    def left_over(self) -> str:
        """What it holds of others, or others of it, in words; "": nothing."""
        ...


class Life:
    """What a process has in each of its lives: a clock, a line; and how many slots it has lent."""

    def __init__(self, desk: desks.Desk, clock: clocks.Clock, faults: line.LineFaults) -> None:
        self.desk = desk
        self.number = 0
        self.device = clock  # devices have a time of their own, which does not leap
        self._faults = faults
        self.clock = leaping.LeapingClock(clock)
        self.port = desk.connect(faults)

    def begin(self) -> int:
        """A new one; the incarnation to join with."""
        self.number += 1
        self.clock = leaping.LeapingClock(self.device)
        faults = dataclasses.replace(self._faults, seed=100 * self._faults.seed + self.number)
        self.port = self.desk.connect(faults)
        return self.number * _LIFE


class EngineProcess:
    """An engine that borrows, or lends pages of its pool, and its clients."""

    def __init__(
        self,
        plan: servers.EnginePlan,
        life: Life,
        *,
        unit_slots: int,
        report: verdict.Report,
    ) -> None:
        self.life = life
        self._plan = plan
        self._unit_slots = unit_slots
        self._report = report
        self._scenario = plan.scenario
        self._parties: list[borrowing.Borrower | lending.Lender] = []
        self._lent: frames.Lent | None = None
        self.bench: benches.Bench | None = None
        self._crowd: crowds.Crowd | None = None

    @property
    def is_over(self) -> bool:
        return self._crowd is None or self._crowd.is_over

    @property
    def slots_in_use(self) -> int:
        """Of what it borrows."""
        if self.bench is None:
            return 0
        tiers = self.bench.controller.memory.slots.tiers
        return sum(tier.slots.used_count for tier in tiers if not tier.is_fixed)

    def start(self) -> None:
        incarnation = self.life.begin()
        make = self._borrower if self._plan.ahead_slots else self._lender
        self.bench = benches.Bench(
            self._scenario,
            clock=self.life.clock,
            device=self.life.device,
            parties=lambda bench: self._join(make(bench, incarnation)),
        )
        self._crowd = crowds.Crowd(self.bench, self._scenario, self._report)

    def die(self) -> None:
        """Clients whose request had no end send it again to the next life, if there is one."""
        assert self.bench is not None
        assert self._crowd is not None
        left = self._crowd.die()
        now = self.life.clock.now()
        self._scenario = dataclasses.replace(
            self._scenario,
            clients=tuple(dataclasses.replace(client, abort_at=None) for client in left),
            fail_at=frozenset(),
            drain_at=None,
        )
        self._report.counts["died with requests"] += bool(left)
        self._count_parties()
        self.bench.memory.detach()
        self.life.desk.lent.pop(self._plan.name, None)
        self.bench = self._crowd = self._lent = None
        self._parties = []
        self._report.seconds = max(self._report.seconds, now)

    def turn(self) -> bool:
        assert self.bench is not None
        assert self._crowd is not None
        self._crowd.run_due()
        self._crowd.read_eager()
        did = self.bench.engine.turn()
        self.bench.engine.check_integrity()
        for party in self._parties:
            if isinstance(party, borrowing.Borrower):
                party.check_integrity()
        self._crowd.look()
        return did

    def wakes_at(self) -> float:
        assert self.bench is not None
        assert self._crowd is not None
        at = self.bench.engine.wakes_at()
        return at if self._crowd.next_at is None else min(at, self._crowd.next_at)

    def close(self) -> None:
        if self._lent is not None:
            self._lent.is_closing = True

    def left_over(self) -> str:
        if self.bench is None:
            return ""
        for party in self._parties:
            if isinstance(party, borrowing.Borrower) and party.units_held:
                return f"it holds {party.units_held} units"
            if isinstance(party, lending.Lender) and party.lent:
                return f"it has lent {party.lent}"
        device = self.bench.controller.memory.device
        if device.capacity != device.capacity_most:
            return f"its pool has {device.capacity} of {device.capacity_most} pages"
        return ""

    def check_end(self) -> None:
        """Every page is FREE, every client has what belongs to it."""
        if self.bench is not None and self._crowd is not None:
            self.bench.engine.close()
            self.bench.check_all_free()
            self._crowd.check_end()
            self._count_parties()

    # -- helpers, in call order --------------------------------------------------------------

    def _join(self, party: borrowing.Borrower | lending.Lender) -> Sequence[protocols.Party]:
        self._parties = [party]
        return self._parties

    def _borrower(self, bench: benches.Bench, incarnation: int) -> borrowing.Borrower:
        return borrowing.Borrower(
            self._plan.name,
            bench.controller,
            self.life.port,
            settings=borrowing.BorrowerSettings(
                unit_slots=self._unit_slots,
                spaces=_SPACES,
                units_max=8,
                ahead_slots=self._plan.ahead_slots,
                full_share=0.25,
                idle_seconds=0.3,
                heartbeat_seconds=0.01,
                silence_seconds=_SILENCE_SECONDS,
                timeout_seconds=0.01,
                backoff_seconds=0.01,
                backoff_seconds_max=0.1,
            ),
            incarnation=incarnation,
            arenas=_Mapped(bench.memory, self.life.desk, self._unit_slots),
            now=self.life.clock.now(),
        )

    def _lender(self, bench: benches.Bench, incarnation: int) -> lending.Lender:
        load = sources.PoolLoad(
            retain_pages=self._plan.retain_pages, pending_high=4, calm_seconds=0.01
        )
        source = sources.PoolSource(bench.controller, load, unit_pages=self._unit_slots)
        pool = bench.runner.space

        def take(unit: int) -> frames.Frames:
            return [bench.memory.pages[pool][page] for page in source.pages(unit)]

        self._lent = frames.Lent(source, take=take, give=_nothing, garble=bench.memory.garble_all)
        self.life.desk.lent[self._plan.name] = self._lent
        return _make_lender(self._plan.name, self._lent, self.life, incarnation, 0.02)

    def _count_parties(self) -> None:
        for party in self._parties:
            _count(self._report, party)


class LenderProcess:
    """A process that lends memory which it uses itself at other times."""

    def __init__(
        self,
        plan: servers.LenderPlan,
        life: Life,
        *,
        unit_slots: int,
        page_units: int,
        report: verdict.Report,
        in_use: Callable[[], int],
    ) -> None:
        """in_use: slots that borrowers use of what is lent, by whomever."""
        self.life = life
        self.slots_in_use = 0
        self._in_use = in_use
        self._plan = plan
        self._unit_slots = unit_slots
        self._page_units = page_units
        self._report = report
        self._spare = collections.deque(plan.spare)
        self._source = sources.BatchSource(unit_bytes=1, buffer_bytes=0, least_bytes=0)
        self._lent: frames.Lent | None = None
        self._stock: list[frames.Frames] = []
        self._lender: lending.Lender | None = None

    @property
    def is_over(self) -> bool:
        return True

    def start(self) -> None:
        plan, size = self._plan, self._unit_slots
        memory = toy.ToyMemory({0: plan.units * size}, self._page_units)
        pages = memory.pages[0]
        self._stock = [pages[unit * size : (unit + 1) * size] for unit in range(plan.units)]
        free = self._source.free_bytes
        self._source = sources.BatchSource(unit_bytes=1, buffer_bytes=0, least_bytes=0)
        self._source.inform(free)
        stock = self._stock
        self._lent = frames.Lent(
            self._source,
            take=lambda unit: stock.pop(0),
            give=stock.append,
            garble=memory.garble_all,
        )
        self.life.desk.lent[plan.name] = self._lent
        self._lender = _make_lender(
            plan.name, self._lent, self.life, self.life.begin(), plan.reclaim_seconds
        )

    def die(self) -> None:
        assert self._lender is not None
        _count(self._report, self._lender)
        self.life.desk.lent.pop(self._plan.name)
        self._lender = self._lent = None

    def turn(self) -> bool:
        assert self._lender is not None
        now = self.life.clock.now()
        while (
            self._spare
            and self._spare[0].at <= now
            and self._spare[0].slots_in_use <= self._in_use()
        ):
            self._source.inform(self._spare.popleft().units)
        return self._lender.turn(now)

    def wakes_at(self) -> float:
        assert self._lender is not None
        return self._lender.wakes_at()

    def close(self) -> None:
        self._spare.clear()
        self._source.inform(0)

    def left_over(self) -> str:
        if self._lender is None:
            return ""
        if self._lender.lent or len(self._stock) < self._plan.units:
            return f"it has lent {self._lender.lent}, {len(self._stock)} units are its own"
        return ""

    def check_end(self) -> None:
        """What it did is counted; `left_over` said that all is home."""
        if self._lender is not None:
            _count(self._report, self._lender)


class _Mapped:
    """An `Arenas`: a grant's slots are its lender's pages, or the borrower's own for want of it."""

    def __init__(self, memory: toy.ToyMemory, desk: desks.Desk, unit_slots: int) -> None:
        self._memory = memory
        self._desk = desk
        self._unit_slots = unit_slots

    def open(self, grant: lease_types.Grant, space: int) -> None:
        units = self._desk.frames(grant)
        self._memory.add(space, len(units) * self._unit_slots)
        for number, unit in enumerate(units):
            if unit is not None:
                first = number * self._unit_slots
                self._memory.pages[space][first : first + self._unit_slots] = unit

    def scrub(self, space: int, slots: range) -> None:
        for slot in slots:
            self._memory.garble(space, slot)

    def close(self, space: int) -> None:
        self._memory.add(space, len(self._memory.pages[space]))


def _make_lender(
    name: str, source: sources.Source, life: Life, incarnation: int, reclaim_seconds: float
) -> lending.Lender:
    return lending.Lender(
        name,
        source,
        life.port,
        settings=lending.LenderSettings(
            reclaim_seconds=reclaim_seconds,
            heartbeat_seconds=0.01,
            timeout_seconds=0.01,
            gone_seconds=_GONE_SECONDS,
            quarantine_seconds=QUARANTINE_SECONDS,
        ),
        incarnation=incarnation,
        now=life.clock.now(),
    )


QUARANTINE_SECONDS = desks.SILENCE_SECONDS + _SILENCE_SECONDS + 0.1


def _count(report: verdict.Report, party: borrowing.Borrower | lending.Lender) -> None:
    role = "borrower" if isinstance(party, borrowing.Borrower) else "lender"
    for field in dataclasses.fields(party.counters):
        report.counts[f"{role} {field.name}"] += getattr(party.counters, field.name)


def _nothing(frames_: frames.Frames) -> None:
    """A pool's pages are where they were."""
