"""Random servers over many seeds and processes, and what they met; the first failure, by its seed.

Knows: seeds, batches, what a report of them says. Does not know: what a run does
(`aqua_jax/simulation/fuzz/whole.py`), flags.
"""

from __future__ import annotations

import collections
import dataclasses
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from aqua_jax.control import errors
from aqua_jax.experiments import processes
from aqua_jax.simulation.fuzz import servers, whole
from aqua_jax.workloads import environment

_BATCH_SEEDS = 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fuzz:
    """The settings: `seeds` from `first_seed` on, in so many processes; workers 0: all cores."""

    seeds: int = 1000
    first_seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("first_seed", 0), ("workers", 0)):
            if getattr(self, name) < least:
                raise errors.ConfigError(f"{name} is {getattr(self, name)}; give at least {least}")

    @property
    def batches(self) -> list[range]:
        """The seeds, a few at a time."""
        end = self.first_seed + self.seeds
        return [
            range(first, min(first + _BATCH_SEEDS, end))
            for first in range(self.first_seed, end, _BATCH_SEEDS)
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A seed whose run broke a promise: what was raised, and where."""

    seed: int
    what: str
    trace: str


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """A batch that was run, up to its first failure. counts: of what was met."""

    batch: range
    seeds: int
    counts: Mapping[str, int]
    seconds: float
    failure: Failure | None

    @property
    def name(self) -> str:
        """Which seeds."""
        return f"seeds {self.batch[0]} to {self.batch[-1]}"

    @property
    def text(self) -> str:
        """How it went, in a few words."""
        return f"seed {self.failure.seed} fails" if self.failure else "pass"


@dataclasses.dataclass(slots=True)
class Result:
    """All batches together. failure: of the lowest seed."""

    seeds: int = 0
    seconds: float = 0.0
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failure: Failure | None = None


def run(fuzz: Fuzz, *, on_done: Callable[[Done], None], stopped: Callable[[], bool]) -> Result:
    """Runs the seeds; once one has failed, only those below it are still waited for."""
    result = Result()
    left = {batch[0] for batch in fuzz.batches}

    def is_enough() -> bool:
        found = result.failure
        return stopped() or (found is not None and not any(seed < found.seed for seed in left))

    workers = min(fuzz.workers or processes.cores(), len(fuzz.batches))
    for done in processes.run_all(run_batch, fuzz.batches, workers=workers, stopped=is_enough):
        left.discard(done.batch[0])
        result.seeds += done.seeds
        result.seconds += done.seconds
        result.counts.update(done.counts)
        found = done.failure
        if found is not None and (result.failure is None or found.seed < result.failure.seed):
            result.failure = found
        on_done(done)
    return result


def run_batch(batch: range, stopped: Callable[[], bool]) -> Done:
    """Runs seeds one after the other, to the first that fails."""
    counts: collections.Counter[str] = collections.Counter()
    seconds, seeds = 0.0, 0
    for seed in batch:
        if stopped():
            break
        seeds += 1
        try:
            found = whole.run(servers.draw(seed))
        except Exception as error:  # whatever a run raises, no seed may
            what = f"{type(error).__name__}: {error}"
            failure = Failure(seed, what, "".join(traceback.format_exception(error)))
            return Done(batch, seeds, counts, seconds, failure)
        counts.update(found.counts)
        seconds += found.seconds
    return Done(batch, seeds, counts, seconds, None)


def report(fuzz: Fuzz, result: Result, *, config: Mapping[str, Any]) -> dict[str, Any]:
    """The value of `report.json`: counts of what was met over all seeds, virtual seconds."""
    failure = result.failure
    return {
        "schema_version": 1,
        "config": dict(config),
        "evidence": "simulated",
        "hardware": environment.hardware([]),
        "versions": environment.versions(),
        "fuzz": {
            "seeds": result.seeds,
            "virtual_seconds": result.seconds,
            "failure": None if failure is None else {"seed": failure.seed, "what": failure.what},
            "counts": {name: result.counts[name] for name in sorted(result.counts)},
        },
    }
