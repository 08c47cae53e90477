"""A borrower in random runs: a ledger behind a bad line, and a lender that reclaims, dies, scrubs.

Knows: when which of it happens; that a unit is the same memory whoever has it.
Does not know: who the clients are. Whoever touches a unit that is not its own
any more, or releases one too early, changes tokens.
"""

from __future__ import annotations

import collections
import dataclasses

from aqua_jax.control import borrowing, controller, lease_line, lease_types, leases, ranges
from aqua_jax.control import clock as clocks
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import draws, line, verdict

_SPACES = range(20, 23)
_LEDGER_SILENCE_SECONDS, _SILENCE_SECONDS = 0.3, 0.1  # between them: the longest copy
_LENDER, _BORROWER = "lender", "borrower"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A ledger, one lender, one borrower. Rates are of messages, each way.

    reclaims: second, units, seconds until the deadline. restarts_at: seconds at which the ledger
    does. dies_in_use: the lender starts anew once so many borrowed slots are in use. silent: once
    so many are, the line is dead for so many seconds.
    """

    seed: int
    units: int
    unit_slots: int
    ahead_slots: int
    lose: float
    repeat: float
    delay_seconds: float
    reclaims: tuple[tuple[float, int, float], ...]
    restarts_at: tuple[float, ...]
    dies_in_use: tuple[int, ...]
    silent: tuple[int, float]


def draw(seed: int, until: float) -> Lease | None:
    """A lease for some of the seeds; what happens to it falls into the first `until` seconds."""
    rng = draws.Draws(seed, "lease")
    if rng.chance(0.3):
        return None

    def times(most: int) -> tuple[float, ...]:
        return tuple(sorted(rng.within(0, until) for _ in range(rng.between(0, most))))

    units = rng.between(1, 8)
    return Lease(
        seed=seed,
        units=units,
        unit_slots=rng.one_of([1, 2, 3]),
        ahead_slots=rng.between(1, 12),
        lose=rng.one_of([0.0, 0.2]),
        repeat=rng.one_of([0.0, 0.3]),
        delay_seconds=rng.one_of([0.0, 0.001, 0.01]),
        reclaims=tuple(
            (at, rng.between(1, units), rng.one_of([0.001, 0.02, 0.5])) for at in times(4)
        ),
        restarts_at=times(1),
        dies_in_use=tuple(rng.between(0, 6) for _ in range(rng.one_of([0, 0, 1]))),
        silent=(rng.between(0, 6), rng.one_of([0.0, 0.4, 1.0])),
    )


class Scene:
    """The ledger, the lender and the memory of one run; an `Arenas` for the borrower."""

    def __init__(
        self,
        lease: Lease,
        owner: controller.Controller,
        memory: toy.ToyMemory,
        clock: clocks.Clock,
    ) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.ledger = leases.Ledger(
            unit_bytes=1, silence_seconds_max=_LEDGER_SILENCE_SECONDS, jump_seconds_max=0.1
        )
        self.overdue: set[int] = set()  # reclaims that the ledger reported
        self._lease = lease
        self._memory = memory
        self._clock = clock
        self._reclaims = collections.deque(lease.reclaims)
        self._slots = owner.memory.slots
        self._silent = [lease.silent]
        self._dies_in_use = collections.deque(lease.dies_in_use)
        self._restarts_at = collections.deque(lease.restarts_at)
        self._life = self._requests = 0
        self._units: dict[int, list[list[int]]] = {}  # unit -> its pages
        self._join(0.0)
        faults = line.LineFaults(
            seed=lease.seed, lose=lease.lose, repeat=lease.repeat, delay_seconds=lease.delay_seconds
        )
        self._line = line.BadLine(faults, clock, self._answer, self.counts)
        self.borrower = borrowing.Borrower(
            _BORROWER,
            owner,
            self._line,
            settings=borrowing.BorrowerSettings(
                unit_slots=lease.unit_slots,
                spaces=_SPACES,
                units_max=8,
                ahead_slots=lease.ahead_slots,
                full_share=0.25,
                idle_seconds=0.3,
                heartbeat_seconds=0.01,
                silence_seconds=_SILENCE_SECONDS,
                timeout_seconds=0.01,
                backoff_seconds=0.01,
                backoff_seconds_max=0.1,
            ),
            incarnation=1,
            arenas=self,
        )

    # -- the borrower's memory ---------------------------------------------------------------

    def open(self, grant: lease_types.Grant, space: int) -> None:
        """The unit's pages are what the lender has there."""
        units = [unit for first, end in grant.units for unit in range(first, end)]
        self._memory.pages[space] = [page for unit in units for page in self._units[unit]]

    def scrub(self, space: int, slots: range) -> None:
        for slot in slots:
            self._memory.garble(space, slot)

    def close(self, space: int) -> None:
        self._memory.add(space, len(self._memory.pages[space]))

    def _answer(self, ask: lease_line.Ask) -> lease_line.Answer:
        return lease_line.answer(self.ledger, ask, self._clock.now())

    # -- the lender --------------------------------------------------------------------------

    def step(self) -> None:
        """Time has passed for the ledger and the lender."""
        now = self._clock.now()
        self.counts["voids"] += self.borrower.counters.grants_void - self.counts["voids"]
        if self._restarts_at and self._restarts_at[0] <= now:
            self._restarts_at.popleft()
            self.ledger = leases.Ledger.restore(self.ledger.snapshot())
            self.counts["ledger restarts"] += 1
        in_use = sum(t.slots.used_count for t in self._slots.tiers if not t.is_fixed)
        if self._silent and self._silent[0][0] <= in_use:
            until = now + self._silent.pop()[1]
            self._line.ask_until = self._line.answer_until = until
        if self._dies_in_use and self._dies_in_use[0] <= in_use:
            self._dies_in_use.popleft()
            self._join(now)
            self.counts["lender deaths"] += 1
        standing = self.ledger.heartbeat(_LENDER, incarnation=self._life, now=now)
        for event in self.ledger.tick(now):
            self.counts[type(event).__name__] += 1
            if isinstance(event, lease_types.Overdue):
                self.overdue.add(event.reclaim)
        assert standing.lease is not None
        if standing.lease.fenced:
            self._scrub(standing.lease.fenced, now)
        if self._reclaims and self._reclaims[0][0] <= now:
            _, units, seconds = self._reclaims.popleft()
            self.reclaim(units, seconds)
        self.ledger.check_integrity()
        self.borrower.check_integrity()

    def reclaim(self, units: int, seconds: float) -> None:
        """The lender wants units back."""
        now = self._clock.now()
        out = self.ledger.standing(_LENDER).lease
        assert out is not None
        left = sum(one.left_count for one in out.reclaims)
        there = ranges.count((*out.free, *out.fenced, *(r for g in out.grants for r in g.units)))
        units = min(units, there - left)
        if units > 0:
            self.counts["reclaims"] += 1
            self.ledger.reclaim(self._stamp(), units_count=units, deadline=now + seconds, now=now)

    def wind_up(self) -> None:
        """Nothing happens any more but that all comes home."""
        for events in (self._reclaims, self._dies_in_use, self._restarts_at, self._silent):
            events.clear()
        self.reclaim(self._lease.units, 0.1)

    @property
    def is_all_home(self) -> bool:
        """True when nothing of the lease is lent, and nobody believes that it is."""
        lease = self.ledger.standing(_LENDER).lease
        lent = lease is None or lease.free or lease.fenced or lease.grants
        return not (lent or self.borrower.units_held)

    def check_deadlines(self) -> None:
        """Every reclaim was met, or is not due yet, or was reported."""
        now = self._clock.now()
        for one in self.ledger.reclaim_status(_LENDER):
            verdict.promise(
                one.deadline >= now or one.id in self.overdue, f"nobody was told of {one}"
            )

    def _join(self, now: float) -> None:
        """The lender starts anew, with memory of its own; what it had lent is void."""
        self._life += 1
        self._requests = 0
        units = range(self._lease.units)
        self.ledger.join(_LENDER, lease_types.Role.LENDER, incarnation=self._life, now=now)
        fresh = toy.ToyMemory({0: self._lease.unit_slots * len(units)}, self._memory.page_units)
        pages, size = fresh.pages[0], self._lease.unit_slots
        self._units = {unit: pages[unit * size : (unit + 1) * size] for unit in units}
        self.ledger.offer(self._stamp(), units_count=len(units), now=now)

    def _scrub(self, units: ranges.Ranges, now: float) -> None:
        """The lender zeroes what a borrower that is gone had."""
        self.counts["scrubs"] += 1
        for first, end in units:
            for unit in range(first, end):
                for page in self._units[unit]:
                    page[:] = [-1] * len(page)
        self.ledger.scrubbed(self._stamp(), units=units, now=now)

    def _stamp(self) -> lease_types.Stamp:
        self._requests += 1
        return lease_types.Stamp(_LENDER, self._life, self._requests)
