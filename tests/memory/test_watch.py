"""The watcher completes tickets in order, reports failures, and ends."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import tickets
from aqua_jax.memory import watch

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_tickets_complete_in_order_with_their_results() -> None:
    clock = clocks.MonotonicClock()
    watcher = watch.ReadyWatcher(clock, "test")
    pending = [tickets.Ticket(str(i)) for i in range(4)]
    for i, ticket in enumerate(pending):
        watcher.watch([jnp.full((3,), i)], ticket, finish=lambda i=i: i * 10)
    watcher.close()
    assert [t.result() for t in pending] == [0, 10, 20, 30]
    finished = [t.finished_at or 0.0 for t in pending]
    assert finished == sorted(finished)


def test_a_failure_is_the_tickets_and_the_next_still_completes() -> None:
    clock = clocks.MonotonicClock()
    watcher = watch.ReadyWatcher(clock, "test")
    fails, works = tickets.Ticket("fails"), tickets.Ticket("works")

    def finish() -> None:
        raise OSError("disk full")

    watcher.watch(jnp.zeros(()), fails, finish)
    watcher.watch(jnp.zeros(()), works)
    watcher.close()
    with pytest.raises(OSError, match="disk full"):
        fails.result()
    assert works.result() is None


def test_a_completion_ends_the_engines_wait() -> None:
    clock = clocks.MonotonicClock()
    watcher = watch.ReadyWatcher(clock, "test")
    ticket = tickets.Ticket("watched")
    watcher.watch(jnp.zeros(()), ticket)
    while not clock.wait([ticket], clock.now() + 10):
        assert clock.now() < 10
    assert clock.now() < 10
    watcher.close()


def test_a_process_may_exit_while_arrays_are_watched() -> None:
    """The thread must not be caught inside XLA by the end of the interpreter."""
    script = """
        import jax, jax.numpy as jnp
        from aqua_jax.control import clock, tickets
        from aqua_jax.memory import watch
        square = jnp.full((512, 512), 0.01)
        busy = jax.jit(lambda x: jax.lax.fori_loop(0, 300, lambda _, y: jnp.tanh(y @ x), x))
        busy(square).block_until_ready()
        watcher = watch.ReadyWatcher(clock.MonotonicClock(), "test")
        ticket = tickets.Ticket("watched")
        watcher.watch(busy(square), ticket)
        assert not ticket.done()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    finished = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert finished.returncode == 0, finished.stderr
