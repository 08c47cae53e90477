"""Completely fair: the least-served session runs, in quanta, under contention only.

A session's virtual time `vtime` grows by its weighted service over its weight;
prefill and decode are both charged. Tenants are groups: a tenant's weight is
divided among its living sessions, so opening more sessions buys no share.

A newcomer starts at the least virtual time among the living: at once among the
first, yet owed nothing for the time before it came. A stream of newcomers at
one value would overtake older sessions for ever, so the start is never below a
floor that rises by the service of the whole device over `sessions_fair`. A
session at virtual time v is overtaken only while the floor is below v, that
is for at most `(v - floor) * sessions_fair` weighted tokens of service: every
session makes progress under any arrival process.

A running session may be displaced once its quantum is spent and only by one
that has had less. The quantum is counted in weighted tokens since it got its
lane, anew from the end of its prefill. Near prefill saturation newcomers'
prefill would starve decoding, so the quantum grows with the share of prefill
in recent service, to eight times at most.
"""

from __future__ import annotations

import dataclasses

from aqua_jax.control import types
from aqua_jax.control.policies import base

_QUANTUM_GROWTH_MAX = 8.0
_PREFILL_SHARE_MEMORY = 4096.0  # weighted tokens over which the prefill share is averaged


@dataclasses.dataclass(slots=True)
class Cfs:
    """See the module's text."""

    settings: base.PolicySettings
    pages_out: bool = True
    backfills: bool = True
    displaces: bool = True
    reserves_output: bool = False
    groups: base.Groups | None = None
    floor: float = 0.0
    prefill_share: float = 0.0
    _tenant_weight: dict[str, float] = dataclasses.field(default_factory=dict)
    _tenant_sessions: dict[str, int] = dataclasses.field(default_factory=dict)

    def arrive(self, session: types.Session, least_vtime: float) -> None:
        """Starts it at the least virtual time among the living, not below the floor."""
        session.vtime = max(least_vtime, self.floor)
        tenant = session.request.tenant
        self._tenant_weight[tenant] = self._tenant_weight.get(tenant, 0.0) + session.request.weight
        self._tenant_sessions[tenant] = self._tenant_sessions.get(tenant, 0) + 1

    def end(self, session: types.Session) -> None:
        """Its tenant's share is divided among fewer."""
        tenant = session.request.tenant
        self._tenant_weight[tenant] -= session.request.weight
        self._tenant_sessions[tenant] -= 1
        if not self._tenant_sessions[tenant]:  # and whatever rounding left of its weight
            del self._tenant_weight[tenant], self._tenant_sessions[tenant]

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens, by the settings' weights."""
        weights = self.settings.weights
        return weights.prefill * prefill_units + weights.decode * step_units

    def charge(self, session: types.Session, prefill_units: int, step_units: int) -> None:
        """Adds the weighted service to the session and to the device's floor."""
        settings = self.settings
        prefill = settings.weights.prefill * prefill_units
        service = prefill + settings.weights.decode * step_units
        session.served += service
        weight = self.share(session) if session.request.tenant else session.request.weight
        session.vtime += service / weight
        self.floor += service / settings.sessions_fair
        if service:
            fade = min(service / _PREFILL_SHARE_MEMORY, 1.0)
            self.prefill_share += fade * (prefill / service - self.prefill_share)

    def share(self, session: types.Session) -> float:
        """The session's weight; of a named tenant, its part of the tenant's weight."""
        request = session.request
        if not request.tenant:
            return request.weight
        tenant = self.settings.tenant_weights.get(request.tenant, 1.0)
        return tenant * request.weight / max(self._tenant_weight[request.tenant], request.weight)

    def key(self, session: types.Session) -> base.Key:
        """Least virtual time first, then arrival order."""
        return (session.vtime, session.id)

    def prefill_key(self, session: types.Session) -> base.Key:
        """Prompts are prefilled one after the other, not in turns, up to the prefill quantum.

        Until then one keeps the place it had when it got its lane; a longer
        one then yields to whoever has had less.
        """
        in_quantum = session.lane >= 0 and session.served < self.settings.prefill_quantum_tokens
        return (session.vtime_at_join if in_quantum else session.vtime, session.id)

    def may_displace(self, waiting: types.Session, running: types.Session) -> bool:
        """True once the running one's quantum is spent and it had more than the waiting one."""
        return self.quantum_used(running) >= 1.0 and self.key(waiting) < self.key(running)

    def quantum_used(self, running: types.Session) -> float:
        """Service since it got its lane, or since its prefill ended, over the quantum."""
        settings = self.settings
        if running.prefill_left:
            return running.served / max(settings.quantum_tokens, settings.prefill_quantum_tokens)
        growth = min(_QUANTUM_GROWTH_MAX, 1.0 / max(1.0 - self.prefill_share, 1e-9))
        return running.served / (settings.quantum_tokens * growth)
