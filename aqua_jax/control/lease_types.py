"""The words of the ledger: who calls, grants, calls, reclaims, what a client is told.

Knows: ids, counts, unit indices. Does not know: who decides (`leases.py`).
Times are seconds on the clock whose `now` the ledger is given.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, NamedTuple

from aqua_jax.control import ranges


class Role(enum.Enum):
    """What a client is to the ledger. Whoever lends and borrows joins twice, under two ids."""

    LENDER = "lender"
    BORROWER = "borrower"


class Stamp(NamedTuple):
    """Whose request it is.

    client: its id. incarnation: its life, a number of its own choice that is larger than that of
    any former life (a count of its starts, the nanoseconds of its clock when it started).
    request: 1, 2, 3... in this life, one for each call that changes something; the same one when
    such a call is sent again because no answer came.
    """

    client: str
    incarnation: int
    request: int


class Grant(NamedTuple):
    """Units `units` of the lender's lease, lent to the borrower. A value: a later one may be less.

    id: the smallest number, from 1, that no other grant had; used again when the grant has ended.
    generation: never used again; later grants have larger ones.
    """

    id: int
    generation: int
    lender: str
    borrower: str
    units: ranges.Ranges

    @property
    def units_count(self) -> int:
        """Units in all."""
        return ranges.count(self.units)


class Call(NamedTuple):
    """So many units of a grant, whichever, that its borrower must release by the deadline."""

    grant: int
    generation: int
    lender: str
    units_count: int
    deadline: float


class Reclaimed(NamedTuple):
    """The answer to `reclaim`: `home` is the lender's at once, `left_count` units are to come."""

    reclaim: int
    home: ranges.Ranges
    left_count: int


class Reclaim(NamedTuple):
    """An open reclaim: `left_count` of `units_count` units have not come home yet."""

    id: int
    units_count: int
    left_count: int
    deadline: float
    overdue: bool


class Lease(NamedTuple):
    """What a lender has lent. A unit in none of these sets is the lender's own again.

    free: lent to nobody. fenced: to revoke, to zero and then to report by `scrubbed`.
    grants: the others, by generation. reclaims: open ones, earliest deadline first.
    """

    free: ranges.Ranges
    fenced: ranges.Ranges
    grants: tuple[Grant, ...]
    reclaims: tuple[Reclaim, ...]


class Standing(NamedTuple):
    """All that a client need know, whatever messages it missed.

    generation: the latest there was when this was said. grants: those it holds or, of a lender,
    those out of its lease. calls: what it must give back. lease: a lender's, None of a borrower.
    """

    generation: int
    grants: tuple[Grant, ...]
    calls: tuple[Call, ...]
    lease: Lease | None

    def void(self, known: Iterable[Grant]) -> list[Grant]:
        """Those of `known` that are no more. A grant younger than this news is not among them."""
        alive = {grant.generation for grant in self.grants}
        return [g for g in known if g.generation <= self.generation and g.generation not in alive]


class Expired(NamedTuple):
    """A client was silent for too long, or has started anew: its life `incarnation` is over."""

    client: str
    role: Role
    incarnation: int


class Voided(NamedTuple):
    """The grant's lender is gone, and with it what the grant held."""

    grant: Grant


class Fenced(NamedTuple):
    """The grant's borrower is gone: its lender must revoke and zero the units."""

    grant: Grant


class Overdue(NamedTuple):
    """A reclaim's deadline has passed: `left_count` units have not come home. Said once."""

    lender: str
    reclaim: int
    left_count: int
    deadline: float


Event = Expired | Voided | Fenced | Overdue


def plain(value: Any) -> Any:
    """A value of this file, or None, as JSON has it: tuples are lists."""
    return [plain(part) for part in value] if isinstance(value, tuple) else value


def grant_of(entry: list[Any]) -> Grant:
    """The grant that `plain` wrote."""
    id, generation, lender, borrower, units = entry
    return Grant(id, generation, lender, borrower, ranges.of(units))


def answer_of(call: str, entry: Any) -> Any:
    """The answer to the call of that name that `plain` wrote."""
    if entry is None:
        return None
    if call == "grant":
        return tuple(grant_of(part) for part in entry)
    if call == "reclaim":
        reclaim, home, left_count = entry
        return Reclaimed(reclaim, ranges.of(home), left_count)
    return ranges.of(entry)
