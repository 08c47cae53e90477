"""Ctrl-C: at once, gently, and for whoever does not wait."""

from __future__ import annotations

import signal

import pytest

from aqua_jax.experiments import stopping


@pytest.fixture
def stop():
    """What hears it, as it was before afterwards."""
    before = signal.getsignal(signal.SIGINT)
    yield stopping.Stop()
    signal.signal(signal.SIGINT, before)


def test_it_ends_the_process_at_once_where_nothing_is_to_be_saved(stop):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not stop()


def test_where_something_is_the_first_asks_and_the_second_does_not_wait(stop):
    with stop.gently():
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_work_on_a_thread_gives_its_result_or_its_error():
    assert stopping.on_a_thread(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        stopping.on_a_thread(lambda: 1 // 0)
