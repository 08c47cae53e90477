"""Completely fair: the least-served session runs, in quanta, under contention only.

Two levels. A tenant's virtual time is its weighted service over its weight, and
the tenant with the least goes first; one that comes back after it had nothing
is lifted to the least of those that have something, so nobody saves up. Within
a tenant (all sessions without one are one tenant's) a session's virtual time
grows by its weighted service over its own weight. Prefill and decode are both
charged.

A session starts at the least virtual time of its tenant's living sessions: at
once among the first, yet owed nothing for the time before it came. A stream of
newcomers at one value would overtake older sessions for ever, so the start is
never below a floor, which rises by the tenant's service over `sessions_fair`.
With few in `sessions_fair` the floor soon passes those who wait, and sessions
end nearly in order of arrival; with many, all progress alike and end late.

A newcomer, until its first token is planned, stands `newcomer_lead_tokens`
ahead of its place, in order of arrival, and displaces whoever has run for
`newcomer_quantum_tokens`: its pages are few and its rows share their programs
with the steps of others, so a first token costs the rest little. Afterwards it
stands where its service puts it. A prompt of more rows than
`prefill_quantum_tokens` gives up its place in the order of arrival there.

So a session at virtual time v is overtaken only while the floor is below
`v + newcomer_lead_tokens`, that is for at most
`(v + newcomer_lead_tokens - floor) * sessions_fair` weighted tokens of service
of its tenant: every session makes progress under any arrival process.

A running session may be displaced, by one before it in this order, once its
quantum is spent: weighted tokens since it got its lane, anew from the end of
its prefill. One before which no newcomer can come any more keeps it whole, also
from newcomers: in a long overload such ones of all tenants stand close
together, and would take turns at a few tokens each. Near prefill saturation
newcomers' prefill would starve decoding, so the quantum grows with the share of
prefill in recent service, to eight times at most.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from aqua_jax.control import types
from aqua_jax.control.policies import base

_QUANTUM_GROWTH_MAX = 8.0
_PREFILL_SHARE_MEMORY = 4096.0  # weighted tokens over which the prefill share is averaged
_IDLE_TENANTS = 1024  # tenants without sessions whose virtual time is kept


@dataclasses.dataclass(slots=True)
class Tenant:
    """vtime: weighted service over its weight. floor: below which none of its sessions starts."""

    weight: float
    vtime: float = 0.0
    floor: float = 0.0
    living: int = 0


@dataclasses.dataclass(slots=True)
class Tenants:
    """The tenants of the sessions, which wait as groups."""

    settings: base.PolicySettings
    named: dict[str, Tenant] = dataclasses.field(default_factory=dict)

    def of(self, session: types.Session) -> base.Group:
        return session.request.tenant

    def key(self, session: types.Session) -> base.Key:
        """Newcomers first, by arrival, then the least served; see the module's text."""
        if not session.fresh:
            return (session.vtime, session.id)
        settings = self.settings
        whole = session.planned_cached <= settings.prefill_quantum_tokens
        place = session.vtime_at_start if whole else session.vtime
        return (place - settings.newcomer_lead_tokens, session.id)

    def keys(self, group: base.Group, sessions: Iterable[types.Session]) -> Iterator[base.Key]:
        """The tenant's virtual time, then as within it."""
        vtime = self.named[group or ""].vtime
        for session in sessions:
            yield (vtime, *self.key(session))

    def stands_ahead(self, session: types.Session) -> bool:
        """Whether it stands before all that may yet come to its tenant."""
        floor = self.named[session.request.tenant].floor
        return self.key(session)[0] <= floor - self.settings.newcomer_lead_tokens

    def arrive(self, session: types.Session) -> Tenant:
        """Its tenant, lifted if this is its only session."""
        name = session.request.tenant
        tenant = self.named.get(name)
        if tenant is None:
            tenant = self.named[name] = Tenant(self.settings.tenant_weights.get(name, 1.0))
        if not tenant.living:
            busy = [other.vtime for other in self.named.values() if other.living]
            tenant.vtime = max(tenant.vtime, min(busy, default=0.0))
        tenant.living += 1
        return tenant

    def end(self, session: types.Session) -> None:
        """Its tenant has one less; of those that have none some are forgotten."""
        self.named[session.request.tenant].living -= 1
        if len(self.named) > _IDLE_TENANTS:
            idle = [name for name, tenant in self.named.items() if not tenant.living]
            for name in idle[: len(idle) // 2]:  # those that came first
                del self.named[name]


@dataclasses.dataclass(slots=True)
class Cfs:
    """See the module's text."""

    settings: base.PolicySettings
    pages_out: bool = True
    backfills: bool = True
    displaces: bool = True
    reserves_output: bool = False
    groups: Tenants = dataclasses.field(init=False)
    prefill_share: float = 0.0

    def __post_init__(self) -> None:
        self.groups = Tenants(self.settings)

    @property
    def displaced_from(self) -> float:
        """A newcomer waits for less than a quantum."""
        settings = self.settings
        return min(1.0, settings.newcomer_quantum_tokens / self._quantum)

    def arrive(self, session: types.Session, least_vtime: float) -> None:
        """Starts it at the least virtual time among its tenant's living, not below the floor."""
        tenant = self.groups.arrive(session)
        session.vtime = session.vtime_at_start = max(least_vtime, tenant.floor)

    def end(self, session: types.Session) -> None:
        """Its tenant has one less."""
        self.groups.end(session)

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens, by the settings' weights."""
        return self.settings.weights.service(prefill_units, step_units)

    def charge(self, session: types.Session, prefill_units: int, step_units: int) -> None:
        """Adds the weighted service to the session, to its tenant and to the tenant's floor."""
        weights, request = self.settings.weights, session.request
        prefill = weights.prefill * prefill_units
        service = prefill + weights.decode * step_units
        session.served += service
        session.vtime += service / request.weight
        tenant = self.groups.named[request.tenant]
        tenant.vtime += service / tenant.weight
        tenant.floor += service / self.settings.sessions_fair
        if service:
            fade = min(service / _PREFILL_SHARE_MEMORY, 1.0)
            self.prefill_share += fade * (prefill / service - self.prefill_share)

    def key(self, session: types.Session) -> base.Key:
        """The least served tenant first, then as within it."""
        tenants = self.groups
        return (tenants.named[session.request.tenant].vtime, *tenants.key(session))

    def prefill_key(self, session: types.Session) -> base.Key:
        """Prompts are prefilled in the order in which they are let in."""
        return self.key(session)

    def may_displace(self, waiting: types.Session, running: types.Session) -> bool:
        """True once the running one's quantum is spent.

        A part of it for a newcomer, and for whoever stands where newcomers no longer overtake;
        but who stands there itself keeps its quantum: such ones would take turns without end.
        """
        tenants = self.groups
        soon = waiting.fresh or tenants.stands_ahead(waiting)
        keeps = running.fresh or tenants.stands_ahead(running)
        enough = self.displaced_from if soon and not keeps else 1.0
        return self.quantum_used(running) >= enough and self.key(waiting) < self.key(running)

    def quantum_used(self, running: types.Session) -> float:
        """Service since it got its lane, or since its prefill ended, over the quantum."""
        if running.prefill_left:
            settings = self.settings
            return running.served / max(settings.quantum_tokens, settings.prefill_quantum_tokens)
        return running.served / self._quantum

    @property
    def _quantum(self) -> float:
        growth = min(_QUANTUM_GROWTH_MAX, 1.0 / max(1.0 - self.prefill_share, 1e-9))
        return self.settings.quantum_tokens * growth
