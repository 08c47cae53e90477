"""How much work a template may make: steps, seconds, and the size of what it holds and writes.

Knows: plain values as templates handle them. Does not know: jinja2.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

STEPS_MAX = 1_000_000  # turns of loops, calls, filters, operators
SECONDS_MAX = 5.0
SIZE_MAX = 2_000_000  # characters and items of one value, beside four times what was given
_TOTAL_VALUES = 8  # values of that size that may be made in all
_INTEGER_BITS_MAX = 4096


class BudgetError(Exception):
    """More work than a template may make. Its text says of what."""


class Budget:
    """The work of one rendering. Between two calls of `spend` lies a bounded piece of it."""

    def __init__(
        self,
        *,
        given: int = 0,
        steps_max: int = STEPS_MAX,
        seconds_max: float = SECONDS_MAX,
        size_max: int = SIZE_MAX,
    ) -> None:
        """given: size of what the template was given, by `measure`."""
        self.size_max = size_max + 4 * given
        self._steps_left = self._steps_max = steps_max
        self._seconds_max = seconds_max
        self._ends_at = time.monotonic() + seconds_max
        self._made_max = _TOTAL_VALUES * self.size_max
        self._made = 0

    def spend(self, *, made: int = 0) -> None:
        """One step, and so many characters or items made. Raises BudgetError."""
        self._steps_left -= 1
        if self._steps_left < 0:
            raise BudgetError(f"it takes more than {self._steps_max} steps")
        if time.monotonic() > self._ends_at:
            raise BudgetError(f"it takes more than {self._seconds_max} seconds")
        self._made += made
        if self._made > self._made_max:
            raise BudgetError(f"it makes more than {self._made_max} characters")

    def check_size(self, size: int) -> None:
        """That a value of such a size may be made. Raises BudgetError."""
        if size > self.size_max:
            raise BudgetError(f"it makes a value of more than {self.size_max} characters or items")

    def keep(self, value: Any) -> Any:
        """The value, which is new: an iterator as a list, each item a step. Raises BudgetError."""
        if isinstance(value, Iterator):
            value = list(self._counted(value))
        self.check_size(measure(value, most=self.size_max))
        self.spend(made=len(value) if isinstance(value, str | list | tuple | Mapping) else 0)
        return value

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for number, item in enumerate(items):
            self.check_size(number)
            self.spend()
            yield item


def measure(value: Any, *, most: int) -> int:
    """Characters and items in `value`, what stands in it twice counted twice.

    Stops soon after `most`. So no value that holds itself many times over passes for a small one.
    Raises BudgetError for integers of thousands of digits.
    """
    size = 0
    left = [iter((value,))]
    while left and size <= most:
        for one in left[-1]:
            size += len(one) + 1 if isinstance(one, str) else 1
            if isinstance(one, int) and one.bit_length() > _INTEGER_BITS_MAX:
                raise BudgetError(f"it makes an integer of more than {_INTEGER_BITS_MAX} bits")
            if isinstance(one, Mapping):
                left.append(iter(itertools.chain(one.keys(), one.values())))
                break
            if isinstance(one, list | tuple | set | frozenset):
                left.append(iter(one))
                break
            if size > most:
                break
        else:
            left.pop()
    return size


_current: contextvars.ContextVar[Budget] = contextvars.ContextVar("budget of a template")


@contextlib.contextmanager
def granted(budget: Budget) -> Iterator[None]:
    """Within, `current()` is `budget`, on this thread."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Budget:
    """The budget of what is rendered here."""
    return _current.get()
