"""A client's handle: bounded, readable from another thread, ended with a reason."""

from __future__ import annotations

import threading

import pytest

from aqua_jax.control import errors
from aqua_jax.engine import streams


class Client:
    """A stream of at most three unread tokens, and what it told the engine and the sink."""

    def __init__(self, *, with_sink: bool = False) -> None:
        self.rooms: list[int] = []
        self.seen: list[tuple[list[int], str, float]] = []
        self.stream = streams.Stream(
            7,
            tokens_max=3,
            on_room=self.rooms.append,
            sink=(lambda *what: self.seen.append((list(what[0]), *what[1:])))
            if with_sink
            else None,
        )

    def deliver(self, tokens: list[int], reason: str = "", *, at: float = 1.0) -> bool:
        return self.stream.deliver(tokens, reason, at, None)


def test_reading_takes_all_there_is() -> None:
    client = Client()
    assert client.stream.read() == []
    client.deliver([1])
    client.deliver([2])
    assert client.stream.read() == [1, 2]
    assert client.stream.read() == []


def test_full_is_said_once_read_and_room_is_told() -> None:
    client = Client()
    assert not client.deliver([1, 2])
    assert client.deliver([3])
    assert client.deliver([4])  # from a slice in flight: kept, never dropped
    assert client.rooms == []
    assert client.stream.read() == [1, 2, 3, 4]
    assert client.rooms == [7]
    client.deliver([5])
    client.stream.read()
    assert client.rooms == [7]  # it was not full this time


def test_what_ends_full_is_not_to_be_parked() -> None:
    client = Client()
    assert not client.deliver([1, 2, 3, 4], "stop")
    assert client.stream.read() == [1, 2, 3, 4]
    assert client.rooms == []


def test_times_and_reason_are_kept() -> None:
    client = Client()
    client.deliver([], at=1.0)
    assert client.stream.first_token_at is None
    client.deliver([1], at=2.0)
    client.deliver([2], "length", at=3.0)
    stream = client.stream
    assert (stream.first_token_at, stream.ended_at, stream.reason) == (2.0, 3.0, "length")
    assert stream.ended


def test_a_sink_gets_everything_and_nothing_is_kept() -> None:
    client = Client(with_sink=True)
    assert not client.deliver([1, 2, 3, 4, 5], at=1.0)
    client.deliver([6], "stop", at=2.0)
    assert client.seen == [([1, 2, 3, 4, 5], "", 1.0), ([6], "stop", 2.0)]
    assert client.stream.read() == []


def test_tokens_come_in_order_from_another_thread() -> None:
    client = Client()

    def work() -> None:
        for number in range(50):
            client.deliver([number], "length" if number == 49 else "")

    thread = threading.Thread(target=work)
    thread.start()
    assert list(client.stream.tokens(timeout_seconds=5.0)) == list(range(50))
    thread.join()


def test_waiting_in_vain_has_an_end() -> None:
    client = Client()
    client.deliver([1])
    tokens = client.stream.tokens(timeout_seconds=0.01)
    assert next(tokens) == 1
    with pytest.raises(TimeoutError, match=r"request 7: no token for 0\.01 s"):
        next(tokens)


def test_an_error_is_raised_after_the_tokens_that_came_before() -> None:
    client = Client()
    client.deliver([1])
    client.stream.deliver((), "error", 2.0, errors.PoolLostError("gone"))
    tokens = client.stream.tokens(timeout_seconds=0.01)
    assert next(tokens) == 1
    with pytest.raises(errors.PoolLostError, match="gone"):
        next(tokens)


def test_a_stream_holds_at_least_one_token() -> None:
    assert streams.check_tokens_max(1) == 1
    with pytest.raises(errors.ConfigError, match="stream_tokens_max is 0; give at least 1"):
        streams.check_tokens_max(0)
