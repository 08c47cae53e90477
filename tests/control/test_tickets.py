"""A ticket is completed once and its result read once."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors, tickets


def test_a_result_is_there_once_and_then_read() -> None:
    ticket = tickets.Ticket("copy")
    assert not ticket.done()
    ticket.complete([1, 2], at=3.5)
    assert ticket.done()
    assert ticket.finished_at == 3.5
    assert ticket.error is None
    assert ticket.result() == [1, 2]
    with pytest.raises(errors.InternalError, match="read before: a result is read once"):
        ticket.result()


def test_a_failure_is_seen_without_reading_and_raised_once() -> None:
    ticket = tickets.Ticket("slice")
    ticket.fail(RuntimeError("boom"), at=1.0)
    assert ticket.done()
    assert str(ticket.error) == "boom"
    with pytest.raises(RuntimeError, match="boom"):
        ticket.result()
    with pytest.raises(errors.InternalError, match="read before"):
        ticket.result()


def test_what_is_pending_has_no_result() -> None:
    with pytest.raises(errors.InternalError, match=r"pending: wait for it with clock\.wait"):
        tickets.Ticket().result()


def test_a_ticket_completes_once() -> None:
    ticket = tickets.Ticket("copy")
    ticket.complete(at=0.0)
    for again in (lambda: ticket.complete(at=1.0), lambda: ticket.fail(ValueError(), at=1.0)):
        with pytest.raises(errors.InternalError, match="completed twice"):
            again()
    assert ticket.finished_at == 0.0


def test_ids_differ_and_the_text_says_how_it_stands() -> None:
    first, second = tickets.Ticket("a"), tickets.Ticket()
    assert first.id != second.id
    assert repr(first) == f"Ticket({first.id}, a, pending)"
    first.complete(at=0.0)
    second.fail(ValueError(), at=0.0)
    assert repr(first) == f"Ticket({first.id}, a, done)"
    assert repr(second) == f"Ticket({second.id}, unnamed, failed)"
