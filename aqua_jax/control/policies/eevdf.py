"""Earliest eligible virtual deadline first.

Source: Stoica and Abdel-Wahab, "Earliest Eligible Virtual Deadline First" (1995); Linux
uses it since 6.6. A session's virtual time grows by weighted service over its
share; its deadline is a quantum over its share later, and is renewed when its
virtual time has reached it. The earliest deadline runs. Virtual time of the
device is the average of the living by weight, and lag is how far a session is
behind it: one ahead of it is not eligible and displaces nobody. It takes what
is free all the same: the device does not idle for the sake of fairness.

A newcomer starts with no lag, at the virtual time of the device. That is never
below a floor that rises by the service of the device over `sessions_fair`, or
newcomers without end would hold it still.

Overtaking: whoever comes has a deadline later than the floor, so a session
whose deadline is d is overtaken by newcomers only while the floor is below d:
for at most `(d - floor) * sessions_fair` weighted tokens of service.
"""

from __future__ import annotations

import dataclasses

from aqua_jax.control import types
from aqua_jax.control.policies import base, shares

_ROUNDING = 1e-9  # of a virtual time: an average of equals may come out a little less than they


@dataclasses.dataclass(slots=True)
class Eevdf:
    """See the module's text."""

    settings: base.PolicySettings
    pages_out: bool = True
    backfills: bool = True
    displaces: bool = True
    reserves_output: bool = False
    groups: base.Groups | None = None
    displaced_from: float = 1.0
    floor: float = 0.0
    _shares: shares.Shares = dataclasses.field(init=False)
    _deadlines: dict[int, float] = dataclasses.field(default_factory=dict)  # of the living, by id
    _weights: float = 0.0  # sums over the living
    _weighted_vtimes: float = 0.0

    def __post_init__(self) -> None:
        self._shares = shares.Shares(self.settings.tenant_weights)

    @property
    def vtime(self) -> float:
        """Virtual time of the device."""
        if not self._deadlines:
            return self.floor
        return max(self.floor, self._weighted_vtimes / self._weights)

    def arrive(self, session: types.Session, least_vtime: float) -> None:
        """Starts it with no lag."""
        self._shares.arrive(session)
        session.vtime = self.vtime
        self._weights += session.request.weight
        self._weighted_vtimes += session.request.weight * session.vtime
        self._renew(session)

    def end(self, session: types.Session) -> None:
        """Its lag is everybody's."""
        self._shares.end(session)
        del self._deadlines[session.id]
        self._weights -= session.request.weight
        self._weighted_vtimes -= session.request.weight * session.vtime
        if not self._deadlines:  # and whatever rounding left
            self._weights = self._weighted_vtimes = 0.0

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens, by the settings' weights."""
        return self.settings.weights.service(prefill_units, step_units)

    def charge(self, session: types.Session, prefill_units: int, step_units: int) -> None:
        """Virtual time for the session and the device; a deadline that was reached is renewed."""
        service = self.service(prefill_units, step_units)
        session.served += service
        passed = service / self._shares.of(session)
        session.vtime += passed
        self._weighted_vtimes += session.request.weight * passed
        self.floor += service / self.settings.sessions_fair
        if session.vtime >= self._deadlines[session.id]:
            self._renew(session)

    def is_eligible(self, session: types.Session) -> bool:
        """True when it has had no more than its part."""
        return session.vtime <= self.vtime * (1 + _ROUNDING)

    def key(self, session: types.Session) -> base.Key:
        """Earliest deadline first, then arrival order."""
        return (self._deadlines[session.id], session.id)

    def prefill_key(self, session: types.Session) -> base.Key:
        """Prompts are prefilled one after the other, not in turns, up to the prefill quantum."""
        in_quantum = session.lane >= 0 and session.served < self.settings.prefill_quantum_tokens
        return (session.vtime_at_join if in_quantum else session.vtime, session.id)

    def may_displace(self, waiting: types.Session, running: types.Session) -> bool:
        """True for an eligible one with an earlier deadline, once the running quantum is spent."""
        return (
            self.quantum_used(running) >= 1.0
            and self.is_eligible(waiting)
            and self.key(waiting) < self.key(running)
        )

    def quantum_used(self, running: types.Session) -> float:
        """Service since it got its lane, or since its prefill ended, over the quantum."""
        return running.served / self.settings.quantum_of(running)

    def _renew(self, session: types.Session) -> None:
        quantum = self.settings.quantum_tokens / self._shares.of(session)
        self._deadlines[session.id] = session.vtime + quantum
