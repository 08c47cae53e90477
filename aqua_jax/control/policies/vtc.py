"""Virtual token counters: tenants share the device, first come first served within each.

Source: Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024).
Every tenant has a counter of weighted tokens over its weight: a prompt is
charged when it is admitted, a step when it is decided (input 1 and output 2 in
the paper, so their ratio is that of `weights`). The tenant with the least goes
next. One that had nothing waiting is lifted when it returns: to the least of
those that wait, else to the last that did, so nobody saves up for a burst.

Nobody is displaced. When pages run out the latest arrival recomputes, as under
`fcfs`, and its tenant does not pay for that: who was admitted once comes back
before all others, by arrival. Were it to wait for its tenant's turn, one that
came later could take its pages, lose them to it, and so on for ever. Sessions
without a tenant are one tenant's.

Overtaking: while a session waits whose tenant's counter is c and whose tenant
has work b before it, another tenant whose counter is c' is served at most
`max(0, c - c') + b` and once what a full set of lanes holds (all over weight).
The bound holds for each tenant: tenants without number have none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from aqua_jax.control import types
from aqua_jax.control.policies import base

_IDLE_TENANTS = 1024  # counters of tenants without sessions that are kept at least


@dataclasses.dataclass(slots=True)
class Counters:
    """Tenants' counters, in weighted tokens over weight. `level`: the lift of who returns."""

    settings: base.PolicySettings
    level: float = 0.0
    counted: dict[str, float] = dataclasses.field(default_factory=dict)
    _waiting: dict[str, int] = dataclasses.field(default_factory=dict)  # sessions never admitted
    _living: dict[str, int] = dataclasses.field(default_factory=dict)
    _last: str = ""  # the tenant whose session was admitted last
    _counted_max: int = _IDLE_TENANTS

    def of(self, session: types.Session) -> base.Group:
        """Its tenant; None once it was admitted."""
        return None if session.vtime else session.request.tenant

    def key(self, session: types.Session) -> base.Key:
        """Arrival order."""
        return (session.id,)

    def keys(self, group: base.Group, sessions: Iterable[types.Session]) -> Iterator[base.Key]:
        """The tenant's counter, for each session as if those before it had been admitted."""
        counter = -1.0 if group is None else self.counted[group]
        for session in sessions:
            yield (counter, session.id)
            if group is not None:
                counter += self._prompt(session)

    def arrive(self, session: types.Session) -> None:
        """Lifts the tenant if none of its sessions waits."""
        tenant = session.request.tenant
        if tenant not in self._waiting:
            if self._waiting:
                self.level = min(map(self.counted.__getitem__, self._waiting))
            else:
                self.level = max(self.level, self.counted.get(self._last, 0.0))
            self.counted[tenant] = max(self.level, self.counted.get(tenant, 0.0))
        self._waiting[tenant] = self._waiting.get(tenant, 0) + 1
        self._living[tenant] = self._living.get(tenant, 0) + 1

    def admit(self, session: types.Session) -> None:
        """Charges its prompt."""
        self._last = session.request.tenant
        _take_one(self._waiting, self._last)
        self.counted[self._last] += self._prompt(session)

    def step(self, session: types.Session, step_units: int) -> None:
        """Charges its steps."""
        service = self.settings.weights.service(0, step_units)
        self.counted[session.request.tenant] += service / self._weight(session)

    def end(self, session: types.Session) -> None:
        """Forgets tenants without sessions, now and then, whose counters a lift would pass."""
        _take_one(self._living, session.request.tenant)
        if not session.vtime:
            _take_one(self._waiting, session.request.tenant)
        if len(self.counted) > self._counted_max:
            kept = (t for t in self.counted if t in self._living or self.counted[t] > self.level)
            self.counted = {tenant: self.counted[tenant] for tenant in kept}
            self._counted_max = 2 * len(self.counted) + _IDLE_TENANTS

    def _prompt(self, session: types.Session) -> float:
        service = self.settings.weights.service(session.request.prompt_units, 0)
        return service / self._weight(session)

    def _weight(self, session: types.Session) -> float:
        return self.settings.tenant_weights.get(session.request.tenant, 1.0)


@dataclasses.dataclass(slots=True)
class Vtc:
    """See the module's text. A session's `vtime` is what it was charged, 0 until admitted."""

    settings: base.PolicySettings
    pages_out: bool = False
    backfills: bool = False
    displaces: bool = False
    reserves_output: bool = False
    displaced_from: float = 1.0
    groups: Counters = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.groups = Counters(self.settings)

    def arrive(self, session: types.Session, least_vtime: float) -> None:
        """Its tenant may be lifted."""
        self.groups.arrive(session)

    def end(self, session: types.Session) -> None:
        """Its tenant has one less."""
        self.groups.end(session)

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens, by the settings' weights."""
        return self.settings.weights.service(prefill_units, step_units)

    def charge(self, session: types.Session, prefill_units: int, step_units: int) -> None:
        """To its tenant: the whole prompt at first, then steps; what is recomputed to nobody."""
        if not session.vtime:
            self.groups.admit(session)
        self.groups.step(session, step_units)
        service = self.service(prefill_units, step_units)
        session.served += service
        session.vtime += service

    def key(self, session: types.Session) -> base.Key:
        """Arrival order, among the running and within a tenant."""
        return (session.id,)

    def prefill_key(self, session: types.Session) -> base.Key:
        """Who has a lane first, then by arrival."""
        return (session.lane < 0, session.id)

    def may_displace(self, waiting: types.Session, running: types.Session) -> bool:
        """Never."""
        return False

    def quantum_used(self, running: types.Session) -> float:
        """There are no quanta: when pages run out, the latest arrival leaves."""
        return 1.0


def _take_one(counts: dict[str, int], tenant: str) -> None:
    counts[tenant] -= 1
    if not counts[tenant]:
        del counts[tenant]
