"""The book of leases and grants: who holds which units, and what is called back.

Knows: leases, grants, pairs. Does not know: which client may say so, repeated
messages, clocks (`leases.py`); deadlines are numbers to it.

A lease is

    open            offer              reclaim
    -----> EMPTY ----------> OPEN --------------------> RECLAIMING: nothing is granted from it
             ^                | ^                         |
             +----------------+ +-------------------------+  the last wanted unit is HOME, or
           the last lent unit is HOME                        offers have called off the rest

and ends by `close`, when nothing of it is GRANTED or FENCED, or by `void`. A grant is

            grant             reclaim
    (none) --------> HELD <-------------> CALLED, in part or whole
                       |   part released,    |
                       |   reclaim called off|
                       +------ either -------+---> ENDED  all of it was released
                                             +---> ENDED  its lender is gone: VOID, what it held
                                             |            is lost
                                             +---> ENDED  its borrower is gone: its units FENCED

CALLED is no stored state: what a grant owes follows from the open reclaims and
from `lease_order.calls`. A grant that has ended is not kept, so its generation
is unknown from then on, whatever ended it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from aqua_jax.control import errors, lease_order, lease_types, lease_units, ranges


class LeaseBook:
    """Leases by lender, grants by id. Amounts are positive: the caller has checked them.

    Each method that refuses raises LeaseError before it changes anything.
    """

    def __init__(self, pairs: Mapping[str, str], *, units_max: int) -> None:
        self.pairs = dict(pairs)
        self.units_max = units_max
        self.generation = 0  # the latest of grants and reclaims
        self.leases: dict[str, lease_units.LentUnits] = {}
        self.grants: dict[int, lease_types.Grant] = {}

    def open(self, lender: str) -> None:
        """An EMPTY lease."""
        self.leases[lender] = lease_units.LentUnits()

    def close(self, lender: str) -> ranges.Ranges:
        """The lease ends and its FREE units come home. Raises UnitsError while others are lent."""
        lease = self.leases[lender]
        granted = lease.lent_count - ranges.count(lease.free) - ranges.count(lease.fenced)
        if granted or lease.fenced:
            raise errors.UnitsError(
                f"{lender!r} leaves with {granted} units granted and"
                f" {ranges.count(lease.fenced)} fenced: reclaim the former and scrub the latter"
                " first"
            )
        return self.leases.pop(lender).free

    def void(self, lender: str) -> list[lease_types.Event]:
        """The lender is gone, and its lease and all grants out of it with it."""
        ended = self.out_of(lender)
        for grant in ended:
            del self.grants[grant.id]
        del self.leases[lender]
        return [lease_types.Voided(grant) for grant in ended]

    def fence(self, borrower: str) -> list[lease_types.Event]:
        """The borrower is gone: its grants end, their units are FENCED, for it may yet write."""
        ended = self.held(borrower)
        for grant in ended:
            self.leases[grant.lender].fence(grant.units)
            del self.grants[grant.id]
        return [lease_types.Fenced(grant) for grant in ended]

    def offer(self, lender: str, units_count: int) -> ranges.Ranges:
        """HOME -> FREE; see `lease_units.py`. Raises UnitsError above `units_max`."""
        lease = self.leases[lender]
        stays = lease.lent_count - lease.owed_count
        if stays + units_count > self.units_max:
            raise errors.UnitsError(
                f"{lender!r} offers {units_count} units and {stays} are lent: expected at most"
                f" units_max={self.units_max} in all"
            )
        return lease.offer(units_count)

    def reclaim(self, lender: str, units_count: int, deadline: float) -> lease_types.Reclaimed:
        """FREE -> HOME, calls for the rest. Raises UnitsError for more than is lent."""
        lease = self.leases[lender]
        most = lease.lent_count - lease.owed_count
        if units_count > most:
            raise errors.UnitsError(
                f"{lender!r} reclaims {units_count} units; {lease.lent_count} are lent and"
                f" {lease.owed_count} of them called back already: expected at most {most}"
            )
        self.generation += 1
        home = lease.reclaim(self.generation, units_count, deadline)
        return lease_types.Reclaimed(self.generation, home, units_count - ranges.count(home))

    def grant(
        self, borrower: str, units_count: int, least_count: int
    ) -> tuple[lease_types.Grant, ...]:
        """FREE -> GRANTED for up to so many units; () when fewer than the least are to be had."""
        free_counts = {lender: ranges.count(lease.free) for lender, lease in self.leases.items()}
        order = lease_order.lenders(borrower, free_counts, self.grants.values(), self.pairs)
        plan: list[tuple[str, int]] = []
        for lender in order:
            part = min(units_count, free_counts[lender])
            if part:
                plan.append((lender, part))
                units_count -= part
                least_count -= part
        if least_count > 0:
            return ()
        return tuple(self._grant(borrower, lender, part) for lender, part in plan)

    def release(
        self, borrower: str, id: int, generation: int, units: ranges.Ranges
    ) -> ranges.Ranges:
        """GRANTED -> HOME or FREE for a part of a grant; what came home."""
        grant = self._grant_of(borrower, id, generation)
        if not ranges.holds(grant.units, units):
            raise errors.UnitsError(
                f"{borrower!r} releases units {lease_units.text(units)} of grant {id}, which holds"
                f" {lease_units.text(grant.units)}: expected some of these"
            )
        left = ranges.minus(grant.units, units)
        if left:
            self.grants[id] = grant._replace(units=left)
        else:
            del self.grants[id]
        return self.leases[grant.lender].give_back(units)

    def release_all(self, borrower: str) -> None:
        """All that it holds."""
        for grant in self.held(borrower):
            self.release(borrower, grant.id, grant.generation, grant.units)

    def held(self, borrower: str) -> list[lease_types.Grant]:
        """The grants of a borrower, by generation."""
        return [grant for grant in self._by_generation() if grant.borrower == borrower]

    def out_of(self, lender: str) -> list[lease_types.Grant]:
        """The grants out of a lease, by generation."""
        return [grant for grant in self._by_generation() if grant.lender == lender]

    def calls(self, lender: str) -> list[lease_types.Call]:
        """What the grants out of a lease must give back.

        What is FENCED counts for the earliest deadlines: its lender itself can scrub it at once.
        """
        lease = self.leases[lender]
        covered = ranges.count(lease.fenced)
        wanted: list[tuple[int, float]] = []
        for reclaim in lease.reclaims:
            part = min(reclaim.left_count, covered)
            covered -= part
            wanted.append((reclaim.left_count - part, reclaim.deadline))
        return lease_order.calls(lender, self.out_of(lender), self.pairs, wanted)

    def check_integrity(self) -> None:
        """L1, L2 (but for who is PRESENT), L4 to L6. Raises InternalError."""
        for id, grant in self.grants.items():
            if id != grant.id or not grant.units or grant.lender not in self.leases:
                raise errors.InternalError(f"L2: {grant} under id {id}, of {list(self.leases)}")
        generations = [grant.generation for grant in self._by_generation()]
        if (
            len(set(generations)) < len(generations)
            or max(generations, default=0) > self.generation
        ):
            raise errors.InternalError(f"L3: generations {generations}, latest {self.generation}")
        for lender, lease in self.leases.items():
            lease.check_integrity([grant.units for grant in self.out_of(lender)])
            called = 0
            for call in self.calls(lender):
                called += call.units_count
            expected = max(0, lease.owed_count - ranges.count(lease.fenced))
            if called != expected:
                raise errors.InternalError(
                    f"L6: {called} units of {lender!r} are called, expected {expected}"
                )

    def snapshot(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "generation": self.generation,
            "leases": {lender: lease.snapshot() for lender, lease in sorted(self.leases.items())},
            "grants": [lease_types.plain(grant) for grant in self._by_generation()],
        }

    def restore(self, plain: dict[str, Any]) -> None:
        """Takes over what `snapshot` wrote."""
        self.generation = plain["generation"]
        self.leases = {
            lender: lease_units.LentUnits.restore(lease)
            for lender, lease in plain["leases"].items()
        }
        grants = [lease_types.grant_of(entry) for entry in plain["grants"]]
        self.grants = {grant.id: grant for grant in grants}

    def _grant(self, borrower: str, lender: str, units_count: int) -> lease_types.Grant:
        self.generation += 1
        id = next(number for number in itertools.count(1) if number not in self.grants)
        units = self.leases[lender].take(units_count)
        grant = lease_types.Grant(id, self.generation, lender, borrower, units)
        self.grants[id] = grant
        return grant

    def _grant_of(self, borrower: str, id: int, generation: int) -> lease_types.Grant:
        grant = self.grants.get(id)
        if grant is None or grant.generation != generation:
            now = "has ended" if grant is None else f"has generation {grant.generation} now"
            raise errors.StaleGrantError(
                f"{borrower!r} names generation {generation} of grant {id}, which {now}: it was"
                " released, or its lender or borrower is gone; drop what refers to it"
            )
        if grant.borrower != borrower:
            raise errors.ForeignGrantError(
                f"{borrower!r} names grant {id}, which is {grant.borrower!r}'s: expected one of"
                f" {[held.id for held in self.held(borrower)]}"
            )
        return grant

    def _by_generation(self) -> list[lease_types.Grant]:
        return sorted(self.grants.values(), key=lambda grant: grant.generation)
