"""Actors in one world: turns when something happened, in a fixed order; an engine as by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors
from aqua_jax.engine import engine as engines
from aqua_jax.simulation import engines as simulated
from aqua_jax.simulation import network, world
from aqua_jax.simulation import runner as runners
from tests.simulation import test_engines

SESSIONS = 20


class Note:
    """An actor that notes its turns and asks for others at given seconds."""

    def __init__(self, name: str, log: list[str], seconds: Sequence[float] = ()) -> None:
        self._name = name
        self._log = log
        self._seconds = list(seconds)
        self.work = 0  # turns in which it does something

    def turn(self) -> bool:
        self._log.append(self._name)
        self._seconds = self._seconds[1:]
        self.work -= 1
        return self.work >= 0

    def wakes_at(self) -> float:
        return self._seconds[0] if self._seconds else math.inf


def seated(at: world.World, name: str, log: list[str], *seconds: float) -> world.Seat:
    seat = at.seat()
    seat.take(Note(name, log, (0.0, *seconds)))
    return seat


def test_turns_are_given_when_they_are_due_and_to_nobody_else() -> None:
    at, log = world.World(), []
    seated(at, "a", log, 0.5, 2.0)
    seated(at, "b", log, 1.0)
    at.run(0.4)
    assert log == ["a", "b"]
    at.run(1.5)
    assert log == ["a", "b", "a", "b"]
    assert at.clock.now() == 1.0
    at.run(9.0)
    assert log == ["a", "b", "a", "b", "a"]
    assert at.events == 3


def test_who_is_woken_gets_turns_until_it_does_nothing() -> None:
    at, log = world.World(), []
    seat = at.seat()
    note = Note("a", log)
    seat.take(note)
    at.run(0.0)
    note.work = 3
    seat.at(1.0, seat.wake)
    at.run(1.0)
    assert log == ["a"] * 5


def test_all_that_is_due_happens_before_anybody_gets_a_turn() -> None:
    at, log = world.World(), []
    first, second = seated(at, "a", log), seated(at, "b", log)
    at.run(0.0)
    log.clear()
    at.clock.at(1.0, second.wake)
    at.clock.at(1.0, lambda: log.append("event"))
    at.clock.at(1.0, first.wake)
    at.clock.at(1.0, second.wake)
    at.run(2.0)
    assert log == ["event", "b", "a"]


def test_a_timer_that_was_moved_is_forgotten() -> None:
    at, log = world.World(), []
    seat = seated(at, "a", log, 5.0, 7.0)
    at.run(1.0)
    seat.wake()  # its turn at 5 is over with this one
    at.run(6.0)
    assert log == ["a", "a"]
    at.run(7.0)
    assert log == ["a", "a", "a"]


def test_an_actor_that_never_rests_is_a_bug_of_ours() -> None:
    at = world.World()
    note = Note("a", [])
    note.work = 10**9
    seat = at.seat()
    seat.take(note)
    with pytest.raises(errors.InternalError, match="does something in each of"):
        at.run(1.0)
    with pytest.raises(errors.InternalError, match="taken twice"):
        seat.take(note)


@pytest.mark.parametrize("overlaps", [True, False])
@pytest.mark.parametrize("names", [("peer", "host"), ("host",), ()])
def test_an_engine_in_a_world_does_what_it_does_alone(
    names: tuple[str, ...], overlaps: bool
) -> None:
    alone, counted = _alone(names, overlaps), _in_a_world(names, overlaps)
    assert alone == counted
    assert len(alone) > 5 * SESSIONS


Log = list[tuple[int, int, str]]


def _alone(names: tuple[str, ...], overlaps: bool) -> Log:
    clock, log = clocks.VirtualClock(), []
    engine = _engine(clock, network.Network(clock), names, overlaps)
    _arrive(clock, engine, log)
    while clock.now() < 1.0 or not engine.idle:
        engine.step()
    return log


def _in_a_world(names: tuple[str, ...], overlaps: bool) -> Log:
    at, log = world.World(), []
    seat = at.seat()
    engine = _engine(seat, network.Network(at.clock), names, overlaps)
    seat.take(engine)
    _arrive(at.clock, engine, log)
    at.run(1e6)
    assert engine.idle
    engine.close()
    return log


def _engine(
    clock: clocks.EventClock, over: network.Network, names: tuple[str, ...], overlaps: bool
) -> engines.Engine:
    spec = test_engines.SMALL
    changed = {"overlaps": overlaps}
    spec = test_engines.dataclasses.replace(spec, **changed)
    return simulated.make(clock, over, spec, tiers=test_engines.tiers(*names)).engine


def _arrive(clock: clocks.VirtualClock, engine: engines.Engine, log: Log) -> None:
    """Sessions come one by one; all that they are told is logged with its nanosecond."""

    def submit(number: int) -> None:
        def note(tokens: Sequence[Any], reason: str, at: float) -> None:
            log.append((number, clocks.nanoseconds(at), f"{list(tokens)} {reason}"))

        request = runners.request(40 + 17 * number % 120, 30 + number % 7, seed=number)
        engine.submit(request, sink=note)

    for number in range(SESSIONS):
        clock.at_ns(number * 31_234_567, lambda number=number: submit(number))
