"""The shape of one slice: how many steps, whose prefill rows, how many pages each.

Knows: lanes' sessions, rows, steps, FREE pages. Does not know: who was let in
(`admission.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aqua_jax.control import copying, errors, stage, types


@dataclasses.dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Limits of a slice and of the queue.

    lanes: sessions in a slice. chunk_units: rows of one prefill program.
    chunks_max: prefill programs in a slice. steps_max: steps when nobody waits;
    steps_contended: steps when somebody does, so that a newcomer waits less (half as
    many while prefill piles up).
    sessions_max: living sessions. looks_max: waiting sessions looked at per
    decision. passes_max: later ones admitted past one that does not fit.
    early_pages: pages of likely victims copied out early per slice. relocate_pages: pages
    under way at a time from slots that are called back to others.
    """

    lanes: int
    chunk_units: int
    steps_max: int
    chunks_max: int = 2
    steps_contended: int = 4
    sessions_max: int = 100_000
    looks_max: int = 8
    passes_max: int = 4
    early_pages: int = 8
    relocate_pages: int = 64

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), int(field.name != "early_pages")
            if value < least:
                raise errors.ConfigError(f"{field.name} is {value}; give at least {least}")

    @property
    def rows_max(self) -> int:
        """Prefill rows of a slice."""
        return self.chunks_max * self.chunk_units


@dataclasses.dataclass(slots=True)
class Slice:
    """A slice being decided.

    available: FREE pages beyond the needs of running sessions. incoming: pages
    that turn FREE with nothing more to do. prefilling: sessions with a lane and
    rows to prefill; some may have given it up since. joined: WAITING sessions let
    in just now. spent: running sessions whose quantum is used, in order, once
    somebody asked. shed: pages that sessions are to shed, which count as incoming;
    the copies are planned once it is known who stays. dropped: pages that several sessions
    share: how many of them give them up. coming: sessions without a lane that pages are kept for,
    FREE or on their way. patient: who finds that another computes the page that
    it needs next waits for that; waits: somebody does. copies: to be submitted before it is
    dispatched.
    """

    available: int = 0
    incoming: int = 0
    prefilling: list[types.Session] = dataclasses.field(default_factory=list)
    joined: set[int] = dataclasses.field(default_factory=set)
    spent: list[types.Session] | None = None
    shed: dict[types.Session, int] = dataclasses.field(default_factory=dict)
    dropped: dict[int, int] = dataclasses.field(default_factory=dict)
    coming: int = 0
    patient: bool = True
    waits: bool = False
    copies: list[copying.Copy] = dataclasses.field(default_factory=list)


class Shaper:
    """Makes lane plans out of the sessions on the stage."""

    def __init__(self, settings: ControllerSettings, on_stage: stage.Stage) -> None:
        self._settings = settings
        self._stage = on_stage
        self._memory = on_stage.memory

    def begin(self) -> Slice:
        """An empty slice."""
        prefilling = [s for s in self._stage.running.values() if s.prefill_left]
        return Slice(prefilling=prefilling)

    def growth_of_all(self, running: Sequence[types.Session]) -> int:
        """Pages that they will want together for this slice and the next."""
        steps = 2 * self._few_steps
        # Most have the room; the others are asked one by one.
        return sum([self.growth(s) for s in running if s.planned_known + steps > s.room])

    def growth(self, session: types.Session) -> int:
        """Pages that a session on the device will want for this slice and the next."""
        if self._units_ahead(session) <= session.room:
            return 0
        return self.pages_ahead(session) - self._memory.covered(session)

    def growth_by_shedding(self, session: types.Session) -> int:
        """Pages that one that sheds will want for this slice and the next two, at full length.

        One that it sheds now is copied beside the next slice and FREE after that.
        """
        settings, known, cached = self._settings, session.planned_known, session.planned_cached
        if known - cached > 1:
            units = min(known, cached + 3 * settings.rows_max)
        else:
            units = min(session.units_end - 1, cached + 3 * settings.steps_max)
        return max(0, self._memory.pages_for(session, units) - self._memory.covered(session))

    def pages_ahead(self, session: types.Session) -> int:
        """Pages of its table with which it runs two slices of few steps; for more, one is cut.

        The same figure lets a session back in and says when others must make
        room for it: were the first smaller, one could come and go for ever.
        """
        memory, capacity = self._memory, self._memory.device.capacity
        wanted = memory.pages_for(session, self._units_ahead(session))
        if not session.sheds:
            return min(wanted, capacity)
        # Its own full pages make room first. What it has comes back whole but for those away.
        now = memory.pages_in_all(session)
        room = capacity - (now - memory.attending.pages(session))
        return now + max(0, min(wanted - now - memory.attending.sheddable(session), room))

    def _units_ahead(self, session: types.Session) -> int:
        known, cached = session.planned_known, session.planned_cached
        if known - cached > 1:  # to prefill
            return min(known, cached + 2 * self._settings.chunk_units)
        return min(session.units_end - 1, cached + 2 * self._few_steps)

    @property
    def _few_steps(self) -> int:
        """Steps of a slice while somebody waits; one where sessions shed and pages are short.

        Pages that are shed are FREE two slices later, so short slices bring them sooner to those
        who wait; and a step that those do not share yet costs the device nearly as much. Without
        a slot nothing is shed, and those who wait take turns: then they would come and go more.
        """
        sheds = self._memory.attending.is_for_all and self._memory.slots_free > 0
        if sheds and self._stage.has_lane and self._stage.queue:
            return 1
        return self._settings.steps_contended

    def plan(self, slice_: Slice) -> list[types.LanePlan]:
        """One plan for each RUNNING session that can do something with the pages there are.

        Rows go in the policy's order of prefill. Pages go in its order of
        running: the first always gets what there is, so it always gets on.
        """
        rows = self._share_rows(slice_)
        most_steps = self._steps_for_all(self._steps(sum(rows.values())))
        plans = []
        for session in self._stage.runnable():
            known, cached = session.planned_known, session.planned_cached
            if known - cached == 1:
                prefill, steps = 0, min(most_steps, session.units_end - known)
            else:  # to prefill; its last row emits one, and steps follow
                prefill, steps = rows.get(session.id, 0), 0
                if cached + prefill == known:
                    steps = min(most_steps, session.units_end - known - 1)
            if cached + prefill + steps > session.room:
                prefill, steps = self._fit(session, prefill, steps, slice_)
            if prefill or steps:
                plans.append(self._plan(session, prefill, steps))
        return plans

    def _steps(self, rows: int) -> int:
        """Many when the set is stable and nobody waits, few otherwise.

        Half as few when half of the rows are used: then steps, with few lanes ready for
        them, would take the device from those who fill the lanes.
        """
        settings = self._settings
        steps = settings.steps_max
        if rows or self._stage.queue:
            steps = min(steps, self._few_steps)
        if 2 * rows >= settings.rows_max:
            steps = max(1, steps // 2)
        return steps

    def _steps_for_all(self, steps: int) -> int:
        """As many as all find pages for, halved down to few: or the first takes them all."""
        few, memory = self._few_steps, self._memory
        while steps > few:
            lacking = 0
            for session in self._stage.runnable():
                units = session.planned_cached + min(steps, session.steps_left)
                if units > session.room:
                    lacking += memory.pages_for(session, units) - memory.covered(session)
            if lacking <= memory.device.free_count:
                break
            steps = max(few, steps // 2)
        return steps

    def _share_rows(self, slice_: Slice) -> dict[int, int]:
        rows: dict[int, int] = {}
        rows_left = self._settings.rows_max
        for session in sorted(slice_.prefilling, key=self._stage.policy.prefill_key):
            if session.lane >= 0 and session.state is types.State.RUNNING:
                rows[session.id] = min(session.prefill_left, rows_left)
                rows_left -= rows[session.id]
        return rows

    def _fit(
        self, session: types.Session, prefill: int, steps: int, slice_: Slice
    ) -> tuple[int, int]:
        """Cuts the plan to the pages it holds and those FREE, and takes them.

        One that joined in this very decision makes do with what it was admitted for.
        """
        memory = self._memory
        units = session.planned_cached + prefill + steps
        wanted, most = memory.pages_for(session, units), memory.covered(session)
        if session.id not in slice_.joined:
            most += memory.device.free_count
        if wanted > most:
            done = max(0, memory.most_units(session, most) - session.planned_cached)
            prefill, steps = min(prefill, done), max(0, done - prefill)
            wanted = memory.pages_for(session, session.planned_cached + prefill + steps)
        memory.grow(session, wanted)
        return prefill, steps

    def _plan(self, session: types.Session, prefill: int, steps: int) -> types.LanePlan:
        pages, first = self._memory.table(session), session.planned_cached
        joins, session.joins = session.joins, False
        return types.LanePlan(session.lane, session, pages, first, prefill, steps, joins)
