"""Skip-join multi-level feedback queue: short work first, though its length is not known.

Source: Wu et al., "Fast Distributed Inference Serving for Large Language
Models" (FastServe, 2023). Level l has a quantum of `quantum_tokens * 2**l`. A
newcomer skips the levels whose quantum does not cover its prefill, which is
known; a session that has used the quantum of its level goes one down. The least
level runs first, in it the earliest arrival.

FastServe promotes what has waited for some time. Here nothing looks at the
clock: a session's place is the quantum of its level behind where it came, on a
floor that rises by the service of the device over `sessions_fair`. So among
those that came together the least level is first, and everybody is in the end.

Overtaking: the quantum of its level is never more than `2 * work`, with `work`
its own weighted tokens, or one quantum. So a session is overtaken by those who
come while the floor rises by that: for at most `2 * work * sessions_fair`
weighted tokens of service from when it came, in all its life.
"""

from __future__ import annotations

import dataclasses

from aqua_jax.control import types
from aqua_jax.control.policies import base


@dataclasses.dataclass(slots=True)
class _Place:
    came_at: float  # the floor then
    level: int
    used: float = 0.0  # of the quantum of its level


@dataclasses.dataclass(slots=True)
class Mlfq:
    """See the module's text. A session's `vtime` is its place on the scale of the floor."""

    settings: base.PolicySettings
    pages_out: bool = True
    backfills: bool = True
    displaces: bool = True
    reserves_output: bool = False
    groups: base.Groups | None = None
    displaced_from: float = 1.0
    floor: float = 0.0
    _places: dict[int, _Place] = dataclasses.field(default_factory=dict)  # of the living, by id

    def arrive(self, session: types.Session, least_vtime: float) -> None:
        """Joins the first level whose quantum covers its prefill."""
        prefill = self.service(session.request.prompt_units, 0)
        level = 0
        while self._quantum(level) < prefill:
            level += 1
        self._places[session.id] = _Place(self.floor, level)
        session.vtime = self.floor + self._quantum(level)

    def end(self, session: types.Session) -> None:
        """Its place is forgotten."""
        del self._places[session.id]

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens, by the settings' weights."""
        return self.settings.weights.service(prefill_units, step_units)

    def charge(self, session: types.Session, prefill_units: int, step_units: int) -> None:
        """Whoever has used the quantum of its level goes one down."""
        service = self.service(prefill_units, step_units)
        session.served += service
        self.floor += service / self.settings.sessions_fair
        place = self._places[session.id]
        place.used += service
        while place.used >= self._quantum(place.level):
            place.used -= self._quantum(place.level)
            place.level += 1
        session.vtime = place.came_at + self._quantum(place.level)

    def key(self, session: types.Session) -> base.Key:
        """Least place first, then arrival order."""
        return (session.vtime, session.id)

    def prefill_key(self, session: types.Session) -> base.Key:
        """The same: no prompt of a level's quantum changes its place half-way."""
        return (session.vtime, session.id)

    def may_displace(self, waiting: types.Session, running: types.Session) -> bool:
        """True once the running one's first quantum is spent and its place is behind."""
        return self.quantum_used(running) >= 1.0 and self.key(waiting) < self.key(running)

    def quantum_used(self, running: types.Session) -> float:
        """Service since it got its lane, or since its prefill ended, over that of level 0."""
        return running.served / self.settings.quantum_of(running)

    def _quantum(self, level: int) -> int:
        return self.settings.quantum_tokens << level
