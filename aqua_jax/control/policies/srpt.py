"""Shortest remaining processing time, by lengths that are known beforehand; with aging.

Source: Schrage, "A Proof of the Optimality of the Shortest Remaining Processing
Time Discipline" (1968): no order has a smaller mean time to the end. The length
is `steps_max`, which is the truth where every request runs to its full length,
as in a replayed trace: elsewhere this policy is an oracle to compare with.

A session's place is its remaining weighted tokens behind where it came, on a
floor that rises by the service of the device over `sessions_fair`. Work that was
lost and is done again does not count as remaining.

Overtaking: service only brings a session forward. So one of `work` weighted
tokens is overtaken by those who come while the floor rises by that: for at most
`work * sessions_fair` weighted tokens of service from when it came, in all its
life.
"""

from __future__ import annotations

import dataclasses

from aqua_jax.control import types
from aqua_jax.control.policies import base


@dataclasses.dataclass(slots=True)
class Srpt:
    """See the module's text. A session's `vtime` is its place on the scale of the floor."""

    settings: base.PolicySettings
    pages_out: bool = True
    backfills: bool = True
    displaces: bool = True
    reserves_output: bool = False
    groups: base.Groups | None = None
    floor: float = 0.0
    _came_at: dict[int, float] = dataclasses.field(default_factory=dict)  # the floor then, by id

    def arrive(self, session: types.Session, least_vtime: float) -> None:
        """All its work remains; the last token that it emits is nobody's input."""
        self._came_at[session.id] = self.floor
        request = session.request
        session.vtime = self.floor + self.service(request.prompt_units, request.steps_max - 1)

    def end(self, session: types.Session) -> None:
        """Where it came is forgotten."""
        del self._came_at[session.id]

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens, by the settings' weights."""
        return self.settings.weights.service(prefill_units, step_units)

    def charge(self, session: types.Session, prefill_units: int, step_units: int) -> None:
        """So much less remains."""
        service = self.service(prefill_units, step_units)
        session.served += service
        session.vtime = max(session.vtime - service, self._came_at[session.id])
        self.floor += service / self.settings.sessions_fair

    def key(self, session: types.Session) -> base.Key:
        """Least place first, then arrival order."""
        return (session.vtime, session.id)

    def prefill_key(self, session: types.Session) -> base.Key:
        """The same: a prompt that was begun only comes forward."""
        return (session.vtime, session.id)

    def may_displace(self, waiting: types.Session, running: types.Session) -> bool:
        """True once the running one's quantum is spent and its place is behind."""
        return self.quantum_used(running) >= 1.0 and self.key(waiting) < self.key(running)

    def quantum_used(self, running: types.Session) -> float:
        """Service since it got its lane, or since its prefill ended, over the quantum."""
        return running.served / self.settings.quantum_of(running)
