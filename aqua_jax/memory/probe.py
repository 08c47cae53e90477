"""What a link does: pages moved over it and compared byte by byte, its latency and bandwidth.

Knows: stores and a mover over them, both idle, and a clock. Does not know:
tiers, which link is good enough, what was measured before (`experiments/`).

A link is an ordered pair of spaces. Peer copies have silently delivered wrong
bytes, and silently taken a slow path, on real machines; both show here before
anybody's state is at stake. The pages of both stores are overwritten.

Times are those of whole submissions, from `submit` to the completion, as a
session's pages see them. Of repetitions the best counts: what else runs on the
machine only ever adds time, and the question is what the link can do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, types
from aqua_jax.memory import page_store
from aqua_jax.memory.movers import base

KIB = 1 << 10
# Of the plans that are timed, as near as whole pages come and as far as both stores have them.
PLAN_BYTES = (64 * KIB, 256 * KIB, types.MIB, 4 * types.MIB, 16 * types.MIB, 64 * types.MIB)
REPEATS = 5
COMPARED_BYTES_MAX = 4 * types.MIB  # two pages where one is larger
COMPARED_PAGES_MAX = 64
_COPY_SECONDS_MAX = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """What became of a data pattern.

    first_wrong: where, e.g. "byte 17 of page 3" of the target; "" when none is wrong.
    """

    source: int
    target: int
    bytes: int
    wrong_bytes: int
    first_wrong: str


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """The best time of a plan of this many bytes."""

    bytes: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Latency and all."""
        return self.bytes / self.seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """How fast a link is. latency_seconds: of a plan of one page. rates: by rising bytes."""

    source: int
    target: int
    latency_seconds: float
    rates: tuple[Rate, ...]

    @property
    def fastest(self) -> Rate:
        """Of the plan that carried the most bytes a second."""
        return max(self.rates, key=lambda rate: rate.bytes_per_second)


class Probe:
    """Measures the links of one mover.

    mover: with nothing in flight; any mover, decorated or not. stores: space ->
    pool or arena, those of the mover.
    """

    def __init__(
        self,
        mover: base.PageMover,
        stores: Mapping[int, page_store.PageStore],
        clock: clocks.Clock,
    ) -> None:
        self._mover = mover
        self._stores = stores
        self._clock = clock

    def compare(self, source: int, target: int) -> Comparison:
        """Moves a pattern of at most 64 pages and about 4 MiB and compares every byte that arrives.

        The pages are a run from the start of either store and single ones from
        its end. The targets hold the pattern inverted before, so that a copy
        that does nothing shows. Raises MoveError when the copy fails.
        """
        origin, goal = self._stores[source], self._stores[target]
        count = min(
            len(origin.indices),
            len(goal.indices),
            COMPARED_PAGES_MAX,
            max(2, COMPARED_BYTES_MAX // origin.page_bytes),
        )
        head = (count + 1) // 2
        sources = _both_ends(origin.indices, count)
        targets = _both_ends(goal.indices, count)
        targets[head:] = reversed(targets[head:])  # neighbours that cannot be merged into one copy
        pattern = _pattern(count, origin)
        origin.write(sources, _pages(pattern, origin))
        goal.write(targets, _pages(~pattern, goal))
        self._copy(source, sources, target, targets)
        arrived = np.ascontiguousarray(goal.snapshot(targets)).view(np.uint8)
        wrong = np.argwhere(arrived.reshape(pattern.shape) != pattern)
        first = f"byte {wrong[0][1]} of page {targets[wrong[0][0]]}" if len(wrong) else ""
        return Comparison(source, target, pattern.size, len(wrong), first)

    def measure(self, source: int, target: int, *, seconds: float) -> Speed:
        """Times plans of rising size for about `seconds`.

        One plan of a single page and one of the smallest size are timed
        whatever they take; larger ones that would not fit in are left out.
        Raises MoveError when a copy fails.
        """
        origin, goal = self._stores[source], self._stores[target]
        until = self._clock.now() + seconds
        latency_seconds = self._best(origin, goal, 1, until)
        rates: list[Rate] = []
        for count in _plan_pages(origin, goal):
            nbytes = count * origin.page_bytes
            expected = rates[-1].seconds * nbytes / rates[-1].bytes if rates else 0.0
            if self._clock.now() + expected > until and rates:
                break
            best = latency_seconds if count == 1 else self._best(origin, goal, count, until)
            rates.append(Rate(nbytes, best))
        return Speed(source, target, latency_seconds, tuple(rates))

    def _best(
        self, origin: page_store.PageStore, goal: page_store.PageStore, count: int, until: float
    ) -> float:
        """Seconds of a plan of the first `count` pages: the best of five, fewer when time is up."""
        sources, targets = origin.indices[:count], goal.indices[:count]
        best = float("inf")
        for repeat in range(REPEATS):
            if repeat and self._clock.now() + best > until:
                break
            best = min(best, self._copy(origin.space, sources, goal.space, targets))
        return best

    def _copy(
        self, source: int, sources: Sequence[int], target: int, targets: Sequence[int]
    ) -> float:
        """Seconds from submission to completion."""
        moves = [
            types.Move(types.Place(source, s), types.Place(target, t), 1)
            for s, t in zip(sources, targets, strict=True)
        ]
        ticket = self._mover.submit(moves)
        until = self._clock.now() + _COPY_SECONDS_MAX
        waiting = True
        while waiting:
            waiting = not ticket.done() and self._clock.now() < until
            for completion in self._mover.poll():
                if completion.ticket != ticket.id:
                    continue
                if completion.error is not None:
                    raise errors.MoveError(
                        f"a copy of {len(moves)} pages from {self._stores[source].label} to"
                        f" {self._stores[target].label} failed: {completion.error}"
                    ) from completion.error
                return completion.seconds
            if waiting:
                self._clock.wait([ticket], until)
        # It may still write, so nothing can go on.
        raise errors.InternalError(
            f"no completion of {ticket!r} within {_COPY_SECONDS_MAX:g} s: a mover promises one"
        )


def _both_ends(indices: range, count: int) -> list[int]:
    """The first half of `count` from the start, the others from the end, all rising."""
    head = (count + 1) // 2
    return [*indices[:head], *indices[len(indices) - (count - head) :]]


def _plan_pages(origin: page_store.PageStore, goal: page_store.PageStore) -> list[int]:
    """Pages of the plans to time, rising; the last is all that both have or 64 MiB."""
    most = min(len(origin.indices), len(goal.indices))
    counts = (min(most, max(1, nbytes // origin.page_bytes)) for nbytes in PLAN_BYTES)
    return sorted(set(counts))


def _pattern(count: int, store: page_store.PageStore) -> np.ndarray:
    """Random bytes `uint8[count, bytes of a page]` that no program changes on their way.

    Of the top byte of every element bit 6 differs from bit 5: read as a float
    it is then neither NaN, which some programs quiet, nor denormal, which some
    flush; and its inverse is neither.
    """
    itemsize = store.dtype.itemsize
    nbytes = math.prod(store.page_shape) * itemsize  # `store.page_bytes` counts replicas too
    pattern = np.random.default_rng(nbytes).integers(0, 256, (count, nbytes), np.uint8)
    top = pattern[:, itemsize - 1 :: itemsize]
    top[:] = (top & 0xDF) | (~top >> 1 & 0x20)
    return pattern


def _pages(pattern: np.ndarray, store: page_store.PageStore) -> np.ndarray:
    """The bytes as pages of the store."""
    return pattern.view(store.dtype).reshape(len(pattern), *store.page_shape)
