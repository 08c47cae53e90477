"""The ledger's clients: who is there, in which life, which request came last. And its time.

Knows: ids, lives, request counts, when each was heard. Does not know: leases,
grants, what a request means.

    join           heartbeat, request        silent for too long, or a newer life
    ----> PRESENT ---------------+           joins, or leave
            ^  |   <-------------+
            |  +------------------------------> GONE   (its latest life is remembered)
            +---------- join, newer life ---------+

Requests: the latest of each client is kept with its answer, or with the error
that refused it. The same again returns the same and does nothing; an older one
is refused. Numbers may be left out: who gives a request up goes on with the
next, and the late message is then an older one.

Time: the ledger's own advances with the `now` it is given, by `jump_seconds_max`
between two calls at most, and never backwards. So a machine that was suspended,
or a clock that was set, does not end everybody at once: whoever lives has the
time to say so. What was skipped is added to every time the ledger states, so
that deadlines are told on the clock of its callers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar

from aqua_jax.control import errors, lease_types

Answer = TypeVar("Answer")


@dataclasses.dataclass(slots=True)
class Client:
    """One client in its latest life. `answer` is None while `refusal` is what it was told."""

    id: str
    role: lease_types.Role
    incarnation: int
    heard_at: float  # ledger time
    present: bool = True
    request: int = 0  # the latest; 0: none
    call: tuple[str, str] = ("", "")  # its name and its arguments
    answer: Any = None
    refusal: errors.LeaseError | None = None


class LedgerTime:
    """Seconds that do not leap; equal to the callers' until one of their calls was far apart."""

    def __init__(self, *, jump_seconds_max: float) -> None:
        self.jump_seconds_max = jump_seconds_max
        self.seen: float | None = None  # the latest `now`
        self.skipped = 0.0  # callers' clock less the ledger's time

    @property
    def elapsed(self) -> float:
        """The ledger's time."""
        return (self.seen or 0.0) - self.skipped

    def advance(self, now: float) -> None:
        """A call came at `now`. Raises LeaseError when that is no time."""
        if not math.isfinite(now):
            raise errors.LeaseError(f"now is {now}: expected seconds of a clock")
        step = 0.0 if self.seen is None else now - self.seen
        if step < 0:
            self.skipped += step
        elif step > self.jump_seconds_max:
            self.skipped += step - self.jump_seconds_max
        self.seen = now


class Clients:
    """All clients, by id. Not thread-safe."""

    def __init__(self, time: LedgerTime, *, silence_seconds_max: float, clients_max: int) -> None:
        self.time = time
        self.silence_seconds_max = silence_seconds_max
        self.clients_max = clients_max
        self.by_id: dict[str, Client] = {}

    def join(self, id: str, role: lease_types.Role, incarnation: int) -> Client | None:
        """A new life, PRESENT from now on; the former one if that had not ended.

        Raises StaleRequestError when a newer life is known. The caller has handled repeats.
        """
        former = self.by_id.pop(id, None)
        if former is None and len(self.by_id) >= self.clients_max:
            self._forget_one()
        self.by_id[id] = Client(id, role, incarnation, self.time.elapsed)
        return former if former is not None and former.present else None

    def is_repeat(self, id: str, role: lease_types.Role, incarnation: int) -> bool:
        """True when this life has joined already. Raises StaleRequestError for a former life."""
        if not id or type(incarnation) is not int or incarnation < 1:
            raise errors.LeaseError(
                f"client {id!r} joins as life {incarnation!r}: expected a name, and a whole number"
                " from 1 that is larger in each life"
            )
        known = self.by_id.get(id)
        if known is None or incarnation > known.incarnation:
            return False
        if incarnation < known.incarnation:
            raise _former_life(known, incarnation)
        if not known.present or role is not known.role:
            raise errors.UnknownClientError(
                f"life {incarnation} of {known.role.value} {id!r}"
                f" {'is there already' if known.present else 'has ended'} and {role.value} {id!r}"
                " joins with it: expected a larger number for each new life"
            )
        return True

    def hear(self, id: str, incarnation: int) -> Client:
        """The client lives. Raises UnknownClientError or StaleRequestError."""
        client = self._in_this_life(id, incarnation)
        if not client.present:
            raise _gone(client)
        client.heard_at = self.time.elapsed
        return client

    def once(
        self,
        stamp: lease_types.Stamp,
        call: tuple[str, str],
        role: lease_types.Role | None,
        work: Callable[[], Answer],
    ) -> Answer:
        """The answer of `work()`, or for the same request again the answer that it had.

        call: its name and arguments, to tell a repeat from a number used twice. role: of those who
        may call; None: everybody. A refusal by `work` is an answer: it is repeated too.
        """
        client = self._in_this_life(stamp.client, stamp.incarnation)
        if type(stamp.request) is not int or stamp.request < 1:
            raise errors.LeaseError(f"{stamp}: expected requests counted from 1")
        if stamp.request == client.request:
            return _repeat(client, call)
        if stamp.request < client.request:
            raise errors.StaleRequestError(
                f"request {stamp.request} of {stamp.client!r} comes after its request"
                f" {client.request}: it was given up, send nothing but the latest again"
            )
        if not client.present:
            raise _gone(client)
        if role not in (None, client.role):
            raise errors.UnknownClientError(
                f"{stamp.client!r} is a {client.role.value} and asks to {call[0]}: expected a"
                f" {role.value if role else ''}; who lends and borrows joins under two ids"
            )
        client.heard_at = self.time.elapsed
        try:
            answer = work()
        except errors.LeaseError as refusal:
            client.request, client.call = stamp.request, call
            client.answer, client.refusal = None, refusal
            raise
        client.request, client.call = stamp.request, call
        client.answer, client.refusal = answer, None
        return answer

    def silent(self) -> list[Client]:
        """Those PRESENT who were not heard for longer than they may be silent, by id."""
        since = self.time.elapsed - self.silence_seconds_max
        return [c for _, c in sorted(self.by_id.items()) if c.present and c.heard_at < since]

    def present(self, id: str, role: lease_types.Role | None = None) -> Client:
        """The client. Raises UnknownClientError when it is not PRESENT, or not of that role."""
        client = self.by_id.get(id)
        if client is None or role not in (None, client.role):
            raise errors.UnknownClientError(
                f"no {role.value if role else 'client'} {id!r} is known: join first"
            )
        if not client.present:
            raise _gone(client)
        return client

    def snapshot(self) -> list[dict[str, Any]]:
        """Plain values, one entry a client."""
        return [_plain(client) for _, client in sorted(self.by_id.items())]

    def restore(self, plain: list[dict[str, Any]]) -> None:
        """Takes over what `snapshot` wrote."""
        self.by_id = {entry["id"]: _client(entry) for entry in plain}

    def _in_this_life(self, id: str, incarnation: int) -> Client:
        client = self.by_id.get(id)
        if client is None:
            raise errors.UnknownClientError(f"client {id!r} is not known: join first")
        if incarnation < client.incarnation:
            raise _former_life(client, incarnation)
        if incarnation > client.incarnation:
            raise errors.UnknownClientError(
                f"life {incarnation} of {id!r} has not joined, life {client.incarnation} has:"
                " join first"
            )
        return client

    def _forget_one(self) -> None:
        """Makes room: the one GONE that was silent for longest is forgotten."""
        gone = [client for client in self.by_id.values() if not client.present]
        if not gone:
            raise errors.LeaseError(
                f"{len(self.by_id)} clients are there and clients_max is {self.clients_max}:"
                " raise it"
            )
        del self.by_id[min(gone, key=lambda client: (client.heard_at, client.id)).id]


def _repeat(client: Client, call: tuple[str, str]) -> Any:
    if call != client.call:
        raise errors.StaleRequestError(
            f"request {client.request} of {client.id!r} was {' '.join(client.call)} and comes again"
            f" as {' '.join(call)}: give each call a number of its own"
        )
    if client.refusal is not None:
        raise type(client.refusal)(*client.refusal.args)
    return client.answer


def _former_life(client: Client, incarnation: int) -> errors.StaleRequestError:
    return errors.StaleRequestError(
        f"life {incarnation} of {client.id!r} is over, life {client.incarnation} has joined:"
        " a late message, or two processes with one id"
    )


def _gone(client: Client) -> errors.UnknownClientError:
    return errors.UnknownClientError(
        f"life {client.incarnation} of {client.role.value} {client.id!r} has ended (silent for too"
        " long, or it left): drop all grants and leases of it, and join with a larger incarnation"
    )


def forget_requests(client: Client) -> None:
    """PRESENT -> GONE of one that did not say so: what it was answered holds no more."""
    client.present = False
    client.request, client.call, client.answer, client.refusal = 0, ("", ""), None, None


def _plain(client: Client) -> dict[str, Any]:
    refusal = client.refusal
    return {
        "id": client.id,
        "role": client.role.value,
        "incarnation": client.incarnation,
        "heard_at": client.heard_at,
        "present": client.present,
        "request": client.request,
        "call": list(client.call),
        "answer": lease_types.plain(client.answer),
        "refusal": None if refusal is None else [type(refusal).__name__, str(refusal)],
    }


def _client(plain: dict[str, Any]) -> Client:
    name, text = plain["refusal"] or ("", "")
    return Client(
        id=plain["id"],
        role=lease_types.Role(plain["role"]),
        incarnation=plain["incarnation"],
        heard_at=plain["heard_at"],
        present=plain["present"],
        request=plain["request"],
        call=(plain["call"][0], plain["call"][1]),
        answer=lease_types.answer_of(plain["call"][0], plain["answer"]),
        refusal=_REFUSALS[name](text) if name else None,
    )


_REFUSALS = {
    refusal.__name__: refusal
    for refusal in (
        errors.LeaseError,
        errors.UnitsError,
        errors.StaleGrantError,
        errors.ForeignGrantError,
    )
}
