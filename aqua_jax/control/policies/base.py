"""What a policy decides: an order, and who may displace whom. Nothing else.

A policy is a small pure object: it reads sessions and keeps at most a few
numbers, in all and for each of the living. It holds no queue, knows no pages
and no lanes; the controller sorts by `key` and asks `may_displace`. So a new
policy is one short file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Protocol

from aqua_jax.control import errors, types

Key = tuple[float, ...]
Group = str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """What a unit of work is charged, in weighted tokens."""

    prefill: float = 0.5
    decode: float = 1.0

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens of so much work."""
        return self.prefill * prefill_units + self.decode * step_units


@dataclasses.dataclass(frozen=True, slots=True)
class PolicySettings:
    """The head `policy` of a config.

    quantum_tokens: the least service a session gets before it may be preempted under contention.
    prefill_quantum_tokens: the same for a session that has not finished its prefill.
    newcomer_quantum_tokens: the same where the one that waits has no token yet.
    newcomer_lead_tokens: virtual time by which such a one goes ahead of its place; with
    sessions_fair, sessions that the floor of virtual time shares the device among, it bounds how
      long a stream of newcomers can overtake (see `cfs.py`).
    weights: what a prefill row and a decode step are charged, in weighted tokens.
    tenant_weights: weight of a tenant; 1 when not named.
    reading_tokens_per_second: how fast clients read; only `buffered` asks.
    """

    name: str = "cfs"
    quantum_tokens: int = 64
    prefill_quantum_tokens: int = 8192
    newcomer_quantum_tokens: int = 8
    newcomer_lead_tokens: float = 4096.0
    sessions_fair: int = 32
    weights: Weights = dataclasses.field(default_factory=Weights)
    tenant_weights: dict[str, float] = dataclasses.field(default_factory=dict)
    reading_tokens_per_second: float = 10.0

    def __post_init__(self) -> None:
        for name in (
            "quantum_tokens",
            "prefill_quantum_tokens",
            "newcomer_quantum_tokens",
            "sessions_fair",
        ):
            value = getattr(self, name)
            if value < 1:
                raise errors.ConfigError(f"policy.{name} is {value}; give at least 1")
        if not 0 <= self.newcomer_lead_tokens < float("inf"):
            raise errors.ConfigError(
                f"policy.newcomer_lead_tokens is {self.newcomer_lead_tokens}; give at least 0"
            )
        for name in ("prefill", "decode"):
            value = getattr(self.weights, name)
            if not 0 < value < float("inf"):
                raise errors.ConfigError(f"policy.weights.{name} is {value}; give a number above 0")
        if not 0 < self.reading_tokens_per_second < float("inf"):
            raise errors.ConfigError(
                f"policy.reading_tokens_per_second is {self.reading_tokens_per_second}; give a"
                " number above 0"
            )
        for tenant, value in self.tenant_weights.items():
            if not 0 < value < float("inf"):
                raise errors.ConfigError(
                    f"policy.tenant_weights[{tenant!r}] is {value}; give a number above 0"
                )

    def quantum_of(self, session: types.Session) -> int:
        """Weighted tokens of service that a running session gets before it may be displaced."""
        if session.prefill_left:
            return max(self.quantum_tokens, self.prefill_quantum_tokens)
        return self.quantum_tokens


class Groups(Protocol):
    """Sessions whose place in the queue moves together while they wait, as those of a tenant."""

    def of(self, session: types.Session) -> Group:
        """The session's group. Fixed while it waits."""
        ...

    def key(self, session: types.Session) -> Key:
        """Smaller runs sooner, within its group. Ends in the id. Fixed while a session waits."""
        ...

    def keys(self, group: Group, sessions: Iterable[types.Session]) -> Iterator[Key]:
        """Keys, ascending and ending in the id, of a group's waiting sessions as they stand now.

        Not to be compared with `Policy.key`, which orders within a group.
        """
        ...


class Policy(Protocol):
    """Order and displacement; see the module's text."""

    @property
    def groups(self) -> Groups | None:
        """How the waiting are grouped; None: each has its place by `key` alone."""
        ...

    @property
    def reserves_output(self) -> bool:
        """True: a session is admitted only with pages for all it may emit."""
        ...

    @property
    def backfills(self) -> bool:
        """True: later sessions may be admitted past one that does not fit (bounded)."""
        ...

    @property
    def pages_out(self) -> bool:
        """True: preempted sessions keep their state in a tier; False: they recompute."""
        ...

    @property
    def displaces(self) -> bool:
        """True: a waiting session may take the place of one that runs; False: it never does."""
        ...

    @property
    def displaced_from(self) -> float:
        """The part of its quantum that a running session has at least used when it is displaced."""
        ...

    def arrive(self, session: types.Session, least_vtime: float) -> None:
        """A newcomer; `least_vtime` is the least virtual time among the living (0 when none)."""
        ...

    def end(self, session: types.Session) -> None:
        """It finished, was aborted or was refused."""
        ...

    def service(self, prefill_units: int, step_units: int) -> float:
        """Weighted tokens that so much work is charged as."""
        ...

    def charge(self, session: types.Session, prefill_units: int, step_units: int) -> None:
        """It gets this much work in the slice being dispatched."""
        ...

    def key(self, session: types.Session) -> Key:
        """Smaller runs sooner, of the running and within a group. Fixed while a session waits."""
        ...

    def prefill_key(self, session: types.Session) -> Key:
        """Order in which sessions, running and waiting, get prefill rows."""
        ...

    def may_displace(self, waiting: types.Session, running: types.Session) -> bool:
        """True when `running` should give its lane and pages up to `waiting`.

        Only one later in order, whose quantum is used.
        """
        ...

    def quantum_used(self, running: types.Session) -> float:
        """Its service since it got its lane over its quantum; from 1 on it may have to leave."""
        ...
