"""The ledger's process: it restarts, its clock leaps; and what memory stands behind a grant.

Knows: the production ledger, who may map what of whom. Does not know: what its
clients are, when a message is lost.

Borrowers map a unit with its lender's help: who is gone, or has not heard yet
that the unit is lent, shows nothing, and the borrower has memory of its own for
so long.
"""

from __future__ import annotations

import collections
import json
from typing import Any

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, lease_line, lease_types, leases
from aqua_jax.simulation.fuzz import frames, leaping, line, servers, verdict

SILENCE_SECONDS, JUMP_SECONDS = 0.3, 0.1


class Desk:
    """The ledger as its clients' messages reach it."""

    def __init__(
        self, server: servers.Server, clock: clocks.Clock, counts: collections.Counter[str]
    ) -> None:
        self.ledger = leases.Ledger(
            unit_bytes=1, silence_seconds_max=SILENCE_SECONDS, jump_seconds_max=JUMP_SECONDS
        )
        self.lines: list[line.BadLine] = []
        self.lent: dict[str, frames.Lent] = {}  # by lender, of those that live
        self._shared = clock
        self._clock = leaping.LeapingClock(clock)
        self._counts = counts
        self._restarts_at = collections.deque(server.restarts_at)
        self._leaps = collections.deque(server.leaps)
        self._lives: dict[str, int] = {}  # by lender: the life that offered last
        self._deeds: dict[int, int] = {}  # generation -> that life
        self._open: dict[tuple[str, int], lease_types.Reclaim] = {}
        self._reported: set[tuple[str, int]] = set()

    def connect(self, faults: line.LineFaults) -> line.BadLine:
        """A new client's port. What a former one had sent still comes."""
        port = line.BadLine(faults, self._shared, self._answer, self._counts)
        self.lines.append(port)
        return port

    def frames(self, grant: lease_types.Grant) -> list[frames.Frames | None]:
        """What the borrower maps, unit by unit; None: nothing."""
        lender = self.lent.get(grant.lender)
        units = [unit for first, end in grant.units for unit in range(first, end)]
        if lender is None or self._deeds[grant.generation] != self._lives[grant.lender]:
            return [None] * len(units)
        return [lender.frames(unit) for unit in units]

    def step(self) -> None:
        """Time has passed: restarts, leaps, messages that have come, what is overdue."""
        now = self._shared.now()
        while self._restarts_at and self._restarts_at[0] <= now:
            self._restarts_at.popleft()
            self._counts["ledger restarts"] += 1
            written = json.dumps(self.ledger.snapshot())
            self.ledger = leases.Ledger.restore(json.loads(written))
        while self._leaps and self._leaps[0][0] <= now:
            self._clock.leap(self._leaps.popleft()[1])
            self._counts["ledger leaps"] += 1
        for port in self.lines:
            port.deliver()
        self._tick()
        self.ledger.check_integrity()

    def calm(self) -> None:
        """Nothing befalls the ledger and its messages any more."""
        self._restarts_at.clear()
        self._leaps.clear()
        for port in self.lines:
            port.ask_until = port.answer_until = 0.0
            port.faults = line.LineFaults(delay_seconds=port.faults.delay_seconds)

    def lent_out(self) -> list[str]:
        """What is still lent or fenced, in words."""
        found = []
        for lender in sorted(self._lives):
            lease = self._standing(lender)
            if lease is not None and (lease.free or lease.fenced or lease.grants):
                found.append(f"{lender}: {lease}")
        return found

    # -- helpers, in call order --------------------------------------------------------------

    def _answer(self, ask: lease_line.Ask) -> lease_line.Answer:
        self._tick()
        answer = lease_line.answer(self.ledger, ask, self._clock.now())
        if answer.error is None:
            self._note(ask, answer.value)
        self._tick()  # what came too late to be met is overdue at once
        return answer

    def _note(self, ask: lease_line.Ask, value: Any) -> None:
        if ask.name == "offer":
            stamp = ask.arguments["stamp"]
            self._lives[stamp.client] = stamp.incarnation
        if ask.name == "grant":
            for grant in value:
                self._deeds.setdefault(grant.generation, self._lives[grant.lender])

    def _tick(self) -> None:
        for event in self.ledger.tick(self._clock.now()):
            name = type(event).__name__
            if isinstance(event, lease_types.Expired):
                name = f"{name} {event.role.value}"
            self._counts[f"ledger {name}"] += 1
            if isinstance(event, lease_types.Overdue):
                self._reported.add((event.lender, event.reclaim))
        self._check_reclaims()

    def _check_reclaims(self) -> None:
        """Each is met, or not due yet, or was reported."""
        there: dict[tuple[str, int], lease_types.Reclaim] = {}
        for lender in self._lives:
            lease = self._standing(lender)
            if lease is not None:
                there |= {(lender, one.id): one for one in lease.reclaims}
        for key, one in there.items():
            verdict.promise(
                not one.overdue or key in self._reported, f"nobody was told that {one} is overdue"
            )
        now = self._clock.now()
        for key, one in self._open.items():
            if key not in there:
                verdict.promise(
                    one.deadline >= now or key in self._reported,
                    f"nobody was told that {one} is late",
                )
                self._counts["reclaims late" if key in self._reported else "reclaims in time"] += 1
        self._counts["reclaims"] += len([key for key in there if key not in self._open])
        self._open = there

    def _standing(self, lender: str) -> lease_types.Lease | None:
        try:
            return self.ledger.standing(lender).lease
        except errors.UnknownClientError:
            return None
