"""The headline says what the numbers say, and nothing kinder."""

from __future__ import annotations

from aqua_jax.workloads import headline, records, report
from tests.workloads import synthetic


def _headline(*runs: records.RunRecord, baselines: tuple[str, ...] = ()) -> str:
    return headline.headline(report.assemble(runs, config={}, devices=[], baselines=baselines))


def test_best_candidate_stands_against_best_baseline():
    sentence = _headline(
        synthetic.run("fcfs", first_token_seconds=12.0),
        synthetic.run("fcfs_reserve", first_token_seconds=11.25),
        synthetic.run("cfs_host", first_token_seconds=2.0),
        synthetic.run("cfs_peer", first_token_seconds=0.5),
        baselines=("fcfs", "fcfs_reserve"),
    )
    assert sentence == (
        "The slowest first token came after 0.500 s instead of 11.2 s (cfs_peer against "
        "fcfs_reserve, measured); all 4 answers are identical."
    )


def test_one_arm_is_no_comparison():
    assert _headline(synthetic.run("fcfs")) == (
        "The slowest first token came after 1.00 s (fcfs, measured); all 4 requests finished."
    )


def test_identical_is_not_said_of_answers_that_differ():
    other = synthetic.run("cfs")
    other.requests[2].token_ids = [9, 9, 9]
    sentence = _headline(synthetic.run("fcfs"), other)
    assert sentence.endswith("; the answers of cfs differ from those of fcfs.")


def test_identical_is_not_said_when_requests_did_not_finish():
    runs = [synthetic.run("fcfs"), synthetic.run("cfs")]
    for run in runs:
        run.requests[0].reason = "deadline"
    sentence = _headline(*runs)
    assert sentence.endswith("; fcfs finished 3 of 4, cfs finished 3 of 4.")


def test_arms_without_a_first_token():
    silent = synthetic.run("fcfs")
    for request in silent.requests:
        request.first_token_at, request.reason, request.token_ids = None, "deadline", []
    assert _headline(silent) == (
        "No first token arrived with fcfs (measured); fcfs finished 0 of 4."
    )
    assert "after 1.00 s instead of never (cfs against fcfs" in _headline(
        silent, synthetic.run("cfs")
    )


def test_doubts_are_part_of_the_sentence():
    run = synthetic.run("fcfs", evidence="emulated")
    run.slices_late = 4
    run.interrupted = True
    assert _headline(run).endswith(
        "fcfs was interrupted; not valid: 50.0 % of the emulated times of fcfs were late."
    )


def test_a_sweep_says_the_ratio_at_each_rate():
    assert headline.headline(synthetic.swept()) == (
        "First token p99 of the better baseline over that of cfs: 2.00x at 2 requests/s, 12.0x at"
        " 4 requests/s (simulated, medians over 2 windows); all answers are identical in each of 4"
        " windows."
    )


def test_a_sweep_names_the_window_whose_answers_differ():
    sentence = headline.headline(synthetic.swept(different="cfs"))
    assert sentence.endswith("2 requests/s, seed 1: the answers of cfs differ from those of fcfs.")


def test_a_sweep_without_candidates_is_told_by_the_window_that_is_shown():
    value = synthetic.swept()
    for arms in value["sweep"].values():
        del arms["cfs"]["ratios"]
    assert headline.best_swept(value) == ""
    assert headline.headline(value).startswith("The slowest first token came after")
