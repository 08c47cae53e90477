"""What tests of mutants share: a method put in the place of another, and what the seeds then raise.

Knows: how to run seeds until one fails. Does not know: which mistakes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aqua_jax.simulation.fuzz import bench, harness, scenarios

SEEDS_MAX = 600
STEPS_MAX = 8000  # of a run: more is stuck

Patch = pytest.MonkeyPatch
Mutate = Callable[[Patch], None]


def wrap(patch: Patch, owner: type, name: str, mutant: Callable[..., Any]) -> None:
    """Replaces the method `name` by `mutant(original, self, ...)`."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **fields: mutant(original, *args, **fields))


def failures(patch: Patch) -> Iterator[Exception]:
    """What the seeds raise, one after the other."""
    patch.setattr(bench, "STEPS_MAX", STEPS_MAX)
    for seed in range(SEEDS_MAX):
        try:
            harness.run(scenarios.draw(seed))
        except Exception as error:
            yield error
