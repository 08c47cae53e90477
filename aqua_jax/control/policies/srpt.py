"""Shortest remaining processing time, by lengths that are known beforehand; with aging.

Source: Schrage, "A Proof of the Optimality of the Shortest Remaining Processing
Time Discipline" (1968): no order has a smaller mean time to the end. The length
is `steps_max`, which is the truth where every request runs to its full length,
as in a replayed trace: elsewhere this policy is an oracle to compare with.

A session's place is its remaining weighted tokens behind where it came, on a
floor that rises by the service of the device over `sessions_fair`. Work that was
lost and is done again puts it back by as much: two sessions that take each
other's pages could else stay before all others, and none of them get on.

Overtaking: a session for which `work` weighted tokens are done in all, some of
them again, is overtaken by those who come while the floor rises by that: for at
most `work * sessions_fair` weighted tokens of service from when it came, in all
its life.
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
    displaced_from: float = 1.0
    floor: float = 0.0

    def arrive(self, session: types.Session, least_vtime: float) -> None:
        """All its work remains; the last token that it emits is nobody's input."""
        request = session.request
        session.vtime = self.floor + self.service(request.prompt_units, request.steps_max - 1)

    def end(self, session: types.Session) -> None:
        """Nothing is kept."""

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens, by the settings' weights."""
        return self.settings.weights.service(prefill_units, step_units)

    def charge(self, session: types.Session, prefill_units: int, step_units: int) -> None:
        """So much less remains, or was done in vain before."""
        service = self.service(prefill_units, step_units)
        session.served += service
        session.vtime += service if session.fragile else -service
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
