"""Runs a random server to its end: processes turn, fail and come back on one virtual clock.

Knows: whose turn it is, when everybody is done, what must be true then. Does not
know: what a process is made of, what the ledger decides.
"""

from __future__ import annotations

import collections
import math

from aqua_jax.control import clock as clocks
from aqua_jax.simulation.fuzz import desk as desks
from aqua_jax.simulation.fuzz import processes, servers, verdict

ROUNDS_MAX = 60_000  # of turns: many times what the longest needs
_ROUNDS_HOME_MAX = 20_000
_ROUNDS_STILL_MAX = 100  # with nothing done and no time passed
_NANO = 1e9
_PAUSE_SECONDS = 0.05  # when nobody is there to wait for


def run(server: servers.Server) -> verdict.Report:
    """Runs the server to its end. Raises BrokenPromiseError and InternalError."""
    return _Run(server).run()


class _Seat:
    """A process with its troubles."""

    def __init__(
        self,
        process: processes.EngineProcess | processes.LenderProcess,
        troubles: tuple[servers.Trouble, ...],
    ) -> None:
        self.process = process
        self.troubles = collections.deque(troubles)
        self.is_there = False
        self.back_at = 0.0  # of one that is not there; infinite: never
        self.stalled_until = 0.0


class _Run:
    def __init__(self, server: servers.Server) -> None:
        self._clock = clocks.VirtualClock()
        self._report = verdict.Report()
        self._counts = self._report.counts
        self._desk = desks.Desk(server, self._clock, self._counts)
        self._seats = [
            _Seat(
                processes.EngineProcess(
                    plan,
                    processes.Life(self._desk, self._clock, plan.faults),
                    unit_slots=server.unit_slots,
                    report=self._report,
                ),
                plan.troubles,
            )
            for plan in server.engines
        ]
        self._seats += [
            _Seat(
                processes.LenderProcess(
                    plan,
                    processes.Life(self._desk, self._clock, plan.faults),
                    unit_slots=server.unit_slots,
                    page_units=server.page_units,
                    report=self._report,
                    in_use=self._slots_in_use,
                ),
                plan.troubles,
            )
            for plan in server.lenders
        ]
        self._still = 0

    def run(self) -> verdict.Report:
        for _ in range(ROUNDS_MAX):
            self._befall()
            self._round()
            if all(self._is_over(seat) for seat in self._seats):
                break
        else:
            raise verdict.BrokenPromiseError(
                f"no end after {ROUNDS_MAX} rounds: {self._describe()}"
            )
        self._go_home()
        for seat in self._seats:
            if seat.is_there:
                seat.process.check_end()
        self._report.seconds = self._clock.now()
        return self._report

    def _slots_in_use(self) -> int:
        return sum(seat.process.slots_in_use for seat in self._seats)

    def _is_over(self, seat: _Seat) -> bool:
        return seat.process.is_over if seat.is_there else seat.back_at == math.inf

    def _befall(self) -> None:
        """What troubles are due."""
        now = self._clock.now()
        in_use = self._slots_in_use()
        for seat in self._seats:
            while seat.is_there and seat.troubles:
                trouble = seat.troubles[0]
                if trouble.at > now or trouble.slots_in_use > in_use:
                    break
                seat.troubles.popleft()
                self._trouble(seat, trouble, now)

    def _trouble(self, seat: _Seat, trouble: servers.Trouble, now: float) -> None:
        what = "engine" if isinstance(seat.process, processes.EngineProcess) else "lender"
        self._counts[f"{what} {trouble.kind.value}"] += 1
        until = now + trouble.seconds
        if trouble.kind is servers.Kind.DIE:
            self._counts["died with slots in use"] += seat.process.slots_in_use > 0
            seat.process.die()
            seat.is_there = False
            seat.back_at = until if trouble.comes_back else math.inf
        elif trouble.kind is servers.Kind.STALL:
            seat.stalled_until = until
        elif trouble.kind is servers.Kind.LEAP:
            seat.process.life.clock.leap(trouble.seconds)
        elif trouble.kind is servers.Kind.MUTE:
            seat.process.life.port.ask_until = until
        else:
            seat.process.life.port.answer_until = until

    def _round(self) -> None:
        """Everybody's turn; when nobody did anything, time passes."""
        did, now = False, self._clock.now()
        self._desk.step()
        for seat in self._seats:
            if not seat.is_there and seat.back_at <= now:
                seat.process.start()
                seat.is_there = True
                self._counts["lives"] += 1
            if seat.is_there and seat.stalled_until <= now:
                did |= seat.process.turn()
        if self._clock.now() > now:  # somebody waited within its turn
            did = True
        if not did:
            self._advance(now)

    def _advance(self, now: float) -> None:
        """To whatever comes next."""
        until = min(self._wakes_at(seat) for seat in self._seats)
        if until == math.inf:
            until = now + _PAUSE_SECONDS
        # A second of a clock that is ahead may be a nanosecond off on this one.
        until_ns = max(clocks.nanoseconds(until), self._clock.now_ns + 1)
        if not self._clock.run_next(until_ns):
            self._clock.wait([], until_ns / _NANO)
        self._still = 0 if self._clock.now() > now else self._still + 1
        verdict.promise(
            self._still < _ROUNDS_STILL_MAX,
            f"somebody wakes for nothing at {now}: {self._describe()}",
        )

    def _wakes_at(self, seat: _Seat) -> float:
        if not seat.is_there:
            return seat.back_at
        life = seat.process.life
        return max(life.clock.to_shared(seat.process.wakes_at()), seat.stalled_until)

    def _go_home(self) -> None:
        """Nothing befalls anybody any more, and everybody wants back what is its own."""
        self._desk.calm()
        for seat in self._seats:
            seat.troubles.clear()
            if seat.is_there:
                seat.process.close()
            else:
                seat.back_at = math.inf
        left: list[str] = []
        for _ in range(_ROUNDS_HOME_MAX):
            self._round()
            left = [seat.process.left_over() for seat in self._seats if seat.is_there]
            left = [what for what in left if what] + self._desk.lent_out()
            if not left:
                return
        raise verdict.BrokenPromiseError(f"memory is not home: {left}")

    def _describe(self) -> str:
        words = [f"at {self._clock.now()}"]
        for number, seat in enumerate(self._seats):
            where = "" if seat.is_there else f"back at {seat.back_at}"
            if seat.is_there and isinstance(seat.process, processes.EngineProcess):
                assert seat.process.bench is not None
                where = seat.process.bench.describe()
            words.append(f"{number}: {where} wakes at {self._wakes_at(seat)}")
        return "; ".join(words)
