"""An image or audio engine: makes items in batches, lends the memory that they leave.

Knows: a model's seconds and bytes by batch size, items that arrive, its side of
leases. Does not know: borrowers, text.

    CALM --more items wait than a small batch takes--> BUSY
    BUSY --for a while no more than that--> CALM

CALM it keeps memory for a small batch and offers the rest; BUSY it wants memory
for the largest, and calls back what that lacks. A batch takes as many of those
that wait, first come first served, as there is memory for when it starts.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, lease_line, lending, sources, types
from aqua_jax.simulation import cost, hardware, shapes

_NANO = 10**9


class Phase(NamedTuple):
    """So many items a second arrive up to that second."""

    until_seconds: float
    items_per_second: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ItemEngine:
    """A model on one device.

    batch_max: the largest batch; batch_calm: the one for which it keeps memory when it is calm.
    calm_seconds: for how long no more than that may have waited. buffer_bytes: never offered.
    least_bytes: less is not worth an offer.
    """

    device: hardware.Hardware
    shape: shapes.ItemShape
    batch_max: int
    batch_calm: int
    calm_seconds: float = 10.0
    buffer_bytes: int = 5 * types.GIB
    least_bytes: int = 10 * types.GIB

    def __post_init__(self) -> None:
        if not 1 <= self.batch_calm <= self.batch_max:
            raise errors.ConfigError(
                f"{self.shape.name}: batch_calm {self.batch_calm}, batch_max {self.batch_max};"
                " give at least 1, the first no more than the second"
            )
        shapes.spare_bytes(self.device, self.shape, self.batch_max)

    def free_bytes(self, batch: int) -> int:
        """What a batch of that size leaves."""
        return self.device.memory_bytes - self.shape.memory_bytes(batch)

    def fits(self, lent_bytes: int) -> int:
        """The largest batch beside so many bytes that are lent."""
        left = self.device.memory_bytes - lent_bytes - self.shape.base_bytes
        return min(self.batch_max, left // self.shape.item_bytes)


def arrivals(seed: str, phases: Sequence[Phase]) -> Iterator[int]:
    """Nanoseconds at which items arrive; gaps are drawn evenly from none to twice their mean."""
    draws = random.Random(seed)
    at_ns = begin_ns = 0
    for phase in phases:
        until_ns, at_ns = clocks.nanoseconds(phase.until_seconds), begin_ns
        while phase.items_per_second > 0:
            at_ns += draws.randrange(2 * int(_NANO / phase.items_per_second))
            if at_ns >= until_ns:
                break
            yield at_ns
        begin_ns = until_ns


class SimulatedItems:
    """The engine, an actor of a world.

    arrived_ns, done_ns: of the items made so far, by number. batches: made so far.
    """

    def __init__(
        self,
        client: str,
        clock: clocks.EventClock,
        spec: ItemEngine,
        port: lease_line.Port,
        *,
        unit_bytes: int,
        settings: lending.LenderSettings,
        arriving_ns: Iterator[int],
        lends: bool = True,
    ) -> None:
        self.spec = spec
        self.arrived_ns = array.array("q")
        self.done_ns = array.array("q")
        self.batches = 0
        self._clock = clock
        self._unit_bytes = unit_bytes
        self._cost = cost.item_cost(spec.device, spec.shape)
        self._source = sources.BatchSource(
            unit_bytes=unit_bytes, buffer_bytes=spec.buffer_bytes, least_bytes=spec.least_bytes
        )
        self.lender = lending.Lender(client, self._source, port, settings=settings, incarnation=1)
        self._lends = lends
        self._arriving = arriving_ns
        self._next_ns = next(arriving_ns, None)
        self._waiting: collections.deque[int] = collections.deque()
        self._batch: list[int] = []  # when its items arrived
        self._ends_ns = 0
        self._calm_at_ns = 0  # CALM from here on

    @property
    def waiting(self) -> int:
        """Items that wait for their batch."""
        return len(self._waiting)

    @property
    def lent_bytes(self) -> int:
        """What is offered or lent."""
        return self._source.away_count * self._unit_bytes

    def turn(self) -> bool:
        now_ns = self._clock.now_ns
        done = self._take_arrivals(now_ns) | self._end_batch(now_ns)
        if len(self._waiting) > self.spec.batch_calm:
            self._calm_at_ns = now_ns + clocks.nanoseconds(self.spec.calm_seconds)
        wanted = self._wanted(now_ns)
        if self._lends:
            self._source.inform(self.spec.free_bytes(max(wanted, len(self._batch))))
        done |= self.lender.turn(self._clock.now())
        return done | self._start_batch(wanted, now_ns)

    def wakes_at(self) -> float:
        now_ns, wakes_at = self._clock.now_ns, self.lender.wakes_at()
        times = [self._next_ns, self._ends_ns if self._batch else None, self._calm_at_ns]
        return min([wakes_at, *(ns / _NANO for ns in times if ns is not None and ns > now_ns)])

    def check_integrity(self) -> None:
        """No byte is used twice. Raises InternalError."""
        used = self.spec.shape.memory_bytes(len(self._batch)) + self.lent_bytes
        if used > self.spec.device.memory_bytes:
            raise errors.InternalError(
                f"{self.lender.client}: a batch of {len(self._batch)} beside {self.lent_bytes}"
                f" bytes lent is {used} of {self.spec.device.memory_bytes} bytes"
            )

    def _wanted(self, now_ns: int) -> int:
        """The batch for which it keeps memory."""
        return self.spec.batch_max if now_ns < self._calm_at_ns else self.spec.batch_calm

    def _take_arrivals(self, now_ns: int) -> bool:
        came = False
        while self._next_ns is not None and self._next_ns <= now_ns:
            self._waiting.append(self._next_ns)
            self._next_ns = next(self._arriving, None)
            came = True
        return came

    def _end_batch(self, now_ns: int) -> bool:
        if not self._batch or now_ns < self._ends_ns:
            return False
        self.arrived_ns.extend(self._batch)
        self.done_ns.extend([now_ns] * len(self._batch))
        self._batch = []
        self.batches += 1
        return True

    def _start_batch(self, wanted: int, now_ns: int) -> bool:
        count = min(len(self._waiting), wanted, self.spec.fits(self.lent_bytes))
        if self._batch or count < 1:
            return False
        self._batch = [self._waiting.popleft() for _ in range(count)]
        self._ends_ns = now_ns + self._nanoseconds(count)
        return True

    def _nanoseconds(self, count: int) -> int:
        """What a batch takes, rounded up."""
        one = self._cost
        steps_ps = self.spec.shape.steps * (one.program_ps + one.step_ps + count * one.lane_ps)
        return -(-(one.dispatch_ps + steps_ps) // 1000)
