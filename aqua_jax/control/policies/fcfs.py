"""First come first served: vLLM V1's rule, the baseline.

Running sessions continue; then sessions are admitted in arrival order, never
past the first that does not fit; nobody is displaced. When the pages run out
the latest admitted is preempted and recomputes from the front of the queue:
ids grow with arrival, so the key alone puts it there. `fcfs_reserve` admits
a session only with pages for its whole output, so it never preempts.
"""

from __future__ import annotations

import dataclasses

from aqua_jax.control import types
from aqua_jax.control.policies import base


@dataclasses.dataclass(slots=True)
class Fcfs:
    """See the module's text. Service is counted for the report, never used."""

    settings: base.PolicySettings
    reserves_output: bool = False
    backfills: bool = False
    pages_out: bool = False
    displaces: bool = False
    groups: base.Groups | None = None
    displaced_from: float = 1.0

    def arrive(self, session: types.Session, least_vtime: float) -> None:
        """A newcomer's virtual time means nothing here."""

    def end(self, session: types.Session) -> None:
        """Nothing is kept."""

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens, by the settings' weights."""
        return self.settings.weights.service(prefill_units, step_units)

    def charge(self, session: types.Session, prefill_units: int, step_units: int) -> None:
        """Service counts, order does not change."""
        session.served += self.service(prefill_units, step_units)

    def key(self, session: types.Session) -> base.Key:
        """Arrival order."""
        return (session.id,)

    def prefill_key(self, session: types.Session) -> base.Key:
        """Arrival order."""
        return (session.id,)

    def may_displace(self, waiting: types.Session, running: types.Session) -> bool:
        """Never."""
        return False

    def quantum_used(self, running: types.Session) -> float:
        """There are no quanta: when pages run out, the latest arrival leaves."""
        return 1.0
