"""Runs one engine's scenario to its end; every step and every token is checked.

Knows: what must hold after each step and at the end. Does not know: how clients
behave (`crowd.py`), how the controller decides.
`python -m aqua_jax.simulation.fuzz.harness SEED` replays one seed and shows what
the controller did.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable

from aqua_jax.simulation.fuzz import bench as benches
from aqua_jax.simulation.fuzz import crowd, homes, leased, scenarios, verdict

_STEPS_TO_COME_HOME = 5000
_REPLAY = "python -m aqua_jax.simulation.fuzz.harness"


def run_seeds(seeds: Iterable[int]) -> verdict.Report:
    """Runs every seed; a failure names its seed and the command that replays it."""
    total = verdict.Report()
    for seed in seeds:
        try:
            total.add(run(scenarios.draw(seed)))
        except Exception as error:
            error.add_note(f"seed {seed}; replay: {_REPLAY} {seed}")
            raise
    return total


def run(scenario: benches.Scenario) -> verdict.Report:
    """Runs the scenario to its end, checks integrity after every step and the tokens at the end."""
    return run_on(benches.Bench(scenario), scenario)


def run_on(bench: benches.Bench, scenario: benches.Scenario) -> verdict.Report:
    """The same on a bench that was made for it."""
    return _Run(bench, scenario).run()


class _Run:
    """One run: the clients' events and the engine's steps, interleaved in virtual time."""

    def __init__(self, bench: benches.Bench, scenario: benches.Scenario) -> None:
        self._bench = bench
        self._scenario = scenario
        self._report = verdict.Report()
        self._lenders = homes.Lenders(bench, self._report.counts)
        self._crowd = crowd.Crowd(bench, scenario, self._report)
        for loan in scenario.loans:
            self._crowd.at(loan.at, lambda loan=loan: self._lenders.offer(loan))

    def run(self) -> verdict.Report:
        for _ in range(benches.STEPS_MAX):
            self._crowd.run_due()
            self._lenders.step()
            if self._bench.leased:
                self._bench.leased.step()
            self._crowd.read_eager()
            if self._crowd.is_over:
                break
            self._bench.step(self._crowd.next_at)
            self._lenders.check_patience()
            self._crowd.look()
        else:
            raise verdict.BrokenPromiseError(
                f"no end after {benches.STEPS_MAX} steps: {self._bench.describe()}"
            )
        if self._bench.leased:
            self._take_home(self._bench.leased)
        self._bench.engine.close()
        self._bench.check_all_free()
        self._lenders.check_end()
        self._crowd.check_end()
        self._report.seconds = self._bench.clock.now()
        return self._report

    def _take_home(self, scene: leased.Scene) -> None:
        """The lender gets all that it lent, while nobody lives any more."""
        scene.check_deadlines()
        scene.wind_up()
        for _ in range(_STEPS_TO_COME_HOME):
            if scene.is_all_home:
                break
            self._bench.step()
            scene.step()
        verdict.promise(scene.is_all_home, f"memory is lost: {scene.ledger.snapshot()}")
        counts = self._report.counts
        counts.update(scene.counts)
        for field in dataclasses.fields(scene.borrower.counters):
            counts[f"borrower {field.name}"] += getattr(scene.borrower.counters, field.name)


def replay(seed: int) -> None:
    """Runs one seed, writes what the controller did and how it ended."""
    scenario = scenarios.draw(seed)
    bench = benches.Bench(scenario)
    write = sys.stdout.write
    write(f"{dataclasses.replace(scenario, clients=())}\n")
    try:
        report = run_on(bench, scenario)
    finally:
        for event in bench.controller.log.events:
            write(f"{event.at:10.5f} {event.name:16} session {event.session:3} {event.value}\n")
    write(f"{dict(report.counts)}\n")


if __name__ == "__main__":
    replay(int(sys.argv[1]))
