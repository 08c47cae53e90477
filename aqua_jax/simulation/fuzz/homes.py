"""Memory of lenders in random runs: it comes, is called back in parts, is lost, is scribbled on.

Knows: when which of it happens, and that a lender uses what it got back at
once. Does not know: who the clients are. What is called back too early, or lost
without notice, changes tokens.
"""

from __future__ import annotations

import collections
import dataclasses

from aqua_jax.control import pages, spare
from aqua_jax.simulation.fuzz import bench as benches
from aqua_jax.simulation.fuzz import draws, verdict

FIRST_SPACE = 10
_SPACES = 2  # few, so that they are used again
_STEPS_HOMELESS_MAX = 100  # of the engine: some slices, and pauses after refused copies


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a lender does once so many of its slots are in use, from a second on.

    slots: those that it calls back; 0: it dies. waits_seconds: pages may wait so long for room.
    copying: not before a copy is under way there.
    """

    at: float
    in_use: int
    slots: int
    waits_seconds: float = 0.0
    copying: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """Memory that a lender lends `at` a second; then it takes its turns, one after the other."""

    at: float
    slots: int
    unit_slots: int = 1
    turns: tuple[Turn, ...] = ()


def draw(seed: int, until: float) -> tuple[Loan, ...]:
    """Loans in the first `until` seconds; none for half of the seeds."""
    rng = draws.Draws(seed, "homes")
    if rng.chance(0.4):
        return ()
    return tuple(_draw_loan(rng, until) for _ in range(rng.between(2, 8)))


def _draw_loan(rng: draws.Draws, until: float) -> Loan:
    slots = rng.between(2, 24)
    turns = [
        Turn(
            at=rng.within(0, 0.5) * until if rng.chance(0.5) else 0.0,
            in_use=rng.between(0, slots),
            slots=0 if rng.chance(0.3) else rng.between(1, slots),
            waits_seconds=rng.one_of([0.0, 0.005, 0.1, 10.0]),
            copying=rng.chance(0.4),
        )
        for _ in range(rng.between(0, 4))
    ]
    return Loan(
        at=rng.within(0, 0.5) * until if rng.chance(0.5) else 0.0,
        slots=slots,
        unit_slots=rng.one_of([1, 1, 2, 3]),
        turns=tuple(turns),
    )


class Lenders:
    """Lends, calls back and dies in one run; `counts` says what was met."""

    def __init__(self, bench: benches.Bench, counts: collections.Counter[str]) -> None:
        self._bench = bench
        self._counts = counts
        self._homes = bench.controller.homes
        self._slots = bench.controller.memory.slots
        self._generation = 0
        self._offers: collections.deque[Loan] = collections.deque()
        self._lent: dict[spare.Tier, collections.deque[Turn]] = {}
        self._taken_back: dict[spare.Tier, set[int]] = {}  # slots that are the lender's again
        self._used_spaces: set[int] = set()
        self._waits_until: dict[spare.Tier, float] = {}
        self._steps_homeless = 0

    def offer(self, loan: Loan) -> None:
        """Lends it as soon as a space is free for it."""
        self._offers.append(loan)

    def step(self) -> None:
        """Lends what waits for a space, takes what has retired, and what turns are due."""
        for space in range(FIRST_SPACE, FIRST_SPACE + _SPACES):
            if self._offers and not self._slots.is_known(space):
                self._lend(self._offers.popleft(), space)
        for tier in list(self._lent):
            self._take_back(tier)
            turns = self._lent[tier]
            if turns and self._is_due(turns[0], tier.slots):
                self._take(turns.popleft(), tier)
            if tier in self._slots.tiers and not tier.slots.capacity:
                self._homes.remove(tier.slots.space)
                self._counts["removed"] += 1
            if tier not in self._slots.tiers:
                del self._lent[tier]

    def check_patience(self) -> None:
        """Pages without another home do not stay for long when they may wait no longer."""
        memory, now = self._bench.controller.memory, self._bench.clock.now()
        late = any(
            tier.slots.called_count and self._waits_until.get(tier, now) < now
            for tier in self._lent
        )
        homeless = late and not memory.copies_in_flight and memory.relocation.homeless()
        self._steps_homeless = self._steps_homeless + 1 if homeless else 0
        verdict.promise(
            self._steps_homeless < _STEPS_HOMELESS_MAX,
            f"pages that may not wait have no home: {self._bench.describe()}",
        )

    def check_end(self) -> None:
        """Whatever was called back has come back."""
        for tier in self._slots.tiers:
            verdict.promise(
                tier.slots.called_count == 0, f"called back, still there: {self._bench.describe()}"
            )

    def _lend(self, loan: Loan, space: int) -> None:
        self._generation += 1
        self._counts["lent"] += 1
        self._counts["lent again"] += space in self._used_spaces
        self._used_spaces.add(space)
        self._bench.memory.add(space, loan.slots)
        slots = pages.PagePool(space, loan.slots, generation=self._generation)
        tier = spare.Tier("peer", slots, loan.unit_slots)
        self._homes.add(tier)
        self._lent[tier] = collections.deque(loan.turns)
        self._taken_back[tier] = set()

    def _is_due(self, turn: Turn, slots: pages.PagePool) -> bool:
        if turn.at > self._bench.clock.now() or turn.in_use > slots.used_count:
            return False
        return not turn.copying or any(map(slots.is_copying, range(slots.pages)))

    def _take(self, turn: Turn, tier: spare.Tier) -> None:
        slots, now = tier.slots, self._bench.clock.now()
        if turn.slots:
            waits_until = now + turn.waits_seconds
            self._homes.call_back(slots.space, turn.slots, waits_until=waits_until)
            self._waits_until[tier] = waits_until
            self._take_back(tier)
            self._counts["called back"] += 1
            self._counts["called back in use"] += slots.called_count > 0
            self._counts["called back in part"] += slots.capacity > slots.called_count
            return
        counters = self._bench.controller.counters
        lost = counters.homes_lost
        self._counts["died"] += 1
        self._counts["died called back"] += slots.called_count > 0
        self._bench.memory.garble(slots.space)
        self._bench.controller.void(slots.space, now)
        self._counts["died with state"] += counters.homes_lost > lost
        self._counts["died in use"] += self._slots.is_known(slots.space)

    def _take_back(self, tier: spare.Tier) -> None:
        """The lender uses what it got back at once."""
        taken = self._taken_back[tier]
        for slot in range(tier.slots.pages):
            if tier.slots.is_retired(slot) and slot not in taken:
                taken.add(slot)
                self._bench.memory.garble(tier.slots.space, slot)
