"""Whose client runs out of unread tokens first: people read slower than devices write.

Source: Liu et al., "Andes: Defining and Enhancing Quality-of-Experience in
LLM-Based Text Streaming Services" (2024); TokenFlow (2025) preempts by the same
measure. A client reads `reading_tokens_per_second` from its first token on, so
it has something to read until `first_emitted_at + emitted / speed`. The earliest
such moment runs first; a newcomer's client has nothing from the start, and its
moment is its arrival. What a session is to emit in slices that were decided
counts as emitted. While it waits the moment stands still: the first token of a
slice in flight, read meanwhile, counts from its next slice.

Work that was lost and is done again counts as if it had been emitted: two
sessions that take each other's pages could else stay before all others, and
none of them get on.

Overtaking: who comes after a session's moment never goes before it. So
newcomers overtake it only for as long as its client has something to read, and
a session that has neither emitted nor lost anything is overtaken by nobody who
came later. Seconds are the clock's: they bound the overtaking, not the service
that others get in them.
"""

from __future__ import annotations

import dataclasses

from aqua_jax.control import types
from aqua_jax.control.policies import base


@dataclasses.dataclass(slots=True)
class Buffered:
    """See the module's text. A session's `vtime` is the clock second at which it runs dry."""

    settings: base.PolicySettings
    pages_out: bool = True
    backfills: bool = True
    displaces: bool = True
    reserves_output: bool = False
    groups: base.Groups | None = None
    displaced_from: float = 1.0
    _done_again: dict[int, float] = dataclasses.field(default_factory=dict)  # service, by id

    def arrive(self, session: types.Session, least_vtime: float) -> None:
        """Its client has nothing to read."""
        session.vtime = session.arrived_at

    def end(self, session: types.Session) -> None:
        """What it lost is forgotten."""
        self._done_again.pop(session.id, None)

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens, by the settings' weights."""
        return self.settings.weights.service(prefill_units, step_units)

    def charge(self, session: types.Session, prefill_units: int, step_units: int) -> None:
        """Its client will have so much more to read."""
        service = self.service(prefill_units, step_units)
        session.served += service
        if session.fragile:
            self._done_again[session.id] = self._done_again.get(session.id, 0.0) + service
        emitted = session.planned_known + step_units - session.request.prompt_units
        begins_at = session.first_emitted_at
        if begins_at is None:
            begins_at = session.arrived_at
        tokens = emitted + self._done_again.get(session.id, 0.0)
        session.vtime = begins_at + tokens / self.settings.reading_tokens_per_second

    def key(self, session: types.Session) -> base.Key:
        """Earliest moment first, then arrival order."""
        return (session.vtime, session.id)

    def prefill_key(self, session: types.Session) -> base.Key:
        """The same: a prompt that was begun keeps its moment until it emits."""
        return (session.vtime, session.id)

    def may_displace(self, waiting: types.Session, running: types.Session) -> bool:
        """True once the running one's quantum is spent and its client runs dry later."""
        return self.quantum_used(running) >= 1.0 and self.key(waiting) < self.key(running)

    def quantum_used(self, running: types.Session) -> float:
        """Service since it got its lane, or since its prefill ended, over the quantum."""
        return running.served / self.settings.quantum_of(running)
