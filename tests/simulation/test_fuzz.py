"""Random servers keep every promise, seed by seed, and replay exactly; what they are made of."""

from __future__ import annotations

import collections

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import lease_line
from aqua_jax.experiments import fuzzing
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import draws, leaping, line, servers, verdict, whole

SEEDS = 200
SEEDS_LONG = 5_000

# What so many seeds must have met, at least so often.
REACHED = {
    "abort in flight": 20,
    **{f"end {reason}": 20 for reason in ("stop", "length", "abort", "deadline", "refused")},
    "end error": 5,
    "preemptions": 500,
    "recomputed_tokens": 5000,
    **{f"copies {what}": 50 for what in ("failed", "delayed", "refused", "corrupted")},
    "in peer": 300,
    "out peer": 500,
    "move peer": 1,
    "homes_lost": 5,
    "lost messages": 1000,
    "repeated messages": 1000,
    "ledger restarts": 50,
    "ledger leaps": 30,
    **{f"ledger Expired {role}": 10 for role in ("borrower", "lender")},
    "ledger Voided": 10,
    "ledger Fenced": 5,
    "ledger Overdue": 30,
    "reclaims in time": 30,
    "reclaims late": 30,
    "borrower grants_void": 20,
    "lender units_scrubbed": 10,
    "died with requests": 20,
    "died with slots in use": 3,
    **{f"{who} {kind.value}": 3 for who in ("engine", "lender") for kind in servers.Kind},
}


def run(seeds: int, first_seed: int = 0) -> fuzzing.Result:
    wanted = fuzzing.Fuzz(seeds=seeds, first_seed=first_seed)
    result = fuzzing.run(wanted, on_done=lambda done: None, stopped=lambda: False)
    assert result.failure is None, f"seed {result.failure.seed}\n{result.failure.trace}"
    return result


def test_random_servers_keep_every_promise_and_reach_every_case() -> None:
    counts = run(SEEDS).counts
    rare = {what: (counts[what], least) for what, least in REACHED.items() if counts[what] < least}
    assert not rare, f"met too seldom (count, least): {rare}"


@pytest.mark.long
def test_many_random_servers() -> None:
    run(SEEDS_LONG, SEEDS)


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_replays_exactly(seed: int) -> None:
    first, second = whole.run(servers.draw(seed)), whole.run(servers.draw(seed))
    assert first == second
    assert first.counts["decisions"] > 0


def test_a_seed_that_fails_fails_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.ToyMover, "_sum", lambda self, place, units: 0)  # nobody looks
    failed = [
        found.failure
        for found in [fuzzing.run_batch(range(100), lambda: False) for _ in range(2)]
        if found.failure is not None
    ]
    assert len(failed) == 2, "silent corruption passes"
    assert failed[0].what.startswith("WrongTokensError: request")
    assert (failed[0].seed, failed[0].what) == (failed[1].seed, failed[1].what)


def test_draws_of_a_name_do_not_depend_on_others() -> None:
    one, other = draws.Draws(3, "a"), draws.Draws(3, "b")
    first = [one.between(0, 9) for _ in range(20)]
    assert first != [other.between(0, 9) for _ in range(20)]
    again = draws.Draws(3, "a")
    assert first == [again.between(0, 9) for _ in range(20)]
    assert sorted(again.some(1, 5, 9)) == [1, 2, 3, 4, 5]
    assert len(set(again.some(1, 100, 7))) == 7
    assert all(2.0 <= again.within(2.0, 3.0) < 3.0 for _ in range(50))
    assert again.one_of(["x"]) == "x"
    assert (again.chance(0.0), again.chance(1.0)) == (False, True)


def test_a_clock_that_leaps_is_ahead_and_what_was_to_happen_is_late() -> None:
    shared = clocks.VirtualClock()
    own = leaping.LeapingClock(shared)
    happened: list[float] = []
    own.at(1.0, lambda: happened.append(own.now()))
    own.leap(5.0)
    assert (own.now(), shared.now()) == (5.0, 0.0)
    own.wait([], 6.5)
    assert happened == [6.0]
    assert shared.now() == 1.5


def test_a_line_loses_repeats_delays_and_falls_silent() -> None:
    shared = clocks.VirtualClock()
    heard: list[int] = []
    counts: collections.Counter[str] = collections.Counter()

    def answer(ask: lease_line.Ask) -> lease_line.Answer:
        heard.append(ask.number)
        return lease_line.Answer(ask.number, "yes")

    def connect(faults: line.LineFaults) -> line.BadLine:
        heard.clear()
        counts.clear()
        return line.BadLine(faults, shared, answer, counts)

    port = connect(line.LineFaults(repeat=1.0, delay_seconds=0.01))
    port.send(lease_line.Ask(1, "join", {}), 0.0)
    assert port.poll(0.0) == []
    while len(heard) < 2 or len(port._answers) < 4:
        shared.run_next(10**9)
        port.deliver()
    shared.wait([], shared.now() + 0.01)
    assert [one.number for one in port.poll(0.0)] == [1] * 4
    port = connect(line.LineFaults(lose=1.0))
    port.send(lease_line.Ask(1, "join", {}), 0.0)
    assert (heard, counts["lost messages"]) == ([], 1)
    port = connect(line.LineFaults())
    port.answer_until = shared.now() + 1.0
    port.send(lease_line.Ask(1, "join", {}), 0.0)
    assert (heard, port.poll(0.0)) == ([1], [])
    port.ask_until = shared.now() + 1.0
    port.send(lease_line.Ask(2, "join", {}), 0.0)
    assert heard == [1]


def test_a_promise_says_what_was_broken() -> None:
    verdict.promise(True, "never said")
    with pytest.raises(verdict.BrokenPromiseError, match="the page is gone"):
        verdict.promise(False, "the page is gone")
