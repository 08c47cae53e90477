"""A lender's side of leases: offers what it can spare, calls it back when it needs it.

Knows: the ledger's words, which units are lent, what open reclaims still want.
Does not know: what a unit is made of and when it can be spared (`sources.py`),
how a message travels (`lease_line.py`), borrowers.

    OUT --join answered--> IN --counted as gone, or without an answer for too long--> OUT

    a unit   OWN --reserved, zeroed--> RESERVED --offered--> LENT --home again--> OWN
                                                              |
                                                              +--OUT--> QUARANTINED --> OWN

The truth is what a heartbeat's answer says: units that are in no set of the
lease have come home. Units of a borrower that is gone are fenced: they are
zeroed, then reported, then lent again or at home.

Who was counted as gone cannot know whether borrowers know, nor, if only its
answers were lost, whether the ledger does. It touches nothing that it lent
before the ledger has counted it as gone too, and each borrower has heard of it
or has itself counted as gone: `quarantine_seconds`.
"""

from __future__ import annotations

import dataclasses
import math

from aqua_jax.control import errors, lease_line, lease_types, ranges, sources

_MESSAGES_A_TURN = 8  # with a ledger that answers at once


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LenderSettings:
    """When it speaks, and how long it waits.

    reclaim_seconds: what it gives borrowers to vacate units. least_units: it offers no fewer at a
    time. heartbeat_seconds: between two questions after its standing. timeout_seconds: after which
    a request is sent again. gone_seconds: without an answer it counts itself as gone; more than the
    ledger's silence_seconds_max. quarantine_seconds: after that its memory is its own; more than
    the ledger's silence_seconds_max and the silence_seconds of borrowers together.
    """

    reclaim_seconds: float = 1.0
    least_units: int = 1
    heartbeat_seconds: float = 0.25
    timeout_seconds: float = 0.5
    gone_seconds: float = 8.0
    quarantine_seconds: float = 9.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise errors.ConfigError(
                    f"{field.name} is {getattr(self, field.name)}; give more than 0"
                )
        if self.gone_seconds <= max(self.heartbeat_seconds, self.timeout_seconds):
            raise errors.ConfigError(
                f"gone_seconds is {self.gone_seconds}; give more than heartbeat_seconds"
                f" {self.heartbeat_seconds} and timeout_seconds {self.timeout_seconds}"
            )


@dataclasses.dataclass(slots=True)
class LenderCounters:
    """Sums over a lender's life."""

    units_offered: int = 0
    units_home: int = 0
    units_scrubbed: int = 0
    reclaims: int = 0
    lives: int = 0


class Lender:
    """One source of memory and its lease. One thread owns it, an engine's if it is its pool's."""

    def __init__(
        self,
        client: str,
        source: sources.Source,
        port: lease_line.Port,
        *,
        settings: LenderSettings,
        incarnation: int,
        now: float = 0.0,
    ) -> None:
        """incarnation: larger than in any former life of `client`."""
        self.client = client
        self.settings = settings
        self.counters = LenderCounters()
        self.lent: ranges.Ranges = ()  # units that are not its own
        self._source = source
        self._line = lease_line.Line(port, timeout_seconds=settings.timeout_seconds, now=now)
        self._incarnation = incarnation
        self._request = 0
        self._joined = False
        self._heartbeat_at = now
        self._lease = lease_types.Lease((), (), (), ())
        self._quarantine: list[tuple[float, ranges.Ranges]] = []

    # -- a party to leases -------------------------------------------------------------------

    def turn(self, now: float) -> bool:
        """Takes in answers, and says what is to be said next. True when memory came home."""
        changed = self._end_quarantine(now)
        for _ in range(_MESSAGES_A_TURN):
            came = self._line.poll(now)
            if came is not None:
                changed |= self._take(*came, now)
            elif self._line.asked is not None or not self._speak(now):
                break
        if self._joined and now >= self._line.heard_at + self.settings.gone_seconds:
            changed |= self._count_as_gone(now)
        return changed

    def wakes_at(self) -> float:
        """When it has something to say though nothing happens."""
        at = self._line.wakes_at() if self._line.asked is not None else self._heartbeat_at
        if not self._joined and self._quarantine:
            at = math.inf  # it has nothing to say until that ends
        return min([at, *(until for until, _ in self._quarantine)])

    def overdue(self, now: float) -> list[lease_types.Reclaim]:
        """Its reclaims whose deadline has passed with units still to come."""
        return [one for one in self._lease.reclaims if one.deadline < now]

    # -- speaking ----------------------------------------------------------------------------

    def _speak(self, now: float) -> bool:
        """Sends the next request, if there is one."""
        life = self._incarnation
        if not self._joined:
            if self._quarantine:  # what it would offer may still be read
                return False
            role = lease_types.Role.LENDER
            self._line.ask("join", now, client=self.client, role=role, incarnation=life)
        elif now >= self._heartbeat_at:
            self._line.ask("heartbeat", now, client=self.client, incarnation=life)
        elif self._lease.fenced:
            self._source.scrub(self._lease.fenced)
            self._line.ask("scrubbed", now, stamp=self._stamp(), units=self._lease.fenced)
        else:
            return self._offer_or_reclaim(now)
        return True

    def _offer_or_reclaim(self, now: float) -> bool:
        """Brings what is lent nearer to what the source can spare."""
        lent = ranges.count(self.lent)
        coming = sum(one.left_count for one in self._lease.reclaims)
        target = self._source.target(lent - coming, now)
        more = target - (lent - coming)
        if more >= self.settings.least_units:
            reserved = self._source.reserve(more)
            if reserved:
                self._line.ask("offer", now, stamp=self._stamp(), units_count=reserved)
                return True
        if more < 0:
            deadline = now + self.settings.reclaim_seconds
            stamp, self.counters.reclaims = self._stamp(), self.counters.reclaims + 1
            self._line.ask("reclaim", now, stamp=stamp, units_count=-more, deadline=deadline)
            return True
        return False

    def _stamp(self) -> lease_types.Stamp:
        self._request += 1
        return lease_types.Stamp(self.client, self._incarnation, self._request)

    # -- taking in ---------------------------------------------------------------------------

    def _take(self, ask: lease_line.Ask, answer: lease_line.Answer, now: float) -> bool:
        """What the answer changes; True when memory came home."""
        error = answer.error
        changed = False
        if ask.name == "offer":
            units = answer.value if error is None else ()
            changed = (
                self._note_offered(units) or ranges.count(units) < ask.arguments["units_count"]
            )
        if isinstance(error, errors.UnknownClientError | errors.StaleRequestError):
            return self._count_as_gone(now) or changed
        if ask.name == "join":
            if error is not None:
                raise error  # of one name with a borrower, or one client too many: not to be mended
            self._joined, self._heartbeat_at = True, now
            self.counters.lives += 1
            return False
        if ask.name == "heartbeat" and error is None:
            self._heartbeat_at = now + self.settings.heartbeat_seconds
            return self._follow(answer.value.lease)
        if ask.name == "scrubbed":
            self.counters.units_scrubbed += ranges.count(ask.arguments["units"])
        self._heartbeat_at = now  # what is lent, fenced and called has changed: ask at once
        return changed

    def _note_offered(self, units: ranges.Ranges) -> bool:
        """RESERVED -> LENT for units that the ledger took, -> OWN for others.

        A number that was lent already came home in the meantime, and was given out anew: True when
        there are any.
        """
        home = _without(self.lent, _without(self.lent, units))
        came = self._bring_home(home)
        self._source.lend(units)
        self.lent = ranges.plus(self.lent, units)
        self.counters.units_offered += ranges.count(units)
        return came

    def _follow(self, lease: lease_types.Lease) -> bool:
        """LENT -> OWN for units that are in no set of the lease any more."""
        self._lease = lease
        away = ranges.of((*lease.free, *lease.fenced, *(r for g in lease.grants for r in g.units)))
        return self._bring_home(_without(self.lent, away))

    def _bring_home(self, units: ranges.Ranges) -> bool:
        """LENT -> OWN; True when there are any."""
        if units:
            self.lent = ranges.minus(self.lent, units)
            self.counters.units_home += ranges.count(units)
            self._source.take_back(units)
        return bool(units)

    # -- giving up ---------------------------------------------------------------------------

    def _count_as_gone(self, now: float) -> bool:
        """IN -> OUT, LENT -> QUARANTINED, RESERVED -> OWN: True when there are any of these."""
        asked = self._line.asked
        offers = asked is not None and asked.name == "offer"
        if offers:
            self._note_offered(())
        self._line.forget(now)
        if self.lent:
            self._quarantine.append((now + self.settings.quarantine_seconds, self.lent))
        self.lent, self._lease = (), lease_types.Lease((), (), (), ())
        self._joined = False
        self._incarnation += 1
        self._request = 0
        return offers

    def _end_quarantine(self, now: float) -> bool:
        """QUARANTINED -> OWN, zeroed."""
        if not self._quarantine or self._quarantine[0][0] > now:
            return False
        _, units = self._quarantine.pop(0)
        self._source.scrub(units)
        self._source.take_back(units)
        self.counters.units_home += ranges.count(units)
        return True


def _without(units: ranges.Ranges, others: ranges.Ranges) -> ranges.Ranges:
    """Those of `units` that are not in `others`."""
    left: list[tuple[int, int]] = []
    for first, end in units:
        for a, b in others:
            if b <= first or a >= end:
                continue
            if first < a:
                left.append((first, a))
            first = max(first, b)
        if first < end:
            left.append((first, end))
    return ranges.of(left)
