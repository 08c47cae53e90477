"""An engine that lends pages of its own pool while it serves: it shrinks and grows, tokens stay."""

from __future__ import annotations

import collections
import random

from aqua_jax.control import lease_line, lease_types, leases, lending, sources
from aqua_jax.simulation.fuzz import bench, harness, scenarios

SEEDS = 60
_BORROWER = "borrower"


class Neighbour:
    """A party: the engine's lender, and a borrower that takes all, scribbles, and gives back."""

    def __init__(self, at: bench.Bench, seed: int) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._at = at
        self._rng = random.Random(seed)
        self._ledger = leases.Ledger(unit_bytes=1)
        self._ledger.join(_BORROWER, lease_types.Role.BORROWER, incarnation=1, now=0.0)
        self._requests = 0
        pool = at.controller.memory.device
        load = sources.PoolLoad(
            retain_pages=self._rng.randint(2, 6), pending_high=4, calm_seconds=0.01
        )
        self.source = sources.PoolSource(at.controller, load, unit_pages=self._rng.choice([1, 2]))
        self.lender = lending.Lender(
            "lender",
            self.source,
            lease_line.DirectPort(self._ledger),
            settings=lending.LenderSettings(reclaim_seconds=0.01, heartbeat_seconds=0.005),
            incarnation=1,
        )
        self._pool = pool

    def turn(self, now: float) -> bool:
        changed = self.lender.turn(now)
        standing = self._ledger.heartbeat(_BORROWER, incarnation=1, now=now)
        for grant in standing.grants:
            for first, end in grant.units:
                for unit in range(first, end):
                    for page in self.source.pages(unit):
                        self._at.memory.garble(0, page)
        if standing.calls and self._rng.random() < 0.5:
            self._release(standing.calls[0], standing.grants, now)
        if not standing.calls and self._rng.random() < 0.3:
            self._ledger.grant(self._stamp(), units_count=64, now=now)
        self.counts["most lent"] = max(self.counts["most lent"], self._pool.retired_count)
        return changed

    def wakes_at(self) -> float:
        return self.lender.wakes_at()

    def _release(
        self, call: lease_types.Call, grants: tuple[lease_types.Grant, ...], now: float
    ) -> None:
        (grant,) = [grant for grant in grants if grant.generation == call.generation]
        (first, _), *_ = grant.units
        self.counts["released"] += 1
        self._ledger.release(
            self._stamp(),
            grant=grant.id,
            generation=grant.generation,
            units=((first, first + 1),),
            now=now,
        )

    def _stamp(self) -> lease_types.Stamp:
        self._requests += 1
        return lease_types.Stamp(_BORROWER, 1, self._requests)


def test_a_pool_that_is_lent_in_part_serves_the_same_tokens() -> None:
    counts: collections.Counter[str] = collections.Counter()
    for seed in range(SEEDS):
        scenario = scenarios.draw(seed)
        at = bench.Bench(scenario)
        neighbour = Neighbour(at, seed)
        at.engine._parties = (*at.engine._parties, neighbour)
        harness.run_on(at, scenario)
        counts.update(neighbour.counts)
        for name in ("units_offered", "units_home", "reclaims"):
            counts[name] += getattr(neighbour.lender.counters, name)
    assert counts["units_offered"] > 10 * SEEDS
    assert min(counts["units_home"], counts["released"], counts["reclaims"]) > SEEDS
