"""What a lender lends out of, and how much of it can be spared.

Knows: a controller's pool and load; bytes that a batch model leaves idle. Does
not know: the ledger (`lending.py`), who borrows.

Sources do not flap: what is called back is called at once, and is offered again
only after the load has been low for a while, and in amounts worth a message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Protocol

from aqua_jax.control import controller, errors, ranges, types


class Source(Protocol):
    """Memory in units that are the source's own, reserved to be offered, or lent."""

    def target(self, lent: int, now: float) -> int:
        """Units that it would have lent in all; `lent` are, and are not called back."""
        ...

    def reserve(self, count: int) -> int:
        """OWN -> RESERVED for up to `count` units; they are zeroed and nobody reaches them."""
        ...

    def lend(self, units: ranges.Ranges) -> None:
        """RESERVED -> LENT: the ledger's numbers of as many; those left over are OWN again."""
        ...

    def scrub(self, units: ranges.Ranges) -> None:
        """Nobody reaches these LENT units any more, and they are zeroed, when it returns."""
        ...

    def take_back(self, units: ranges.Ranges) -> None:
        """LENT -> OWN."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolLoad:
    """When an engine that serves has pages to spare.

    retain_pages: FREE pages that it keeps for itself. pending_low: with no more sessions that wait
    it may lend, pending_high: with so many it calls everything back. calm_seconds: for how long
    the load must have been low before it offers again.
    """

    retain_pages: int
    pending_low: int = 2
    pending_high: int = 10
    calm_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.pending_low < self.pending_high:
            raise errors.ConfigError(
                f"pending_low {self.pending_low}, pending_high {self.pending_high}: give counts,"
                " the first below the second"
            )
        if self.retain_pages < 0 or self.calm_seconds < 0:
            raise errors.ConfigError(
                f"retain_pages {self.retain_pages}, calm_seconds {self.calm_seconds}: give 0 or"
                " more"
            )


class PoolSource:
    """Pages of a controller's own pool: what is lent has retired from it, and is restored."""

    def __init__(self, owner: controller.Controller, load: PoolLoad, *, unit_pages: int) -> None:
        self._owner = owner
        self._pool = owner.memory.device
        self._load = load
        self._unit_pages = unit_pages
        self._reserved: list[int] = []  # pages
        self._lent: dict[int, list[int]] = {}  # unit -> its pages
        self._busy_at = float("-inf")

    def pages(self, unit: int) -> list[int]:
        """The pages that stand behind a lent unit."""
        return self._lent[unit]

    def target(self, lent: int, now: float) -> int:
        """All back when many wait; as much as is short when pages are; more when it is calm."""
        load, pool, size = self._load, self._pool, self._unit_pages
        pending = self._count_waiting()
        short = self._pages_short()
        if pending >= load.pending_high:
            self._busy_at = now
            return 0
        if short > 0:
            self._busy_at = now
            return max(0, lent - -(-short // size))
        if pending > load.pending_low:
            self._busy_at = now
        if now < self._busy_at + load.calm_seconds:
            return lent
        spare = min(pool.free_count - load.retain_pages, pool.capacity - self._largest_pages())
        return lent + max(0, spare // size)

    def reserve(self, count: int) -> int:
        units = min(count, self._pool.free_count // self._unit_pages)
        self._reserved += self._pool.retire(units * self._unit_pages)
        return units

    def lend(self, units: ranges.Ranges) -> None:
        for unit in _each(units):
            self._lent[unit] = self._reserved[: self._unit_pages]
            del self._reserved[: self._unit_pages]
        self._pool.restore(self._reserved)
        self._reserved = []

    def scrub(self, units: ranges.Ranges) -> None:
        """Nothing to zero: a page that is acquired is written before it is read."""

    def take_back(self, units: ranges.Ranges) -> None:
        for unit in _each(units):
            self._pool.restore(self._lent.pop(unit))

    def _count_waiting(self) -> int:
        """Sessions that wait for their first slice or to come back."""
        waiting = types.State.WAITING, types.State.AWAY
        return sum(s.state in waiting and not s.parked for s in self._owner.sessions.values())

    def _pages_short(self) -> int:
        """Pages that it lacks: to keep what it retains, and for its largest session to fit."""
        pool, lent = self._pool, self._pool.retired_count
        retained = self._load.retain_pages // 2 - pool.free_count  # half: or it would flap
        return min(lent, max(retained, self._largest_pages() - pool.capacity))

    def _largest_pages(self) -> int:
        """Pages that the largest of its sessions will want."""
        # A long session was let in for all of the pool and the fixed tiers together.
        most, memory = self._pool.capacity_most, self._owner.memory
        sessions = self._owner.sessions.values()
        return max(
            (min(most, memory.request_pages(s.request, s.units_end - 1)) for s in sessions),
            default=0,
        )


class BatchSource:
    """Bytes that a model which works in batches leaves idle; `free_bytes` is told, not found.

    buffer_bytes stay; nothing is lent below `least_bytes`.
    """

    def __init__(self, *, unit_bytes: int, buffer_bytes: int, least_bytes: int) -> None:
        if unit_bytes < 1:
            raise errors.ConfigError(f"unit_bytes is {unit_bytes}; give at least 1")
        self.free_bytes = 0
        self._unit_bytes = unit_bytes
        self._buffer_bytes = buffer_bytes
        self._least_bytes = least_bytes
        self._reserved_count = 0
        self.lent: ranges.Ranges = ()

    @property
    def away_count(self) -> int:
        """Units that are not its own: RESERVED or LENT."""
        return self._reserved_count + ranges.count(self.lent)

    def inform(self, free_bytes: int) -> None:
        """What a batch of the present size leaves free, lent units counted as free."""
        self.free_bytes = free_bytes

    def target(self, lent: int, now: float) -> int:
        """What is free but for the buffer, if it is worth it."""
        bytes = self.free_bytes - self._buffer_bytes
        return bytes // self._unit_bytes if bytes >= self._least_bytes else 0

    def reserve(self, count: int) -> int:
        self._reserved_count = count
        return count

    def lend(self, units: ranges.Ranges) -> None:
        self._reserved_count = 0
        self.lent = ranges.plus(self.lent, units)

    def scrub(self, units: ranges.Ranges) -> None:
        """Whoever maps the units zeroes them."""

    def take_back(self, units: ranges.Ranges) -> None:
        self.lent = ranges.minus(self.lent, units)


def _each(units: ranges.Ranges) -> Iterable[int]:
    return (unit for first, end in units for unit in range(first, end))
