"""A mover that breaks things on purpose, the same way every time it is given the same seed.

Knows: the index of a submission and the seed. Does not know: time's meaning,
policy. A tool for tests and simulations.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.memory import page_store
from aqua_jax.memory.movers import base

_WORD = (1 << 64) - 1


class Fault(enum.Enum):
    """What may become of a submitted plan."""

    FAIL = "fail"  # nothing is copied; a completion with an error
    DELAY = "delay"  # the completion comes `delay_seconds` late
    REORDER = "reorder"  # the completion comes after the next one, or `delay_seconds` late
    CORRUPT = "corrupt"  # one byte of one target page is wrong, the completion says success


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Which submissions go wrong.

    exact: index of submission (0 is the first) -> fault; goes before the rates.
    rates: fault -> probability, drawn from an integer hash of (seed, index).
    """

    seed: int = 0
    exact: Mapping[int, Fault] = dataclasses.field(default_factory=dict)
    rates: Mapping[Fault, float] = dataclasses.field(default_factory=dict)
    delay_seconds: float = 0.01

    def __post_init__(self) -> None:
        if sum(self.rates.values()) > 1 or any(rate < 0 for rate in self.rates.values()):
            raise errors.ConfigError(f"fault rates {self.rates}: expected 0 or more, 1 in all")

    def of(self, index: int) -> Fault | None:
        """The fault of the submission `index`, or None."""
        if index in self.exact:
            return self.exact[index]
        left = mix(self.seed, index) / (_WORD + 1)
        for fault, rate in self.rates.items():
            if left < rate:
                return fault
            left -= rate
        return None


def mix(seed: int, index: int) -> int:
    """A well-spread 64-bit hash of two integers (the finaliser of splitmix64)."""
    word = (seed * 0xD1B54A32D192ED03 + (index + 1) * 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def byte_flipper(
    stores: Mapping[int, page_store.PageStore],
) -> Callable[[types.Place, int], None]:
    """A `corrupt` for FaultyMover: inverts one byte of a page, chosen by the given hash."""

    def flip(place: types.Place, word: int) -> None:
        store = stores[place.space]
        page = store.snapshot([place.index])
        data = page.reshape(-1).view(np.uint8)
        data[word % data.size] ^= 0xFF
        store.write([place.index], page)

    return flip


@dataclasses.dataclass(slots=True)
class _Held:
    """A plan whose completion is withheld until `due_at`, or until another has passed."""

    ticket: tickets.Ticket
    bytes: int
    fault: Fault | None
    victim: tuple[types.Place, int] | None = None  # to corrupt once it has landed
    error: BaseException | None = None
    due_at: float = 0.0


class FaultyMover:
    """Wraps a mover; every submission meets the fault that `faults` has for its index.

    corrupt: `(place, hash)` damages one page there; needed for Fault.CORRUPT.
    Tickets are its own, done by the next `poll` after the clock was woken.
    """

    def __init__(
        self,
        inner: base.PageMover,
        clock: clocks.Clock,
        faults: Faults,
        *,
        corrupt: Callable[[types.Place, int], None] | None = None,
    ) -> None:
        if corrupt is None and Fault.CORRUPT in (*faults.exact.values(), *faults.rates):
            raise errors.ConfigError("Fault.CORRUPT needs `corrupt`, e.g. byte_flipper(stores)")
        self._inner = inner
        self._clock = clock
        self._faults = faults
        self._corrupt = corrupt
        self._index = 0
        self._copying: dict[int, _Held] = {}
        self._held: list[_Held] = []  # landed, completion withheld
        self._completions: list[types.Completion] = []
        self._closed = False
        self.injected: list[tuple[int, Fault]] = []  # (submission, fault), to replay and to check

    def check(self, moves: Sequence[types.Move]) -> int:
        """As the inner mover's."""
        return self._inner.check(moves)

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """As the inner mover's, with this submission's fault."""
        nbytes = self._inner.check(moves)
        if self._closed:
            raise errors.MoveError("refused: the mover is closed")
        index, self._index = self._index, self._index + 1
        fault = self._faults.of(index)
        held = _Held(base.new_ticket(self._clock, moves), nbytes, fault)
        if fault is not None:
            self.injected.append((index, fault))
        if fault is Fault.FAIL:
            held.error = errors.MoveError(
                f"injected: submission {index} failed, nothing was copied"
            )
            self._hold(held, 0.0)
            return held.ticket
        if fault is Fault.CORRUPT:
            word = mix(self._faults.seed, ~index)
            held.victim = moves[word % len(moves)].target, word >> 8
        self._copying[self._inner.submit(moves, after).id] = held
        return held.ticket

    def fence(self, space: int) -> tickets.Ticket:
        """As the inner mover's."""
        return self._inner.fence(space)

    def poll(self) -> list[types.Completion]:
        """Completions since the last call, with withheld ones that are due."""
        self._land()
        now = self._clock.now()
        due = [held for held in self._held if held.due_at <= now]
        for held in due:
            self._held.remove(held)
            self._finish(held)
        completions, self._completions = self._completions, []
        return completions

    def rebuild(self) -> None:
        """As the inner mover's."""
        self._inner.rebuild()

    def close(self) -> None:
        """As the inner mover's; withheld completions come now."""
        self._closed = True
        self._inner.close()
        self._land()
        while self._held:
            self._finish(self._held.pop(0))

    def _land(self) -> None:
        for completion in self._inner.poll():
            held = self._copying.pop(completion.ticket)
            held.error = completion.error
            if held.victim is not None and self._corrupt is not None and held.error is None:
                self._corrupt(*held.victim)
            if held.fault in (Fault.DELAY, Fault.REORDER):
                self._hold(held, self._faults.delay_seconds)
                continue
            self._finish(held)
            for other in self._held:
                if other.fault is Fault.REORDER:
                    other.due_at = 0.0  # one has passed it: due in this poll

    def _hold(self, held: _Held, seconds: float) -> None:
        held.due_at = self._clock.now() + seconds
        self._held.append(held)
        self._clock.at(held.due_at, self._clock.wake)

    def _finish(self, held: _Held) -> None:
        completion = base.settle(held.ticket, held.bytes, at=self._clock.now(), error=held.error)
        self._completions.append(completion)
