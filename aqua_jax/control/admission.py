"""Who is let in, and who makes room: the walk over the queue.

Knows: the policy's order and its word on displacing, pages and lanes. Does
not know: what a slice runs. Nothing here knows which policy it is.

Pages are given out in order: running sessions first, with what they will want
one slice ahead; then the queue, one session after the other. One that does
not fit waits for pages that are on their way (`incoming`), or displaces
running ones if the policy says so, or is passed by later ones, a bounded
number of times.
"""

from __future__ import annotations

import bisect
import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence

from aqua_jax.control import queue as queues
from aqua_jax.control import shedding, slices, stage, types

_REUSE_WAITS_MAX = 64  # decisions that one waits for pages that others compute
_SHED_WAITS_MAX = 8  # decisions that one waits for pages that others shed, before it displaces


class Admission:
    """Changes the stage while a slice is decided; copies go into the slice."""

    def __init__(
        self,
        settings: slices.ControllerSettings,
        on_stage: stage.Stage,
        shaper: slices.Shaper,
        shedder: shedding.Shedder,
    ) -> None:
        self._settings = settings
        self._stage = on_stage
        self._policy = on_stage.policy
        self._memory = on_stage.memory
        self._shaper = shaper
        self._shedder = shedder

    def keep_room_for_growth(
        self, slice_: slices.Slice, finishing: Iterable[types.Session], now: float
    ) -> None:
        """Running sessions continue first: if they would run out of pages, some make room.

        Looks one slice ahead, because a victim's pages turn FREE only when
        the slice in flight has completed.
        """
        running = self._stage.runnable()
        self.count_pages(slice_, running, finishing)
        self._shedder.ask(reversed(running), -(slice_.available + slice_.incoming), slice_)
        while slice_.available + slice_.incoming < 0:
            if len(running) + len(self._stage.paused) < 2:
                return
            victim = self._growth_victim(running)
            if victim.lane >= 0:
                running = stage.without(running, victim)
                slice_.available += self._shaper.growth(victim)
            slice_.incoming += self._gives_up(victim, slice_)
            slice_.copies += self._stage.evict(victim, now)

    def count_pages(
        self,
        slice_: slices.Slice,
        running: Sequence[types.Session],
        finishing: Iterable[types.Session],
    ) -> None:
        """Sets what is available beyond the growth of `running`, and what is incoming."""
        device = self._memory.device
        slice_.available = device.free_count - self._shaper.growth_of_all(running)
        slice_.incoming = device.pending_count + self._shedder.leaving
        # All that they hold: `leaving` counts none of it.
        slice_.incoming += sum(
            self._memory.sharing.gives_up(session, slice_.dropped) for session in finishing
        )

    def may_bring_back(self, slice_: slices.Slice) -> bool:
        """False when nobody in sight of the queue's head could come back between decisions."""
        available = slice_.available
        return available >= 0 and any(
            not session.flights and self._pages_to_join(session, 0) <= available
            for session in itertools.islice(self._stage.queue.states, self._settings.looks_max)
        )

    def walk(self, slice_: slices.Slice, now: float, *, displace: bool) -> None:
        """Lets in what fits, in the policy's order.

        displace: newcomers join and victims may be chosen. Otherwise only
        AWAY and PAUSED sessions come back, into pages that are FREE.
        """
        slice_.prefilling = [s for s in slice_.prefilling if s.lane >= 0]
        blocked: list[types.Session] = []
        for session in self._in_sight(slice_):
            if session.flights:  # its last known unit is not on the host yet
                if self._policy.backfills:
                    continue
                return
            rows = self._rows_left(session, slice_, slices=1)
            if session.state is types.State.WAITING and not rows:
                if displace:
                    self._look_ahead(session, slice_, now)
                continue
            if displace and self._waits_for_another(session, slice_):
                continue
            need, have = self._pages_to_join(session, rows), self._memory.sharing.at_hand(session)
            if self._stage.has_lane and need <= slice_.available:
                need = max(need, min(slice_.available, self._pages_for_rows(session, rows) - have))
                slice_.available -= need
                if displace or session.state is not types.State.WAITING:
                    self._join(session, need, slice_, now)
                    for earlier in blocked:
                        earlier.passed_over += 1
                    if session.id in slice_.joined:
                        self._look_ahead(session, slice_, now)
                    continue
                # The pages are kept for it: it joins at a later decision.
                if self._policy.backfills:
                    continue
                return
            if displace and self._make_room(session, need, slice_, now):
                continue
            if not self._policy.backfills or session.passed_over >= self._settings.passes_max:
                return
            blocked.append(session)

    def _in_sight(self, slice_: slices.Slice) -> Iterator[types.Session]:
        """The first of the queue, as many as one decision looks at.

        Prompts only while there are rows for them: the others would be let in for nothing.
        Without those that may not start; if later ones pass, those are seen.
        """
        queue, most = self._stage.queue, self._settings.looks_max
        oldest = self._oldest_fragile()
        if oldest is not None:
            yield oldest
        prompts, states = (
            collections.deque(itertools.islice(self._startable(part), most))
            for part in (queue.prompts, queue.states)
        )
        for _ in range(most):
            if prompts and not self._rows_left(prompts[0][1], slice_, slices=self._horizon):
                if not self._policy.backfills:
                    return
                prompts.clear()
            if not (prompts or states):
                return
            prompt_first = bool(prompts) and (not states or prompts[0][0] < states[0][0])
            _, session = (prompts if prompt_first else states).popleft()
            if session is not oldest:
                yield session

    def _oldest_fragile(self) -> types.Session | None:
        """The oldest on the device, if it lost its state once and has no lane now.

        It comes before all others: its pages are nobody's to take (`_growth_victim`), so while
        it waits the others could take each other's for ever.
        """
        paused = self._stage.paused.values()
        oldest = min(
            (s for s in paused if s.fragile and not s.parked), key=stage.rank, default=None
        )
        if oldest is None or any(s.id < oldest.id for s in self._stage.running.values()):
            return None
        return oldest

    def _startable(self, part: queues.Part) -> Iterator[queues.Ranked]:
        if not self._memory.attending.is_on:
            return part.ranked()
        sees = filter if self._policy.backfills else itertools.takewhile
        may_start = self._shedder.start_check()
        return iter(sees(lambda ranked: may_start(ranked[1]), part.ranked()))

    def _waits_for_another(self, session: types.Session, slice_: slices.Slice) -> bool:
        """True when a session with a lane is about to compute the page that this one needs next.

        So requests for samples of one prompt compute it once. Each slice brings such a page
        nearer; where one does not come in a while, whatever the cause, it waits no more.
        """
        sharing = self._memory.sharing
        if not sharing.is_on or session.state is not types.State.WAITING or session.sheds:
            return False
        if not slice_.patient or session.waits >= _REUSE_WAITS_MAX:
            return False
        key = sharing.next_key(session, sharing.match(session).units)
        if key is None:
            return False
        computing = (s for s in self._stage.running.values() if s.prefill_left and not s.sheds)
        if not any(sharing.next_key(s, s.planned_cached) == key for s in computing):
            return False
        session.waits += 1
        slice_.waits = True
        return True

    def _pages_to_join(self, session: types.Session, rows_left: int) -> int:
        """Pages that must be FREE before the session joins a slice that has rows for it."""
        request = session.request
        if self._policy.reserves_output:
            wanted = self._memory.pages_for(session, request.prompt_units + request.steps_max - 1)
        elif session.state is types.State.WAITING:
            rows = min(self._settings.chunk_units, rows_left)
            wanted = self._pages_for_rows(session, rows)
        else:
            wanted = self._shaper.pages_ahead(session)
        more = max(0, wanted - self._memory.sharing.at_hand(session))
        # One that sheds may want more than there is: it sheds, and grows once it runs.
        return min(more, self._memory.device.capacity - self._memory.held(session))

    def _pages_for_rows(self, session: types.Session, rows: int) -> int:
        """Pages that a WAITING session needs for so many rows; 0 of others, which have theirs."""
        if session.state is not types.State.WAITING:
            return 0
        begins_at = self._memory.sharing.match(session).units
        left = session.planned_known - begins_at
        rows = min(left, rows) if left > 1 else 0
        return self._memory.pages_for(session, begins_at + (rows or 1))

    @property
    def _horizon(self) -> int:
        """Slices for whose prefill rows room is made: where nobody is displaced, only this one."""
        return 2 if self._policy.displaces else 1

    def _rows_left(self, session: types.Session, slice_: slices.Slice, *, slices: int) -> int:
        """Prefill rows of the next slices that are left for it after those who get them first."""
        rows = slices * self._settings.rows_max
        if not slice_.prefilling:
            return rows
        key = self._policy.prefill_key(session)
        before = (s.prefill_left for s in slice_.prefilling if self._policy.prefill_key(s) < key)
        return max(0, rows - sum(before))

    def _look_ahead(self, session: types.Session, slice_: slices.Slice, now: float) -> None:
        """Keeps pages, or makes room, for the rows that it will have in the next slice too."""
        if not self._policy.displaces or not session.prefill_left:
            return
        rows = min(session.prefill_left, self._rows_left(session, slice_, slices=2))
        if session.lane < 0:
            slice_.prefilling.append(session)
        units = session.planned_cached + rows
        if session.lane < 0:
            units = min(units + self._memory.sharing.match(session).units, session.planned_known)
            have = self._memory.sharing.at_hand(session)
        else:
            have = self._memory.covered(session)
        need = self._memory.pages_for(session, units) - have
        if need <= slice_.available:
            slice_.available -= max(0, need)
            slice_.coming += session.lane < 0
        else:
            self._clear(session, need, slice_, now)

    def _join(self, session: types.Session, pages: int, slice_: slices.Slice, now: float) -> None:
        if session.state is types.State.WAITING:
            slice_.joined.add(session.id)
        slice_.copies += self._stage.join(session, pages, now)
        if session.prefill_left and session.state is types.State.RUNNING:
            slice_.prefilling.append(session)

    def _make_room(
        self, session: types.Session, need: int, slice_: slices.Slice, now: float
    ) -> bool:
        """True when pages and a lane for `session` are on their way, with or without victims."""
        if need > max(slice_.available, 0) + slice_.incoming or self._stage.has_lane:
            return self._clear(session, need, slice_, now)
        victim = self._lane_victim(session, slice_)
        if victim is None:
            return False
        self._stage.pause(victim)
        if need <= slice_.available:
            slice_.available -= need
            self._join(session, need, slice_, now)
            return True
        return self._clear(session, need, slice_, now)

    def _clear(self, session: types.Session, need: int, slice_: slices.Slice, now: float) -> bool:
        """True when `need` pages are there or on their way, with or without victims."""
        short = need - max(slice_.available, 0) - slice_.incoming
        asked_before = dict(slice_.shed), slice_.incoming
        if short > 0 and self._memory.attending.is_on:
            short -= self._shedder.ask(self._shedding_for(session, slice_), short, slice_)
        if short > 0 and not self._waits_for_shed(session, slice_):
            victims = self._page_victims(session, short, slice_)
            if not victims:
                slice_.shed, slice_.incoming = asked_before  # nobody sheds for nothing
                return False
            for victim in victims:
                slice_.incoming += self._gives_up(victim, slice_)
                slice_.copies += self._stage.evict(victim, now)
        # All there is, if it waits for more: those behind it are not short of what it lacks.
        slice_.incoming = max(0, slice_.incoming - max(0, need - max(slice_.available, 0)))
        slice_.available = max(0, slice_.available - need)
        slice_.coming += session.lane < 0
        return True

    def _waits_for_shed(self, session: types.Session, slice_: slices.Slice) -> bool:
        """True when pages are being shed, if not enough of them yet: so nobody is evicted for it.

        What is missing turns full in the slices to come. Where it is not shed in a while, because
        those who run want it all, it waits no more.
        """
        if not self._memory.attending.is_for_all or session.waits >= _SHED_WAITS_MAX:
            return False
        if not (self._shedder.leaving or any(slice_.shed.values())):
            return False
        session.waits += 1
        return True

    def _shedding_for(
        self, waiting: types.Session, slice_: slices.Slice
    ) -> Iterator[types.Session]:
        """Who sheds so that `waiting` gets on, the last in order first.

        Among sessions that fit everybody does, for who gets a lane too: it stops nobody. Among
        long ones those that may be displaced, for what they attend away costs them time until
        they end.
        """
        displaced = (
            session
            for session in self._spent_behind(waiting, slice_)
            if self._policy.may_displace(waiting, session)
        )
        if not self._memory.attending.is_for_all:
            yield from displaced
        elif waiting.lane >= 0 or self._stage.lanes_free + len([*displaced]) > slice_.coming:
            yield from reversed(self._stage.runnable())

    def _page_victims(
        self, waiting: types.Session, short: int, slice_: slices.Slice
    ) -> list[types.Session]:
        """Most-served sessions whose pages cover `short`; empty when they cannot."""
        chosen: list[types.Session] = []
        dropped = dict(slice_.dropped)
        slots_free = self._memory.slots_free
        for victim in [*self._stage.paused_last_first(), *self._spent_behind(waiting, slice_)]:
            if self._may_displace(waiting, victim, slots_free):
                chosen.append(victim)
                short -= self._gives_up(victim, slice_, dropped)
                slots_free -= self._slots_wanted(victim)
            if short <= 0:
                return chosen
        return []

    def _lane_victim(self, waiting: types.Session, slice_: slices.Slice) -> types.Session | None:
        """The most-served that may be displaced; it keeps its pages, so nothing is lost."""
        for victim in self._spent_behind(waiting, slice_):
            if self._policy.may_displace(waiting, victim):
                return victim
        return None

    def _spent_behind(
        self, waiting: types.Session, slice_: slices.Slice
    ) -> Iterator[types.Session]:
        """Running sessions behind `waiting` in order whose quantum is used, the last first."""
        policy = self._policy
        if not policy.displaces:
            return
        if slice_.spent is None:
            running, enough = self._stage.runnable(), policy.displaced_from
            slice_.spent = [s for s in running if policy.quantum_used(s) >= enough]
        first = bisect.bisect_right(slice_.spent, policy.key(waiting), key=policy.key)
        for session in reversed(slice_.spent[first:]):
            if session.lane >= 0:  # it has not made room before
                yield session

    def _may_displace(self, waiting: types.Session, victim: types.Session, slots_free: int) -> bool:
        """The policy's word, and: nobody loses its state over and over for nothing.

        One that would recompute keeps its state until it has gained
        something since it got its lane, or two sessions could take turns at
        the same prefill for ever; unless nobody else gets on.
        """
        if victim is waiting:
            return False
        if victim.state is types.State.PAUSED:
            allowed = victim.parked or self._policy.key(waiting) < self._policy.key(victim)
        else:
            allowed = self._policy.may_displace(waiting, victim)
        if not allowed:
            return False
        gained = victim.planned_known > victim.known_at_join
        if gained or (self._pages_out(victim, slots_free) and not victim.fragile):
            return True
        return not self._stage.running

    def _growth_victim(self, running: Sequence[types.Session]) -> types.Session:
        """PAUSED before running, spent quanta before fresh ones, then the last in order.

        If that one would recompute, one whose client does not read, then the
        latest arrival: recomputing charges for work that is lost, so victims
        chosen by service could take turns for ever, and the oldest must stay.
        """
        candidates = [*self._stage.paused_last_first(), *self._spent_first(running)]
        first = next((s for s in candidates if not s.fragile), candidates[0])
        if not first.fragile and self._pages_out(first, self._memory.slots_free):
            return first
        return max(candidates, key=stage.rank)

    def _spent_first(self, running: Sequence[types.Session]) -> list[types.Session]:
        """Last in order first; those within their quantum after them, newcomers' prefills last."""
        last_first = list(reversed(running))
        last_first.sort(key=lambda s: (self._policy.quantum_used(s) < 1.0, bool(s.prefill_left)))
        return last_first

    def _pages_out(self, session: types.Session, slots_free: int) -> bool:
        """True when leaving would not mean to recompute."""
        return self._policy.pages_out and self._slots_wanted(session) <= slots_free

    def _gives_up(
        self,
        session: types.Session,
        slice_: slices.Slice,
        dropped: dict[int, int] | None = None,
    ) -> int:
        """Device pages that come with evicting it, beyond those that are incoming already.

        dropped: by page, how many of those who share it give it up; default the slice's.
        """
        if not session.sheds:
            dropped = slice_.dropped if dropped is None else dropped
            return self._memory.sharing.gives_up(session, dropped)
        held = self._memory.held(session)
        return held - self._memory.attending.leaving(session) - slice_.shed.get(session, 0)

    def _slots_wanted(self, session: types.Session) -> int:
        return self._memory.slots_wanted(session, units=session.planned_cached)
