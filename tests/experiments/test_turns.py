"""Calls take turns, and the first round does not count."""

from __future__ import annotations

from aqua_jax.experiments import turns


def test_calls_take_turns_with_one_round_more_than_counts():
    called: list[str] = []
    seconds = turns.medians([lambda: called.append("a"), lambda: called.append("b")], 2)
    assert called == ["a", "b"] * 3
    assert len(seconds) == 2
    assert min(seconds) >= 0
