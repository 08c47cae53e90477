"""How evenly tenants are served while they compete: rates and gaps, as a run goes on.

Knows: tenants, their weights, service in weighted tokens, moments. Does not
know: requests, slices, policy.

A tenant is backlogged while some request of it waits: it has more unfinished
ones than run. Tenants that want less than their part owe and are owed nothing,
so service counts only over seconds in which a tenant and at least one other are
backlogged: else a light tenant, or one that has the device to itself at the
end, would read as unfairness. This is the setting of the bounds in Sheng et
al., "Fairness in Serving Large Language Models" (OSDI 2024).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(slots=True)
class Contended:
    """Of one tenant: seconds in which it and another were backlogged, and its service in them."""

    seconds: float = 0.0
    service: float = 0.0  # weighted tokens over the tenant's weight


@dataclasses.dataclass(slots=True)
class _Lead:
    """Service of one tenant less that of another since both are backlogged, and its range."""

    now: float = 0.0
    least: float = 0.0
    most: float = 0.0


@dataclasses.dataclass(slots=True)
class Fairness:
    """Accumulates over a run. Each `note` costs the square of the backlogged tenants.

    weights: of tenants; 1 for those not named. contended: by tenant. gap_max: the largest
    difference, between two tenants, of service over weight in any period throughout which both
    are backlogged.
    """

    weights: Mapping[str, float]
    contended: dict[str, Contended] = dataclasses.field(default_factory=dict)
    gap_max: float = 0.0
    _noted_at: float = 0.0
    _leads: dict[tuple[str, str], _Lead] = dataclasses.field(default_factory=dict)

    def note(
        self, at_seconds: float, served: Mapping[str, float], backlogged: Iterable[str]
    ) -> None:
        """What each tenant was served since the last note, and who was backlogged throughout."""
        staying = sorted(backlogged)
        service = {t: served.get(t, 0.0) / self.weights.get(t, 1.0) for t in staying}
        if len(staying) > 1:
            seconds = at_seconds - self._noted_at
            for tenant in staying:
                total = self.contended.setdefault(tenant, Contended())
                total.seconds += seconds
                total.service += service[tenant]
        self._leads = {
            (a, b): self._moved(a, b, service[a] - service[b])
            for a, b in itertools.combinations(staying, 2)
        }
        self._noted_at = at_seconds

    def _moved(self, one: str, other: str, change: float) -> _Lead:
        lead = self._leads.get((one, other)) or _Lead()
        lead.now += change
        lead.least, lead.most = min(lead.least, lead.now), max(lead.most, lead.now)
        self.gap_max = max(self.gap_max, lead.most - lead.least)
        return lead
