"""A line to the ledger: one request at a time, asked again, answered once."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors, lease_line, lease_types, leases

LENDER = lease_types.Role.LENDER


class Port:
    """Keeps what is sent; answers what it is given."""

    def __init__(self) -> None:
        self.sent: list[lease_line.Ask] = []
        self.answers: list[lease_line.Answer] = []

    def send(self, ask: lease_line.Ask, now: float) -> None:
        self.sent.append(ask)

    def poll(self, now: float) -> list[lease_line.Answer]:
        answers, self.answers = self.answers, []
        return answers


def make() -> tuple[lease_line.Line, Port]:
    port = Port()
    return lease_line.Line(port, timeout_seconds=1.0, now=0.0), port


def test_the_same_is_sent_again_until_its_answer_comes() -> None:
    line, port = make()
    line.ask("heartbeat", 2.0, client="a")
    assert line.wakes_at() == 3.0
    assert line.poll(2.9) is None
    assert line.poll(3.0) is None
    assert line.poll(3.5) is None
    assert port.sent == [lease_line.Ask(1, "heartbeat", {"client": "a"})] * 2
    assert (line.repeats, line.heard_at, line.wakes_at()) == (1, 0.0, 4.0)
    port.answers = [lease_line.Answer(1, "yes"), lease_line.Answer(1, "yes")]
    assert line.poll(3.7) == (port.sent[0], lease_line.Answer(1, "yes"))
    assert line.heard_at == 2.0  # it was there when it was first asked, or later
    assert line.poll(9.0) is None  # the repeat is dropped, nothing is sent
    assert len(port.sent) == 2


def test_answers_to_former_requests_are_dropped() -> None:
    line, port = make()
    line.ask("heartbeat", 0.0)
    line.forget(5.0)
    assert line.heard_at == 5.0
    line.ask("join", 5.0)
    port.answers = [lease_line.Answer(1, "late")]
    assert line.poll(5.0) is None
    assert line.asked == lease_line.Ask(2, "join", {})


def test_one_request_at_a_time() -> None:
    line, _ = make()
    line.ask("heartbeat", 0.0)
    with pytest.raises(errors.InternalError, match=r"join is asked while .*heartbeat.* waits"):
        line.ask("join", 0.0)


def test_a_line_must_run_out_of_patience() -> None:
    with pytest.raises(errors.ConfigError, match="timeout_seconds is 0: give more than 0"):
        lease_line.Line(Port(), timeout_seconds=0, now=0.0)


def test_a_ledger_in_this_process_answers_at_once_and_its_refusals_are_answers() -> None:
    port = lease_line.DirectPort(leases.Ledger(unit_bytes=1))
    line = lease_line.Line(port, timeout_seconds=1.0, now=0.0)
    line.ask("heartbeat", 0.0, client="a", incarnation=1)
    came = line.poll(0.0)
    assert came is not None
    assert isinstance(came[1].error, errors.UnknownClientError)
    line.ask("join", 0.0, client="a", role=LENDER, incarnation=1)
    came = line.poll(0.0)
    assert came is not None
    assert (came[1].error, came[1].value) == (None, ())


def test_only_calls_of_the_ledger_are_carried() -> None:
    with pytest.raises(errors.InternalError, match="'restore' is no call of the ledger"):
        lease_line.answer(leases.Ledger(unit_bytes=1), lease_line.Ask(1, "restore", {}), 0.0)
