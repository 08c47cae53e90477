"""The ledger: who lends memory to whom, in units, and who must give back how much by when.

Knows: who may say what, and in which order. Does not know: what a unit holds,
copies, sockets. It starts no thread and waits for nobody: `now`, in seconds, is
an argument. In one process it is called directly, between processes it stands
behind a service.

Lenders offer units, the ledger grants them to borrowers. Drawn where they are kept:
    a unit    HOME (its lender's own), FREE, GRANTED, FENCED    `lease_units.py`
    a lease   EMPTY, OPEN, RECLAIMING                           `lease_book.py`
    a grant   HELD, CALLED in part or whole, ENDED              `lease_book.py`
    a client  PRESENT, GONE; its requests; the ledger's time    `lease_clients.py`

    silent too long, or joins anew      lender                     borrower
    ------------------------------      -------------------------  ----------------------------
    its grants end                      VOID: what they held is    units FENCED until the lender
                                        lost with the lease        has revoked and zeroed them

What clients vow, for the ledger cannot see bytes:
    A lender offers units that are zeroed and that nobody can reach. It says
    `scrubbed` when it has revoked every mapping of a fenced unit and zeroed it, and
    does the same to all that it lent when it learns that it was counted as gone.
    A borrower touches a unit only under a grant that has not ended, and releases it
    once its last copy there has completed and the unit is zeroed.

Invariants, checked by `check_integrity` and over every state of a small ledger
by `tests/control/test_leases_model.py`:
    L1  A unit that was offered is in one state, GRANTED by one grant.
    L2  A grant's lender and borrower are PRESENT, and it holds units.
    L3  A generation is given once; what names one that has ended is refused.
    L4  While a reclaim is open nothing of its lease is FREE, so nothing is granted from it.
    L5  A reclaim is open as long as it wants units; those of a lease together want no more than
        is GRANTED or FENCED, so each can be completed by releases and scrubs alone.
    L6  The calls on a lease's grants are what reclaims want less what is FENCED.
    L7  A unit whose borrower did not release it is granted again only after its lender scrubbed
        it, or offered it anew.
    L8  A call that is refused changes nothing; one that is repeated changes nothing and gets the
        answer that it had.
    L9  Nobody is counted as gone but in `tick` and by joining anew.
    L10 What is kept is bounded by clients, lent units and open reclaims, not by time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from aqua_jax.control import (
    errors,
    lease_book,
    lease_clients,
    lease_types,
    lease_units,
    ranges,
)

Answer = TypeVar("Answer")


class Ledger:
    """All leases and grants of one server. Not thread-safe: one thread owns it.

    unit_bytes: what a unit is. pairs: borrower -> the lender placed next to it.
    silence_seconds_max: who is not heard for longer is gone at the next `tick`.
    jump_seconds_max: the most that the ledger's time advances between two calls; call it more
    often than that.
    clients_max, units_max: limits on ids remembered and on the units of one lease.

    Mutating calls carry a `Stamp`; the same stamp again gets the same answer and changes nothing.
    Heartbeats and new requests are signs of life. All refusals are of the family `LeaseError`.
    """

    def __init__(
        self,
        *,
        unit_bytes: int,
        pairs: Mapping[str, str] | None = None,
        silence_seconds_max: float = 5.0,
        jump_seconds_max: float = 1.0,
        clients_max: int = 1024,
        units_max: int = 1 << 20,
    ) -> None:
        if min(unit_bytes, clients_max, units_max) < 1:
            raise errors.ConfigError(
                f"unit_bytes={unit_bytes}, clients_max={clients_max}, units_max={units_max}:"
                " expected at least 1 each"
            )
        if not 0 < jump_seconds_max <= silence_seconds_max / 2:
            raise errors.ConfigError(
                f"jump_seconds_max={jump_seconds_max} with silence_seconds_max="
                f"{silence_seconds_max}: expected above 0 and at most half of it, or one jump of"
                " the clock could end clients that live"
            )
        self.unit_bytes = unit_bytes
        self._time = lease_clients.LedgerTime(jump_seconds_max=jump_seconds_max)
        self._clients = lease_clients.Clients(
            self._time, silence_seconds_max=silence_seconds_max, clients_max=clients_max
        )
        self._book = lease_book.LeaseBook(pairs or {}, units_max=units_max)

    # Amounts.

    def units_for(self, bytes: int) -> int:
        """Units that hold so many bytes: requests are rounded up."""
        return -(-bytes // self.unit_bytes)

    def units_within(self, bytes: int) -> int:
        """Units that lie in so many bytes: offers are rounded down."""
        return bytes // self.unit_bytes

    # Clients of both kinds.

    def join(
        self, client: str, role: lease_types.Role, *, incarnation: int, now: float
    ) -> tuple[lease_types.Event, ...]:
        """A client begins its life `incarnation`; what the end of its former one brought about.

        A former life that was PRESENT is over at once: who restarts need not wait to expire.
        A repeat changes nothing and returns (). Raises StaleRequestError for a former life.
        """
        self._time.advance(now)
        if self._clients.is_repeat(client, role, incarnation):
            return ()
        former = self._clients.join(client, role, incarnation)
        events = self._end(former) if former is not None else []
        if role is lease_types.Role.LENDER:
            self._book.open(client)
        return tuple(events)

    def heartbeat(self, client: str, *, incarnation: int, now: float) -> lease_types.Standing:
        """A sign of life; the answer is all that the client need know."""
        self._time.advance(now)
        self._clients.hear(client, incarnation)
        return self.standing(client)

    def leave(self, stamp: lease_types.Stamp, *, now: float) -> ranges.Ranges:
        """An orderly goodbye; the units that come home by it to a lender.

        A borrower releases by it all that it holds, as `release` does. A lender is refused
        (UnitsError) while units are GRANTED or FENCED: reclaim and scrub, or go without a word.
        """

        def work() -> ranges.Ranges:
            client = self._clients.by_id[stamp.client]
            home: ranges.Ranges = ()
            if client.role is lease_types.Role.LENDER:
                home = self._book.close(client.id)
            else:
                self._book.release_all(client.id)
            client.present = False
            return home

        return self._once(stamp, now, None, ("leave", ""), work)

    def tick(self, now: float) -> tuple[lease_types.Event, ...]:
        """Time passes: who is gone, what that did to grants, which reclaims are overdue (once)."""
        self._time.advance(now)
        events: list[lease_types.Event] = []
        for client in self._clients.silent():
            events += self._end(client)
        for lender, lease in sorted(self._book.leases.items()):
            for reclaim in lease.reclaims:
                if self._is_overdue(reclaim) and not reclaim.reported:
                    reclaim.reported = True
                    events.append(
                        lease_types.Overdue(
                            lender,
                            reclaim.id,
                            reclaim.left_count,
                            reclaim.deadline + self._time.skipped,
                        )
                    )
        return tuple(events)

    # A lender's calls.

    def offer(self, stamp: lease_types.Stamp, *, units_count: int, now: float) -> ranges.Ranges:
        """Lends so many units more; those that are lent by it, numbered by the ledger.

        It first calls off what open reclaims still want, so fewer may be lent, or none. The lender
        chooses which of its memory stands behind a number, until that unit comes home.
        """

        def work() -> ranges.Ranges:
            _check_count("units_count", units_count)
            return self._book.offer(stamp.client, units_count)

        return self._lend(stamp, now, ("offer", f"{units_count}"), work)

    def withdraw(self, stamp: lease_types.Stamp, *, units_count: int, now: float) -> ranges.Ranges:
        """Takes FREE units back at once, so many or as many as there are; those that came home."""

        def work() -> ranges.Ranges:
            _check_count("units_count", units_count)
            return self._book.leases[stamp.client].withdraw(units_count)

        return self._lend(stamp, now, ("withdraw", f"{units_count}"), work)

    def reclaim(
        self, stamp: lease_types.Stamp, *, units_count: int, deadline: float, now: float
    ) -> lease_types.Reclaimed:
        """Wants so many units back: FREE ones come home at once, others by the deadline.

        Several add up. Until all have come home nothing is granted from the lease. Progress shows
        in `reclaim_status`; a deadline that passes is told by `tick`, and the reclaim stays open.
        """

        def work() -> lease_types.Reclaimed:
            _check_count("units_count", units_count)
            if not math.isfinite(deadline):
                raise errors.LeaseError(f"deadline is {deadline}: expected seconds of a clock")
            return self._book.reclaim(stamp.client, units_count, deadline - self._time.skipped)

        return self._lend(stamp, now, ("reclaim", f"{units_count} by {deadline}"), work)

    def scrubbed(
        self, stamp: lease_types.Stamp, *, units: ranges.Pairs, now: float
    ) -> ranges.Ranges:
        """Fenced units are revoked and zeroed; those that came home, the others are FREE."""

        def work() -> ranges.Ranges:
            return self._book.leases[stamp.client].scrub(_some(units))

        return self._lend(stamp, now, ("scrubbed", _text(units)), work)

    def reclaim_status(self, lender: str) -> tuple[lease_types.Reclaim, ...]:
        """The open reclaims of a lender, earliest deadline first; one not listed is complete."""
        return self._lease(self._clients.present(lender, lease_types.Role.LENDER).id).reclaims

    # A borrower's calls.

    def grant(
        self, stamp: lease_types.Stamp, *, units_count: int, least_count: int = 1, now: float
    ) -> tuple[lease_types.Grant, ...]:
        """So many units, from several lenders where one has too few (`lease_order.lenders`).

        Fewer, but at least `least_count`, when there are no more; () when there are not even those.
        """

        def work() -> tuple[lease_types.Grant, ...]:
            _check_count("least_count", least_count)
            _check_count("units_count", units_count, least=least_count)
            return self._book.grant(stamp.client, units_count, least_count)

        return self._borrow(stamp, now, ("grant", f"{least_count} to {units_count}"), work)

    def release(
        self,
        stamp: lease_types.Stamp,
        *,
        grant: int,
        generation: int,
        units: ranges.Pairs,
        now: float,
    ) -> None:
        """Gives any units of a grant back, zeroed by the borrower: to open reclaims, else FREE.

        Raises StaleGrantError, ForeignGrantError, UnitsError.
        """

        def work() -> None:
            self._book.release(stamp.client, grant, generation, _some(units))

        call = ("release", f"{_text(units)} of grant {grant}, generation {generation}")
        self._borrow(stamp, now, call, work)

    def called(self, borrower: str) -> tuple[lease_types.Call, ...]:
        """How much of which grant it must give back by when; of each, the units are its choice."""
        self._clients.present(borrower, lease_types.Role.BORROWER)
        return tuple(
            call
            for lender, lease in sorted(self._book.leases.items())
            if lease.reclaims
            for call in self._calls(lender)
            if self._book.grants[call.grant].borrower == borrower
        )

    # What is, without a change; times as of the latest call.

    def standing(self, client: str) -> lease_types.Standing:
        """All that a client need know. Raises UnknownClientError when it is not PRESENT."""
        generation = self._book.generation
        if self._clients.present(client).role is lease_types.Role.BORROWER:
            held = tuple(self._book.held(client))
            return lease_types.Standing(generation, held, self.called(client), None)
        lease = self._lease(client)
        return lease_types.Standing(generation, lease.grants, self._calls(client), lease)

    def check_integrity(self) -> None:
        """L1 to L6. Raises InternalError with the first that does not hold."""
        self._book.check_integrity()
        present = {
            role: {c.id for c in self._clients.by_id.values() if c.present and c.role is role}
            for role in lease_types.Role
        }
        if present[lease_types.Role.LENDER] != set(self._book.leases):
            raise errors.InternalError(
                f"L2: leases of {sorted(self._book.leases)}, lenders present"
                f" {sorted(present[lease_types.Role.LENDER])}"
            )
        for grant in self._book.grants.values():
            if grant.borrower not in present[lease_types.Role.BORROWER]:
                raise errors.InternalError(f"L2: the borrower of {grant} is gone")

    def snapshot(self) -> dict[str, Any]:
        """The whole ledger as plain JSON values."""
        return {
            "version": _VERSION,
            "settings": {
                "unit_bytes": self.unit_bytes,
                "pairs": dict(self._book.pairs),
                "silence_seconds_max": self._clients.silence_seconds_max,
                "jump_seconds_max": self._time.jump_seconds_max,
                "clients_max": self._clients.clients_max,
                "units_max": self._book.units_max,
            },
            "time": {"seen": self._time.seen, "skipped": self._time.skipped},
            "clients": self._clients.snapshot(),
            "book": self._book.snapshot(),
        }

    @classmethod
    def restore(cls, plain: Mapping[str, Any]) -> Ledger:
        """The ledger of which `plain` is the snapshot; the time in between is a jump of the clock.

        Raises LeaseError for a snapshot of another version.
        """
        if plain.get("version") != _VERSION:
            raise errors.LeaseError(
                f"a snapshot of version {plain.get('version')}: expected {_VERSION}; restore it"
                " with the release that wrote it"
            )
        ledger = cls(**plain["settings"])
        ledger._time.seen = plain["time"]["seen"]
        ledger._time.skipped = plain["time"]["skipped"]
        ledger._clients.restore(plain["clients"])
        ledger._book.restore(plain["book"])
        ledger.check_integrity()
        return ledger

    def _lend(
        self,
        stamp: lease_types.Stamp,
        now: float,
        call: tuple[str, str],
        work: Callable[[], Answer],
    ) -> Answer:
        return self._once(stamp, now, lease_types.Role.LENDER, call, work)

    def _borrow(
        self,
        stamp: lease_types.Stamp,
        now: float,
        call: tuple[str, str],
        work: Callable[[], Answer],
    ) -> Answer:
        return self._once(stamp, now, lease_types.Role.BORROWER, call, work)

    def _once(
        self,
        stamp: lease_types.Stamp,
        now: float,
        role: lease_types.Role | None,
        call: tuple[str, str],
        work: Callable[[], Answer],
    ) -> Answer:
        """L8."""
        self._time.advance(now)
        return self._clients.once(stamp, call, role, work)

    def _end(self, client: lease_clients.Client) -> list[lease_types.Event]:
        """PRESENT -> GONE, without a word."""
        ended: list[lease_types.Event] = [
            lease_types.Expired(client.id, client.role, client.incarnation)
        ]
        lease_clients.forget_requests(client)
        if client.role is lease_types.Role.LENDER:
            return ended + self._book.void(client.id)
        return ended + self._book.fence(client.id)

    def _calls(self, lender: str) -> tuple[lease_types.Call, ...]:
        """With deadlines on the callers' clock."""
        skipped = self._time.skipped
        return tuple(
            call._replace(deadline=call.deadline + skipped) for call in self._book.calls(lender)
        )

    def _lease(self, lender: str) -> lease_types.Lease:
        lease = self._book.leases[lender]
        reclaims = tuple(
            lease_types.Reclaim(
                reclaim.id,
                reclaim.units_count,
                reclaim.left_count,
                reclaim.deadline + self._time.skipped,
                self._is_overdue(reclaim),
            )
            for reclaim in lease.reclaims
        )
        return lease_types.Lease(
            lease.free, lease.fenced, tuple(self._book.out_of(lender)), reclaims
        )

    def _is_overdue(self, reclaim: lease_units.OpenReclaim) -> bool:
        return self._time.elapsed > reclaim.deadline


_VERSION = 1


def _check_count(name: str, given: int, *, least: int = 1) -> None:
    if type(given) is not int or given < least:
        raise errors.UnitsError(f"{name} is {given!r}: expected a whole number of at least {least}")


def _text(units: ranges.Pairs) -> str:
    """The same for ranges, tuples and lists."""
    return str([tuple(pair) for pair in units])


def _some(units: ranges.Pairs) -> ranges.Ranges:
    """Units that a client names. Raises UnitsError when there are none or one is named twice."""
    named = ranges.of(units)
    if not named:
        raise errors.UnitsError("no units are named: expected (first, end) ranges of at least one")
    return named
