"""The ledger as tests see it: a `View` unit by unit, and calls as values.

Knows: the ledger's public calls and the plain values of its snapshot. Does not
know: what a call should do (`lease_checks.py`).
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from aqua_jax.control import lease_types, leases

HOME, FREE, FENCED = "home", "free", "fenced"
LENDER, BORROWER = lease_types.Role.LENDER, lease_types.Role.BORROWER


class Op(NamedTuple):
    """A call: `kind` is a method of the ledger, or `expire`."""

    kind: str
    client: str
    args: tuple[Any, ...] = ()


class Lent(NamedTuple):
    """The state of a unit that is in a grant."""

    generation: int
    borrower: str


@dataclasses.dataclass
class View:
    """A ledger, unit by unit. `units`: (lender, index) -> HOME, FREE, FENCED or Lent."""

    units: dict[tuple[str, int], Any]
    owed: dict[str, list[tuple[float, int]]]  # by lender: (deadline in ledger time, units to come)
    present: dict[str, tuple[lease_types.Role, int, int]]  # role, incarnation, latest request
    lives: dict[str, int]  # the latest incarnation of everybody, PRESENT or not
    ids: dict[int, int]  # by generation: ids of grants
    generation: int
    now: float
    skipped: float  # by which callers' times exceed the ledger's

    def of(self, lender: str, state: object) -> list[int]:
        """The lender's units in that state."""
        return [i for (name, i), s in self.units.items() if name == lender and s == state]

    def granted(self, lender: str) -> list[int]:
        return [i for (name, i), s in self.units.items() if name == lender and isinstance(s, Lent)]

    def wanted(self, lender: str) -> int:
        """What open reclaims of the lender want."""
        return sum(count for _, count in self.owed[lender])

    def grantable(self) -> int:
        return sum(1 for state in self.units.values() if state == FREE)


def view(ledger: leases.Ledger) -> View:
    """Reads a snapshot. Fails when a unit is in two states or in none (L1)."""
    plain = ledger.snapshot()
    book = plain["book"]
    units: dict[tuple[str, int], Any] = {}

    def put(lender: str, pairs: list[list[int]], state: Any) -> None:
        for first, end in pairs:
            for index in range(first, end):
                assert (lender, index) not in units, f"unit {index} of {lender} is in two hands"
                units[lender, index] = state

    for lender, lease in book["leases"].items():
        for state in (HOME, FREE, FENCED):
            put(lender, lease[state], state)
    for _, generation, lender, borrower, pairs in book["grants"]:
        put(lender, pairs, Lent(generation, borrower))
    for lender, lease in book["leases"].items():
        known = sorted(index for name, index in units if name == lender)
        assert known == list(range(lease["end"])), f"units of {lender}: {known} of {lease['end']}"
    return View(
        units,
        {
            lender: [(r["deadline"], r["left_count"]) for r in lease["reclaims"]]
            for lender, lease in book["leases"].items()
        },
        {
            c["id"]: (lease_types.Role(c["role"]), c["incarnation"], c["request"])
            for c in plain["clients"]
            if c["present"]
        },
        {c["id"]: c["incarnation"] for c in plain["clients"]},
        {generation: id for id, generation, *_ in book["grants"]},
        book["generation"],
        plain["time"]["seen"] or 0.0,
        plain["time"]["skipped"],
    )


def stamp(seen: View, client: str) -> lease_types.Stamp:
    """The client's next request."""
    _, incarnation, request = seen.present[client]
    return lease_types.Stamp(client, incarnation, request + 1)


def call(ledger: leases.Ledger, op: Op, by: lease_types.Stamp, now: float) -> Any:
    """Makes a call that carries a stamp."""
    method = getattr(ledger, op.kind)
    names = {
        "offer": ("units_count",),
        "withdraw": ("units_count",),
        "reclaim": ("units_count", "deadline"),
        "scrubbed": ("units",),
        "grant": ("units_count", "least_count"),
        "release": ("grant", "generation", "units"),
        "leave": (),
    }[op.kind]
    return method(by, **dict(zip(names, op.args, strict=True)), now=now)


def perform(ledger: leases.Ledger, op: Op, seen: View) -> Any:
    """Makes the call as the client's next request; `seen` is the view before."""
    if op.kind == "join":
        return ledger.join(op.client, op.args[0], incarnation=op.args[1], now=seen.now)
    if op.kind == "expire":
        return expire(ledger, op.client, seen)
    return call(ledger, op, stamp(seen, op.client), seen.now)


def expire(ledger: leases.Ledger, client: str, seen: View) -> list[lease_types.Event]:
    """Time passes in which everybody but the client is heard."""
    settings = ledger.snapshot()["settings"]
    step = settings["jump_seconds_max"]
    assert settings["silence_seconds_max"] == 2 * step
    events = list(ledger.tick(seen.now + step))
    for other, (_, incarnation, _) in seen.present.items():
        if other != client:
            ledger.heartbeat(other, incarnation=incarnation, now=seen.now + 2 * step)
    events += ledger.tick(seen.now + 2 * step)
    events += ledger.tick(seen.now + 3 * step)
    return events


def indices(pairs: Any) -> list[int]:
    """The units that ranges name."""
    return [i for first, end in pairs for i in range(first, end)]
