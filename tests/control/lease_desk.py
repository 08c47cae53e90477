"""A ledger with clients that count their requests, and a clock moved by hand.

Knows: the ledger's public calls. Does not know: what they should answer.
"""

from __future__ import annotations

from typing import Any

from aqua_jax.control import lease_types, leases, ranges

LENDERS, BORROWERS = ("l0", "l1"), ("b0", "b1")


class Desk:
    """Lenders l0 and l1, borrowers b0 (paired with l0) and b1 (with l1), all joined at 100 s."""

    def __init__(self, **settings: Any) -> None:
        settings = {"unit_bytes": 10, "pairs": {"b0": "l0", "b1": "l1"}, **settings}
        self.ledger = leases.Ledger(**settings)
        self.now = 100.0
        self.lives: dict[str, int] = {}
        self.requests: dict[str, int] = {}
        for lender in LENDERS:
            self.join(lender, lease_types.Role.LENDER)
        for borrower in BORROWERS:
            self.join(borrower, lease_types.Role.BORROWER)

    def join(self, client: str, role: lease_types.Role) -> tuple[lease_types.Event, ...]:
        """A new life of the client."""
        self.lives[client] = self.lives.get(client, 0) + 1
        self.requests[client] = 0
        return self.ledger.join(client, role, incarnation=self.lives[client], now=self.now)

    def stamp(self, client: str) -> lease_types.Stamp:
        """Of the client's latest request."""
        return lease_types.Stamp(client, self.lives[client], self.requests[client])

    def ask(self, kind: str, client: str, **arguments: Any) -> Any:
        """The client's next request."""
        self.requests[client] += 1
        return self.again(kind, client, **arguments)

    def again(self, kind: str, client: str, **arguments: Any) -> Any:
        """A call with the stamp of the client's latest request."""
        return getattr(self.ledger, kind)(self.stamp(client), **arguments, now=self.now)

    def offer(self, lender: str, units_count: int) -> ranges.Ranges:
        return self.ask("offer", lender, units_count=units_count)

    def reclaim(self, lender: str, units_count: int, within: float = 2.0) -> lease_types.Reclaimed:
        """To be done so many seconds from now."""
        return self.ask("reclaim", lender, units_count=units_count, deadline=self.now + within)

    def grant(self, borrower: str, units_count: int) -> tuple[lease_types.Grant, ...]:
        return self.ask("grant", borrower, units_count=units_count)

    def release(
        self, grant: lease_types.Grant, *units: tuple[int, int], by: str | None = None
    ) -> None:
        """All of it by default."""
        self.ask(
            "release",
            by or grant.borrower,
            grant=grant.id,
            generation=grant.generation,
            units=units or grant.units,
        )

    def pass_time(self, seconds: float, *, silent: str = "") -> list[lease_types.Event]:
        """Half a second after the other; everybody is heard but the silent one."""
        events: list[lease_types.Event] = []
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            for client, life in self.lives.items():
                if client != silent:
                    self.ledger.heartbeat(client, incarnation=life, now=self.now)
            events += self.ledger.tick(self.now)
            self.ledger.check_integrity()
        return events
