"""The production controller and engine under random load, clients and faults, seed by seed.

Every run checks the integrity of everything after every step, ends with every
page FREE and compares each token with an undisturbed run. The counts show that
the seeds reach the rare cases; a seed set that no longer does is itself a fault.
"""

from __future__ import annotations

import pytest

from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import harness, scenarios, verdict

SEEDS = 400
SEEDS_LONG = 20_000
REACHED_SEEDS = 800

# What a set of seeds must have met, at least so often in REACHED_SEEDS.
REACHED = {
    **{f"abort {state}": 10 for state in ("waiting", "running", "paused", "leaving", "away")},
    "abort arriving": 5,
    "abort in flight": 50,
    "abort parked": 10,
    # A session that arrives has nothing in flight, so its stream cannot fill up: it is not parked.
    **{f"park {state}": 50 for state in ("waiting", "paused", "leaving")},
    "unpark": 500,
    **{f"end {reason}": 50 for reason in ("stop", "length", "abort", "deadline", "refused")},
    "end error": 20,
    "too large": 20,
    "came while draining": 20,
    "drain": 30,
    "preemptions": 1000,
    "recomputed_tokens": 1000,
    "overrun_tokens": 100,
    "copy_errors": 100,
    **{f"{way} {tier}": 300 for way in ("out", "in") for tier in ("peer", "host")},
    "wasted": 300,
    "attended all": 50_000,
    "attended long": 5000,
    "abort attended": 3,
    **{f"end long {reason}": 10 for reason in ("stop", "length", "abort", "deadline")},
    # Memory of lenders: as it comes and goes (`homes.py`), and by leases (`leased.py`).
    "lent": 500,
    "lent again": 80,
    "called back in use": 150,
    "called back in part": 150,
    **{f"move {tier}": 30 for tier in ("peer", "host")},
    **{f"moving {where}": 10 for where in ("away", "arriving", "leaving", "attended")},
    "abort moving": 2,
    "died in use": 60,
    "died called back": 10,
    "died with state": 50,
    "void slices": 50,
    "homes_lost": 100,
    "reclaims": 100,
    "borrower reclaims_met": 20,
    "borrower reclaims_late": 3,
    "borrower grants_void": 15,
    "Fenced": 3,
    "ledger restarts": 20,
    "lost messages": 1000,
    # Prompts that begin alike, in half of the runs.
    "prefix_hit_tokens": 20_000,
    "shared on device": 10_000,
    "shared away": 1000,
    "waits for a page": 200,
    "waits arriving": 30,
    "waits leaving": 30,
}


def test_random_runs_keep_every_promise_and_reach_every_case() -> None:
    assert_reached(harness.run_seeds(range(SEEDS)), SEEDS)


@pytest.mark.long
def test_many_random_runs() -> None:
    assert_reached(harness.run_seeds(range(SEEDS, SEEDS + SEEDS_LONG)), SEEDS_LONG)


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_replays_exactly(seed: int) -> None:
    first, second = harness.run(scenarios.draw(seed)), harness.run(scenarios.draw(seed))
    assert first == second
    assert first.counts["decisions"] > 0


def test_a_failing_seed_is_named_with_the_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(toy, "expected_tokens", lambda request: [0] * request.steps_max)
    with pytest.raises(verdict.WrongTokensError) as caught:
        harness.run_seeds([7])
    command = "python -m aqua_jax.simulation.fuzz.harness 7"
    assert caught.value.__notes__ == [f"seed 7; replay: {command}"]


def assert_reached(report: verdict.Report, seeds: int) -> None:
    rare = {
        what: (report.counts[what], least)
        for what, least in REACHED.items()
        if report.counts[what] < least * seeds // REACHED_SEEDS
    }
    assert not rare, f"met too seldom (count, least): {rare}"
