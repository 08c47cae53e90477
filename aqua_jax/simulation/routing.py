"""Which of several engines of a kind a request goes to.

Knows: names of the ways, how much each engine has to do. Does not know: what
an engine is.
"""

from __future__ import annotations

import itertools

import sortedcontainers

from aqua_jax.control import errors

ROUTINGS = ("round_robin", "least_loaded")


class Router:
    """Engines by number. Their load: the units of the prompts whose requests have not ended.

    A choice costs the same however many engines there are, but for the logarithm.
    """

    def __init__(self, routing: str, count: int) -> None:
        if routing not in ROUTINGS:
            raise errors.ConfigError(
                f"unknown routing {routing!r}{errors.close_match(routing, ROUTINGS)}"
            )
        if count < 1:
            raise errors.ConfigError("there is no engine to route to: give at least one")
        self._turns = itertools.cycle(range(count)) if routing == "round_robin" else None
        self._load = [0] * count
        self._by_load = sortedcontainers.SortedList((0, number) for number in range(count))

    def choose(self) -> int:
        """The engine for the next request; of equally loaded ones the first."""
        return next(self._turns) if self._turns else self._by_load[0][1]

    def begin(self, number: int, units: int) -> None:
        """A request of so many units of prompt went there."""
        self._set(number, self._load[number] + units)

    def end(self, number: int, units: int) -> None:
        """It has ended."""
        self._set(number, self._load[number] - units)

    def _set(self, number: int, load: int) -> None:
        self._by_load.remove((self._load[number], number))
        self._load[number] = load
        self._by_load.add((load, number))
