"""Answers in words: which are shown, how far, and what is said where arms differ."""

from __future__ import annotations

from aqua_jax.workloads import records, samples

PROMPTS = [b"a", b"b", b"c", b"d"]


def run(arm: str, *answers: bytes, reasons: str = "llll") -> records.RunRecord:
    made = [
        records.RequestRecord(
            id=id,
            tenant="",
            prompt_tokens=1,
            scheduled_at=0.0,
            reason={"l": "length", "a": "abort"}[reasons[id]],
            token_ids=tuple(answer),
        )
        for id, answer in enumerate(answers)
    ]
    return records.RunRecord(arm=arm, evidence="measured", requests=made)


def table(*runs: records.RunRecord, count: int) -> dict[str, dict[str, str]]:
    return samples.table(runs, PROMPTS, lambda ids: bytes(ids).decode(), count=count, eos_ids=[0])


def test_long_prompts_come_first():
    rows = samples.table(
        [run("fcfs", b"answer", b"one")], [b"a", b"bc"], lambda ids: bytes(ids).decode(), count=1
    )
    assert rows["1"]["prompt"] == "bc"


def test_the_longest_that_all_finished_are_shown_up_to_their_end():
    first = run("fcfs", b"one", b"twotwo", b"three\0more", b"long" * 9, reasons="lll" + "a")
    second = run("cfs", b"one", b"twotwo", b"three\0more", b"long" * 9)
    assert table(first, second, count=2) == {
        "1": {"arm": samples.SAME, "prompt": "b", "answer": "twotwo"},
        "2": {"arm": samples.SAME, "prompt": "c", "answer": "three"},
    }


def test_arms_that_differ_are_shown_apart():
    rows = table(run("fcfs", b"one"), run("cfs", b"two"), count=3)
    assert {name: row["answer"] for name, row in rows.items()} == {
        "0, fcfs": "one",
        "0, cfs": "two",
    }
    assert rows["0, cfs"]["arm"] == "cfs"
