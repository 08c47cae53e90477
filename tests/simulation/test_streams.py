"""Operations of a stream run one at a time, in order."""

from __future__ import annotations

from collections.abc import Callable

from aqua_jax.simulation import streams


def test_the_next_starts_when_the_one_before_says_so() -> None:
    stream, started, ends = streams.Stream(), [], []

    def operation(name: str) -> streams.Operation:
        def start(done: Callable[[], None]) -> None:
            started.append(name)
            ends.append(done)

        return start

    for name in "abc":
        stream.submit(operation(name))
    assert started == ["a"]
    ends.pop()()
    assert started == ["a", "b"]
    ends.pop()()
    ends.pop()()
    assert started == ["a", "b", "c"]
    stream.submit(operation("d"))
    assert started[-1] == "d"


def test_an_operation_may_be_done_at_once_and_submit_more() -> None:
    stream, started = streams.Stream(), []

    def first(done: Callable[[], None]) -> None:
        stream.submit(second)
        started.append("first")
        done()

    def second(done: Callable[[], None]) -> None:
        started.append("second")
        done()

    stream.submit(first)
    assert started == ["first", "second"]
