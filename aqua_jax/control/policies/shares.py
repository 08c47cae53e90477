"""What part of the device a session may claim: its weight, or its part of its tenant's.

A named tenant's weight is divided among its living sessions by their own
weights, so opening more sessions buys no share. Sessions without a tenant
claim their own weight each.
"""

from __future__ import annotations

import dataclasses

from aqua_jax.control import types


@dataclasses.dataclass(slots=True)
class Shares:
    """Weights of the living sessions by tenant. `tenant_weights`: 1 for those not named."""

    tenant_weights: dict[str, float]
    _weight: dict[str, float] = dataclasses.field(default_factory=dict)
    _sessions: dict[str, int] = dataclasses.field(default_factory=dict)

    def arrive(self, session: types.Session) -> None:
        """Its tenant's share is divided among one more."""
        tenant = session.request.tenant
        self._weight[tenant] = self._weight.get(tenant, 0.0) + session.request.weight
        self._sessions[tenant] = self._sessions.get(tenant, 0) + 1

    def end(self, session: types.Session) -> None:
        """Its tenant's share is divided among fewer."""
        tenant = session.request.tenant
        self._weight[tenant] -= session.request.weight
        self._sessions[tenant] -= 1
        if not self._sessions[tenant]:  # and whatever rounding left of its weight
            del self._weight[tenant], self._sessions[tenant]

    def of(self, session: types.Session) -> float:
        """The session's weight; of a named tenant, its part of the tenant's weight."""
        request = session.request
        if not request.tenant:
            return request.weight
        tenant = self.tenant_weights.get(request.tenant, 1.0)
        return tenant * request.weight / max(self._weight[request.tenant], request.weight)
