"""The expected length of a slice, learnt from those that ran."""

from __future__ import annotations

import pytest

from aqua_jax.engine import pace


def test_what_never_ran_counts_as_nothing() -> None:
    fresh = pace.Pace()
    assert fresh.seconds(1, 4) == 0.0
    fresh.learn(0, 4, 0.04)
    assert fresh.seconds(0, 8) == pytest.approx(0.08)
    assert fresh.seconds(1, 8) == pytest.approx(0.08)  # no prefill ran yet


def test_chunks_are_what_the_steps_leave() -> None:
    learnt = pace.Pace()
    learnt.learn(0, 4, 0.04)
    learnt.learn(2, 3, 0.13)
    assert learnt.chunk_seconds == pytest.approx(0.05)
    assert learnt.seconds(1, 1) == pytest.approx(0.06)


def test_the_mean_follows_slowly_and_one_slow_slice_does_not_rule() -> None:
    learnt = pace.Pace()
    for _ in range(50):
        learnt.learn(0, 1, 0.01)
    learnt.learn(0, 1, 1.0)
    assert 0.01 < learnt.step_seconds < 0.25
    for _ in range(50):
        learnt.learn(0, 1, 0.02)
    assert learnt.step_seconds == pytest.approx(0.02, rel=0.01)


def test_an_empty_slice_teaches_nothing() -> None:
    learnt = pace.Pace()
    learnt.learn(0, 0, 5.0)
    assert (learnt.chunk_seconds, learnt.step_seconds) == (0.0, 0.0)


def test_the_hosts_share_is_a_running_mean() -> None:
    learnt = pace.Pace()
    assert learnt.host_seconds == 0
    learnt.learn_host(0.002)
    learnt.learn_host(0.004)
    assert 0.002 < learnt.host_seconds < 0.004
