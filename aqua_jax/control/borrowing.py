"""A borrower's side of leases: keeps the tiers of lenders' memory equal to what the ledger grants.

Knows: the ledger's words, grants and the spaces they are mapped as, how full
tiers are. Does not know: how a message travels (`lease_line.py`), how pages
move (`homes.py`), what a slot is made of (`grants.py`).

    OUT --join answered--> IN --silent for too long, counted as gone--> OUT
                           what was granted is lost; it joins as a new life

    a grant   UNKNOWN --granted, mapped as a tier--> HELD --all units released--> UNKNOWN
                                                       |
                                                       +--void, or OUT--> LOST, unmapped

The truth is what a heartbeat's answer says; everything else may be lost on the
way. What is called there and is not on its way back yet is called back from
the tier; units all slots of which have retired are zeroed and released.

A borrower touches no unit that is no longer its own. It counts itself as gone
before the ledger may: when the last answer is to a request older than
`silence_seconds`, less than the ledger waits. So what a lender scrubs after
that is read by nobody.
"""

from __future__ import annotations

import dataclasses
import math

from aqua_jax.control import (
    controller,
    errors,
    grants,
    lease_line,
    lease_types,
    pages,
    ranges,
    spare,
)

_MESSAGES_A_TURN = 8  # with a ledger that answers at once


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BorrowerSettings:
    """How much it borrows, and when it asks.

    unit_slots: slots of a unit. spaces: ids for grants; as many grants at a time.
    units_max: it never holds more. ahead_slots: granted slots that it likes to have FREE; it asks
    for more when fewer than half of them are, so that few grants hold much.
    full_share: of the device's pages in use, from which on it wants memory at all.
    idle_seconds: after so long it gives back what is FREE beyond that.
    heartbeat_seconds: between two questions after its standing. silence_seconds: without an answer
    it counts itself as gone; less than the ledger's silence_seconds_max by what a slice and a copy
    take. timeout_seconds: after which a request is sent again. backoff_seconds: before it asks
    again for memory that was not to be had, doubled each time up to backoff_seconds_max.
    patience: share of the time until a deadline for which pages wait for room elsewhere.
    """

    unit_slots: int
    spaces: range
    units_max: int
    ahead_slots: int
    full_share: float = 0.75
    idle_seconds: float = 5.0
    heartbeat_seconds: float = 0.25
    silence_seconds: float = 3.0
    timeout_seconds: float = 0.5
    backoff_seconds: float = 0.25
    backoff_seconds_max: float = 8.0
    patience: float = 0.5

    def __post_init__(self) -> None:
        for name in ("unit_slots", "units_max", "ahead_slots"):
            if getattr(self, name) < 1:
                raise errors.ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
        if not self.spaces or self.spaces.step != 1:
            raise errors.ConfigError(f"spaces is {self.spaces}; give a range of free space ids")
        if not (self.timeout_seconds < self.silence_seconds > self.heartbeat_seconds > 0):
            raise errors.ConfigError(
                f"silence_seconds is {self.silence_seconds}; give more than timeout_seconds"
                f" {self.timeout_seconds} and heartbeat_seconds {self.heartbeat_seconds}"
            )


@dataclasses.dataclass(slots=True)
class BorrowerCounters:
    """Sums over a borrower's life."""

    units_granted: int = 0
    units_released: int = 0
    grants_void: int = 0
    lives: int = 0
    reclaims_met: int = 0
    reclaims_late: int = 0


class Borrower:
    """One controller's memory from lenders. The engine's thread owns it."""

    def __init__(
        self,
        client: str,
        owner: controller.Controller,
        port: lease_line.Port,
        *,
        settings: BorrowerSettings,
        incarnation: int,
        arenas: grants.Arenas | None = None,
        now: float = 0.0,
    ) -> None:
        """incarnation: larger than in any former life of `client`."""
        self.client = client
        self.settings = settings
        self.counters = BorrowerCounters()
        self.reclaims: list[grants.Reclaimed] = []
        self._owner = owner
        self._homes = owner.homes
        self._slots = owner.memory.slots
        self._arenas = arenas or grants.NoArenas()
        self._line = lease_line.Line(port, timeout_seconds=settings.timeout_seconds, now=now)
        self._incarnation = incarnation
        self._request = 0
        self._joined = False
        self._heartbeat_at = now
        self._held: dict[int, grants.Held] = {}  # by generation
        self._unwanted: list[lease_types.Grant] = []  # granted, and no space is left for them
        self._ask_at = now
        self._backoff_seconds = settings.backoff_seconds
        self._idle_since = now

    # -- a party to leases -------------------------------------------------------------------

    def turn(self, now: float) -> bool:
        """Takes in answers, and says what is to be said next. Never waits."""
        changed = False
        for _ in range(_MESSAGES_A_TURN):
            came = self._line.poll(now)
            if came is not None:
                changed |= self._take(*came, now)
            elif self._line.asked is not None or not self._speak(now):
                break
        if now >= self._silent_at():
            changed |= self._count_as_gone(now)
        self._give_back_idle(now)
        return changed

    def wakes_at(self) -> float:
        """When it has something to say though nothing happens."""
        if self._line.asked is not None:
            return min(self._line.wakes_at(), self._silent_at())
        return self._heartbeat_at

    @property
    def units_held(self) -> int:
        """Units granted and not released."""
        return sum(held.units_count for held in self._held.values())

    def overdue(self, now: float) -> list[tuple[lease_types.Grant, float]]:
        """Calls whose deadline has passed and that are not answered yet: grant and deadline."""
        return [(held.grant, at) for held in self._held.values() for at in held.overdue(now)]

    def check_integrity(self) -> None:
        """Its grants are the lent tiers that there are. Raises InternalError."""
        lent = [tier for tier in self._slots.tiers if tier.slots.space in self.settings.spaces]
        held = [one.tier for one in self._held.values()]
        if sorted(map(id, lent)) != sorted(map(id, held)):
            raise errors.InternalError(
                f"borrower {self.client!r} holds {[one.grant for one in self._held.values()]}, but"
                f" the tiers are of spaces {[tier.slots.space for tier in lent]}"
            )

    # -- speaking ----------------------------------------------------------------------------

    def _speak(self, now: float) -> bool:
        """Sends the next request, if there is one."""
        if not self._joined:
            role, life = lease_types.Role.BORROWER, self._incarnation
            self._line.ask("join", now, client=self.client, role=role, incarnation=life)
        elif now >= self._heartbeat_at:
            life = self._incarnation
            self._line.ask("heartbeat", now, client=self.client, incarnation=life)
        elif (release := self._next_release()) is not None:
            grant, units = release
            named = {"grant": grant.id, "generation": grant.generation, "units": units}
            self._line.ask("release", now, stamp=self._stamp(), **named)
        elif (wanted := self._units_wanted(now)) > 0:
            self._line.ask("grant", now, stamp=self._stamp(), units_count=wanted)
        else:
            return False
        return True

    def _stamp(self) -> lease_types.Stamp:
        self._request += 1
        return lease_types.Stamp(self.client, self._incarnation, self._request)

    def _next_release(self) -> tuple[lease_types.Grant, ranges.Ranges] | None:
        """Units that are vacated, and zeroed now; those of one grant."""
        if self._unwanted:
            return self._unwanted[0], self._unwanted[0].units
        for held in self._held.values():
            numbers = held.vacated()
            if numbers:
                for number in numbers:
                    self._arenas.scrub(held.tier.slots.space, held.slots(number))
                return held.grant, held.named(numbers)
        return None

    def _units_wanted(self, now: float) -> int:
        """Units to ask for now."""
        settings, device = self.settings, self._owner.memory.device
        full = device.used_count >= settings.full_share * device.capacity
        if now < self._ask_at or not full or not self._owner.policy.pages_out:
            return 0
        if not any(not self._slots.is_known(space) for space in settings.spaces):
            return 0
        short = settings.ahead_slots - self._free_count()
        if 2 * short < settings.ahead_slots:
            return 0
        most = settings.units_max - self.units_held
        return min(-(-short // settings.unit_slots), most)

    def _free_count(self) -> int:
        return sum(held.tier.slots.free_count for held in self._held.values())

    # -- taking in ---------------------------------------------------------------------------

    def _take(self, ask: lease_line.Ask, answer: lease_line.Answer, now: float) -> bool:
        """What the answer changes; True when tiers have changed."""
        error = answer.error
        if isinstance(error, errors.UnknownClientError | errors.StaleRequestError):
            return self._count_as_gone(now)
        if ask.name == "join":
            if error is not None:
                raise error  # of one name with a lender, or one client too many: not to be mended
            self._joined, self._heartbeat_at = True, now
            self.counters.lives += 1
            return False
        if ask.name == "heartbeat":
            self._heartbeat_at = now + self.settings.heartbeat_seconds
            return error is None and self._follow(answer.value, now)
        if ask.name == "release":
            return self._note_released(ask, error, now)
        return self._note_granted(answer.value if error is None else (), now)

    def _follow(self, standing: lease_types.Standing, now: float) -> bool:
        """Tiers are what the ledger says that it has; what is called is called back."""
        changed = False
        for grant in standing.void([held.grant for held in self._held.values()]):
            self._lose(self._held[grant.generation], now)
            changed = True
        for grant in standing.grants:
            unwanted = any(grant.generation == one.generation for one in self._unwanted)
            if grant.generation not in self._held and not unwanted:
                changed |= self._hold(grant)  # the answer that granted it was given up
        for generation, held in self._held.items():
            calls = [call for call in standing.calls if call.generation == generation]
            changed |= self._call_back(held, calls, now)
        return changed

    def _call_back(self, held: grants.Held, calls: list[lease_types.Call], now: float) -> bool:
        """The tier vacates what is called and is not on its way back yet."""
        more, size = held.note_calls(calls), held.tier.unit_slots
        if not more:
            return False
        seconds = max(0.0, min(call.deadline for call in calls) - now)
        waits_until = now + seconds * self.settings.patience
        space = held.tier.slots.space
        held.leaving += self._homes.call_back(space, more * size, waits_until=waits_until) // size
        return True

    def _note_released(
        self, ask: lease_line.Ask, error: errors.LeaseError | None, now: float
    ) -> bool:
        generation, units = ask.arguments["generation"], ask.arguments["units"]
        if self._unwanted and self._unwanted[0].generation == generation:
            del self._unwanted[0]
            return False
        held = self._held[generation]
        if error is not None:  # it has ended, and its lender with it
            self._lose(held, now)
            return True
        for reclaimed in held.release(units, now):
            self.reclaims.append(reclaimed)
            self.counters.reclaims_met += reclaimed.met
            self.counters.reclaims_late += not reclaimed.met
        self.counters.units_released += ranges.count(units)
        if not held.units_count:
            del self._held[generation]
            self._homes.remove(held.tier.slots.space)
            self._arenas.close(held.tier.slots.space)
        return False

    def _note_granted(self, granted: tuple[lease_types.Grant, ...], now: float) -> bool:
        """Asks again at once when there was some, later and later when there was none."""
        if not granted:
            self._ask_at = now + self._backoff_seconds
            most = self.settings.backoff_seconds_max
            self._backoff_seconds = min(2 * self._backoff_seconds, most)
            return False
        self._backoff_seconds = self.settings.backoff_seconds
        self._idle_since = now
        changed = False
        for grant in granted:
            changed |= self._hold(grant)
        return changed

    def _hold(self, grant: lease_types.Grant) -> bool:
        """The grant becomes a tier; without a space for it, it goes back."""
        size = self.settings.unit_slots
        free = [space for space in self.settings.spaces if not self._slots.is_known(space)]
        if not free:
            self._unwanted.append(grant)
            return False
        space = free[0]
        count = grant.units_count * size
        slots = pages.PagePool(space, count, generation=grant.generation)
        tier = spare.Tier("peer", slots, size)
        self._arenas.open(grant, space)
        self._homes.add(tier)
        self._held[grant.generation] = grants.Held(grant, tier)
        self.counters.units_granted += grant.units_count
        return True

    # -- giving up ---------------------------------------------------------------------------

    def _silent_at(self) -> float:
        return self._line.heard_at + self.settings.silence_seconds if self._joined else math.inf

    def _count_as_gone(self, now: float) -> bool:
        """IN -> OUT: what it held is somebody else's before long."""
        lost = list(self._held.values())
        for held in lost:
            self._lose(held, now)
        self._unwanted.clear()
        self._line.forget(now)
        self._joined = False
        self._incarnation += 1
        self._request = 0
        return bool(lost)

    def _lose(self, held: grants.Held, now: float) -> None:
        """HELD -> LOST."""
        self.counters.grants_void += 1
        del self._held[held.grant.generation]
        self._owner.void(held.tier.slots.space, now)
        self._arenas.close(held.tier.slots.space)

    def _give_back_idle(self, now: float) -> None:
        """What has been FREE for a while beyond what it likes to have goes back."""
        settings = self.settings
        surplus = self._free_count() - settings.ahead_slots
        if surplus < settings.unit_slots:
            self._idle_since = now
        elif now >= self._idle_since + settings.idle_seconds:
            for held in self._held.values():
                gone = self._homes.give_back(held.tier.slots.space, surplus)
                held.leaving += gone // settings.unit_slots
                surplus -= gone
            self._idle_since = now
