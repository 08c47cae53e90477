"""What lenders of a server did: memory lent over time, their items, reclaims and deadlines.

Knows: a simulated server, records. Does not know: how a record is shown.
"""

from __future__ import annotations

from aqua_jax.control import lending, ranges
from aqua_jax.simulation import cluster
from aqua_jax.workloads import records

_NANO = 1e9


class Watch:
    """Looks at one server's lenders from time to time."""

    def __init__(self, server: cluster.Server) -> None:
        self._server = server
        self._of: dict[str, records.LenderRecord] = {
            name: records.LenderRecord(made.spec.shape.name) for name, made in server.items.items()
        }
        for name, text in server.texts.items():
            if text.lender is not None:
                self._of[name] = records.LenderRecord(text.member.spec.shape.name)

    def sample(self, at: float) -> None:
        """Bytes that each has lent, and of those what borrowers hold."""
        ledger, unit_bytes = self._server.ledger, self._server.ledger.unit_bytes
        for name, record in self._of.items():
            lender = self._lender(name)
            held = 0
            joined = lender.counters.lives > 0
            for grant in ledger.standing(lender.client).grants if joined else ():
                held += grant.units_count
            record.at_seconds.append(at)
            record.offered_bytes.append(ranges.count(lender.lent) * unit_bytes)
            record.held_bytes.append(held * unit_bytes)

    def records(self) -> dict[str, records.LenderRecord]:
        """By the lender's name."""
        for name, record in self._of.items():
            lender = self._lender(name)
            record.reclaims = lender.counters.reclaims
            record.overdue = sum(one.lender == lender.client for one in self._server.overdue)
            made = self._server.items.get(name)
            if made is not None:
                record.batches = made.batches
                for arrived_ns, done_ns in zip(made.arrived_ns, made.done_ns, strict=True):
                    record.items_done_at.append(done_ns / _NANO)
                    record.items_seconds.append((done_ns - arrived_ns) / _NANO)
        return self._of

    def _lender(self, name: str) -> lending.Lender:
        if name in self._server.items:
            return self._server.items[name].lender
        lender = self._server.texts[name].lender
        assert lender is not None
        return lender
