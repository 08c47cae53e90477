"""Homes off the device that come and go, as sessions feel it: who moves, who loses its state.

Knows: which tiers are called back and how long their pages may wait for room,
slices in flight that read them. Does not know: where pages are
(`residency.py`), how they move (`relocation.py`), lenders (`borrowing.py`).

Pages that must leave their slots go to other slots. Where no tier has room
they wait: their sessions may come to the device, as the policy has it, and
others may end. When they have waited for long enough, the session that is last
in the policy's order gives up its state and recomputes: late, never wrong.

A home that is lost takes with it the state of the sessions that had pages
there and nowhere else. What slices in flight read there is garbage, so what
these say is dropped, and the sessions go on from what was known before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aqua_jax.control import copying, errors, spare, stage, types


class Flight(NamedTuple):
    """A session in a slice in flight: its epoch and its page table when that was decided."""

    session: types.Session
    epoch: int
    pages: Sequence[int]


class Homes:
    """The tiers that come and go, of the stage's sessions. Not thread-safe.

    pages_max: pages that may be under way from slot to slot at a time.
    """

    def __init__(self, on_stage: stage.Stage, *, pages_max: int) -> None:
        self._stage = on_stage
        self._memory = on_stage.memory
        self._pages_max = pages_max
        self._waits_until: dict[spare.Tier, float] = {}
        self._lost_dispatch = 0  # of the session that gave up its state last

    def add(self, tier: spare.Tier) -> None:
        """A grant can be used: nearer than the host's memory. Nothing may touch its space yet."""
        if tier.slots.space == self._memory.device.space:
            raise errors.InternalError(f"space {tier.slots.space} is the device's pool")
        self._memory.slots.add(tier)

    def call_back(self, space: int, count: int, *, waits_until: float) -> int:
        """At least `count` slots are to be vacated; returns how many will be.

        waits_until: the clock second until which pages may wait for room elsewhere; one for a tier,
        and the latest word counts.
        """
        self._waits_until[self._memory.slots.of(space)] = waits_until
        return self._memory.relocation.call_back(space, count)

    def give_back(self, space: int, count: int) -> int:
        """Up to `count` slots of units that nobody uses retire; returns how many."""
        return self._memory.relocation.give_back(space, count)

    def remove(self, space: int) -> None:
        """A grant has ended: its slots are all RETIRED."""
        self._waits_until.pop(self._memory.slots.remove(space), None)

    def relocate(self, now: float) -> list[copying.Copy]:
        """Copies of pages that must leave their slots. To be submitted before anything else."""
        if not self._memory.relocation.is_pending:
            return []
        copies = self._plan()
        if not (copies or self._memory.pages_moving) and now >= self._impatient_at():
            self._make_room(now)
            copies = self._plan()
        return copies

    def wakes_at(self, now: float) -> float:
        """When somebody gives up its state if nothing happens before; infinite if it is past.

        What is waited for after that wakes by itself.
        """
        at = self._impatient_at() if self._memory.relocation.is_pending else math.inf
        return at if at > now else math.inf

    def void(self, space: int, flights: Iterable[Flight], now: float) -> None:
        """The grant is lost, with all that was in it."""
        self._waits_until.pop(self._memory.slots.of(space), None)
        for id in self._memory.relocation.void(space):
            self._lose(self._stage.sessions[id], now)
        for session, epoch, pages in flights:
            if session.state is not types.State.ENDED and _reads(pages, space):
                session.void_until = session.last_dispatch
                if session.epoch == epoch:  # its pages have moved since, what it computes is void
                    self._lose(session, now)

    def drop_outcome(self, session: types.Session) -> None:
        """A slice of it was observed, and is void: it goes on from what was known before."""
        if not session.flights:
            self._stage.leave_queue(session)
            session.planned_known = session.known
            self._stage.enter_queue(session)

    # -- helpers, in call order --------------------------------------------------------------

    def _plan(self) -> list[copying.Copy]:
        most = self._pages_max - self._memory.pages_moving
        return self._memory.relocation.plan(most) if most > 0 else []

    def _impatient_at(self) -> float:
        called = (until for tier, until in self._waits_until.items() if tier.slots.called_count)
        return min(called, default=math.inf)

    def _make_room(self, now: float) -> None:
        """The last of those without a home gives up its state; one at a time.

        Its slots are free once its last slice has completed: until then nobody else must.
        """
        if self._memory.device.completed_dispatch < self._lost_dispatch:
            return
        homeless = [self._stage.sessions[id] for id in self._memory.relocation.homeless()]
        if homeless:
            last = max(homeless, key=self._stage.policy.key)
            self._lost_dispatch = last.last_dispatch
            self._lose(last, now)

    def _lose(self, session: types.Session, now: float) -> None:
        self._stage.counters.homes_lost += 1
        self._stage.lose(session, now)


def _reads(pages: Sequence[int], space: int) -> bool:
    """True when a page table names slots of the space. Those come first in it."""
    for entry in pages:
        if entry >= 0:
            return False
        if types.entry_place(entry).space == space:
            return True
    return False
