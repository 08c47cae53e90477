"""Random servers: engines that borrow or lend, lenders, one ledger, and what befalls each of them.

Knows: the ranges. The same seed draws the same server. Does not know: how it runs.
"""

from __future__ import annotations

import dataclasses
import enum

from aqua_jax.simulation.fuzz import bench, draws, line, scenarios


class Kind(enum.Enum):
    """What befalls a process."""

    DIE = "die"  # and perhaps start anew
    STALL = "stall"  # it gets no turn; devices go on
    LEAP = "leap"  # its clock does
    MUTE = "mute"  # what it says to the ledger is lost
    DEAF = "deaf"  # what the ledger answers is lost


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """seconds: for so long, or so far. slots_in_use: not before so many that are lent are."""

    kind: Kind
    at: float
    seconds: float
    slots_in_use: int = 0
    comes_back: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """A process with an engine. ahead_slots: it borrows; retain_pages: it lends of its pool.

    One of the two is 0.
    """

    name: str
    scenario: bench.Scenario
    faults: line.LineFaults
    troubles: tuple[Trouble, ...]
    ahead_slots: int = 0
    retain_pages: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spare:
    """Units that can be spared from a second on, and not before so many lent slots are in use."""

    units: int
    at: float = 0.0
    slots_in_use: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LenderPlan:
    """A process that lends all but what it needs. spare: how much that is, one after the other."""

    name: str
    units: int
    spare: tuple[Spare, ...]
    reclaim_seconds: float
    faults: line.LineFaults
    troubles: tuple[Trouble, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One ledger's world. restarts_at, leaps: of the ledger, a leap is (second, seconds)."""

    seed: int
    page_units: int
    unit_slots: int
    engines: tuple[EnginePlan, ...]
    lenders: tuple[LenderPlan, ...]
    restarts_at: tuple[float, ...]
    leaps: tuple[tuple[float, float], ...]


def draw(seed: int) -> Server:
    """A server with one to three borrowers and one or two lenders."""
    rng = draws.Draws(seed, "server")
    page_units, unit_slots = rng.one_of([1, 2, 4]), rng.one_of([1, 1, 2, 3])
    borrowers = rng.one_of([1, 1, 1, 2, 3])
    pools = rng.one_of([0, 0, 1])
    others = rng.one_of([1, 2, 2]) - pools
    until = rng.one_of([0.02, 0.1])
    is_calm = rng.chance(0.15)
    engines = []
    for number in range(borrowers + pools):
        one = draws.Draws(seed, f"engine {number}")
        # Ten to a server at most: no two servers have the same engine.
        scenario = scenarios.draw_engine(
            10 * seed + number, page_units=page_units, clients_most=one.one_of([9, 18])
        )
        lends = number >= borrowers
        if not lends:
            scenario = scenarios.borrow(scenario, one)
        engines.append(
            EnginePlan(
                name=f"engine{number}",
                scenario=dataclasses.replace(scenario, is_punctual=False),
                faults=_draw_line(one, 10 * seed + number),
                troubles=() if is_calm else _draw_troubles(one, until),
                ahead_slots=0 if lends else one.one_of([1, 2, 4, 12]),
                retain_pages=one.between(2, 6) if lends else 0,
            )
        )
    return Server(
        seed=seed,
        page_units=page_units,
        unit_slots=unit_slots,
        engines=tuple(engines),
        lenders=tuple(_draw_lender(seed, number, until, is_calm) for number in range(others)),
        restarts_at=_times(rng, until, rng.one_of([0, 1, 2])),
        leaps=tuple((at, rng.one_of([0.05, 1.0])) for at in _times(rng, until, rng.one_of([0, 1]))),
    )


def _draw_lender(seed: int, number: int, until: float, is_calm: bool) -> LenderPlan:
    rng = draws.Draws(seed, f"lender {number}")
    units = rng.between(2, 8)
    changes = _times(rng, until, rng.between(0, 4))
    return LenderPlan(
        name=f"lender{number}",
        units=units,
        spare=(
            Spare(units=units),
            *(
                Spare(
                    at=at,
                    units=rng.one_of([0, 0, rng.between(0, units)]),
                    slots_in_use=rng.one_of([0, 2, 4, 6]),
                )
                for at in changes
            ),
        ),
        reclaim_seconds=rng.one_of([0.001, 0.02, 0.5]),
        faults=_draw_line(rng, 10 * seed + 5 + number),
        troubles=() if is_calm else _draw_troubles(rng, until),
    )


def _draw_troubles(rng: draws.Draws, until: float) -> tuple[Trouble, ...]:
    return tuple(
        Trouble(
            kind=rng.one_of([Kind.DIE, Kind.DIE, Kind.STALL, Kind.LEAP, Kind.MUTE, Kind.DEAF]),
            at=at,
            seconds=rng.one_of([0.01, 0.15, 0.4, 1.2]),
            slots_in_use=rng.one_of([0, 0, 1, 3, 6]),
            comes_back=rng.chance(0.7),
        )
        for at in _times(rng, until, rng.one_of([0, 0, 1, 1, 2]))
    )


def _draw_line(rng: draws.Draws, seed: int) -> line.LineFaults:
    return line.LineFaults(
        seed=seed,
        lose=rng.one_of([0.0, 0.2]),
        repeat=rng.one_of([0.0, 0.3]),
        delay_seconds=rng.one_of([0.0, 0.001, 0.01]),
    )


def _times(rng: draws.Draws, until: float, count: int) -> tuple[float, ...]:
    return tuple(sorted(rng.within(0, until) for _ in range(count)))
