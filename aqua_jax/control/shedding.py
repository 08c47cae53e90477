"""Who sheds pages, for whom: sessions that run with their oldest pages away.

Knows: whose pages make room for whom, and the way out when slots run out. Does
not know: which pages those are (`attending.py`), copies under way (`residency.py`).

A session that sheds has its newest pages on the device. When pages are short, its
oldest full ones are shed: copied out beside the slices, then attended where
they are, and not brought back while it lives. That stops nobody, so it comes
before anybody is evicted: first for its own growth, one slice ahead and more,
since a page is FREE again only when its copy and the slice in flight have
completed; then for the growth of others; then for those who wait and may
displace it. Where sessions shed that would fit, these need no leave to displace,
and those with nothing of their own to shed have the last in order shed for them;
who waits then has nobody evicted while pages are being shed, for some decisions.

Progress. One that finds neither a FREE page nor a slot to shed into waits for
whatever is in flight. When nothing is, the youngest session that has slots
gives up its state and recomputes, before it one whose client does not read;
if that is the one that waits, it does, and starts again when no older session
has the slots. So the oldest whose client reads always gets on. The same where all
that have pages are PAUSED, and none finds those that it needs to go on.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable

from aqua_jax.control import slices, stage, types


class Shedder:
    """Sheds pages of the stage's sessions; copies go into the slice."""

    def __init__(self, on_stage: stage.Stage, shaper: slices.Shaper) -> None:
        self._stage = on_stage
        self._memory = on_stage.memory
        self._attending = on_stage.memory.attending
        self._shaper = shaper

    @property
    def leaving(self) -> int:
        """Device pages that turn FREE once copies in flight have completed.

        Of sessions with a lane and paused ones: all that others have they give up anyway.
        """
        if not self._attending.is_on:
            return 0
        on_device = (*self._stage.running.values(), *self._stage.paused.values())
        return sum(self._attending.leaving(session) for session in on_device if session.sheds)

    def start_check(self) -> Callable[[types.Session], bool]:
        """Tells of one session after the other whether it may start, by the slots as they are now.

        Not a long one that starts anew while older ones, whose clients read, have its slots.
        """
        memory = self._memory
        reach: _Reach | None = None

        def may_start(session: types.Session) -> bool:
            nonlocal reach
            if not session.sheds or session.state is not types.State.WAITING:
                return True
            short = memory.pages_for(session, session.known) - memory.device.capacity
            if short <= memory.slots_free:
                return True
            if reach is None:
                obtainable = self._attending.slots_obtainable(
                    session
                )  # the same for all that have none
                reach = _Reach(self._slots_kept(), obtainable)
            return short <= reach.slots(session)

        return may_start

    def ask(self, sessions: Iterable[types.Session], count: int, slice_: slices.Slice) -> int:
        """Has those of `sessions` that may shed up to `count` pages; returns how many.

        They are incoming from now on, and shed by `shed`, of those who have not left by then.
        """
        if count <= 0 or not self._attending.is_on:
            return 0
        left = count
        for session in sessions:
            if session.sheds and left > 0:
                asked = slice_.shed.get(session, 0)
                most = self._attending.sheddable(session) - self._attending.leaving(session) - asked
                more = max(0, min(left, most))
                slice_.shed[session] = asked + more
                left -= more
        slice_.incoming += count - left
        return count - left

    def shed(self, slice_: slices.Slice) -> None:
        """Plans what was asked, and what running ones will want beyond what is left for them."""
        if not self._attending.is_on:
            return
        left, missing = max(0, slice_.available + slice_.incoming), 0
        for session in self._stage.runnable():
            if session.sheds:
                wanted = self._shaper.growth_by_shedding(session)
                short = wanted - left
                missing += max(0, short) - self.ask((session,), short, slice_)
                left = max(0, -short)
        if self._attending.is_for_all:
            self.ask(reversed(self._stage.runnable()), missing, slice_)
        for session, count in slice_.shed.items():
            if count and self._memory.held(session):
                slice_.copies += self._attending.shed(session, count)

    def free_slots(self, now: float) -> None:
        """Nothing runs and nothing is in flight: if some wait for slots, one gives way.

        Where nobody has a lane they wait PAUSED, each for pages of the others.
        """
        stuck = [session for session in self._stage.runnable() if session.sheds]
        if not self._stage.running and self._stage.queue:
            stuck += self._stage.paused.values()
        if stuck:
            holders = [holder for holder, _ in self._slots_kept()]
            self._stage.give_way(max([*stuck, *holders], key=stage.rank), now)

    def _slots_kept(self) -> list[tuple[types.Session, int]]:
        """The sessions that keep slots from others, and how many."""
        living = self._stage.sessions.values()
        kept = ((session, self._attending.slots_kept(session)) for session in living)
        return [(session, count) for session, count in kept if count]


class _Reach:
    """How many slots a session gets if all that would give way to it do. Fixed when made."""

    def __init__(self, kept: Iterable[tuple[types.Session, int]], obtainable: int) -> None:
        last_first = sorted(((stage.rank(s), count) for s, count in kept), reverse=True)
        self._ranks = [rank for rank, _ in reversed(last_first)]
        counts = (count for _, count in last_first)
        self._sums = list(itertools.accumulate(counts, initial=obtainable))

    def slots(self, session: types.Session) -> int:
        """Those obtainable, and those of all sessions that come after it in rank."""
        return self._sums[len(self._ranks) - bisect.bisect_right(self._ranks, stage.rank(session))]
