"""What a simulated experiment says of servers that have several engines: the head `cluster`.

Knows: names, units, ranges. Does not know: what models there are, how a
cluster is put together (`clustered.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from aqua_jax.control import errors, types
from aqua_jax.experiments import checks
from aqua_jax.simulation import items, routing


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextMemberSettings:
    """A text engine of each server.

    model, shards: as in `DeviceSettings`. route: requests for this name go to it; share: of all
    requests that name, set alike for all that have it. borrow_bytes: the most that it borrows;
    ahead_bytes: borrowed memory that it likes to have free. host_bytes: of pinned memory. pair:
    the member that is placed next to it. lends: pages of its pool, but for retain_bytes, while few
    wait.
    """

    model: str
    shards: int = 1
    route: str = "text"
    share: float = 1.0
    borrow_bytes: int = 0
    ahead_bytes: int = 4 * types.GIB
    host_bytes: int = 100 * 10**9
    pair: str = ""
    lends: bool = False
    retain_bytes: int = 5 * types.GIB

    def __post_init__(self) -> None:
        checks.at_least("cluster.texts.*", self, 1, "shards", "ahead_bytes", "host_bytes")
        checks.at_least("cluster.texts.*", self, 0, "borrow_bytes", "retain_bytes")
        checks.above("cluster.texts.*", self, "share")
        if not self.route:
            raise errors.ConfigError("cluster.texts.*.route is empty: give a name")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ItemMemberSettings:
    """An image or audio engine of each server, on a device of its own.

    phases: items a second, each until a second: "60:0.1,120:2". batch_max: the largest batch, 0:
    its model's usual; batch_calm: the one that it keeps memory for while no more wait, 0: the
    largest. calm_seconds: for how long no more than that may have waited.
    """

    model: str
    phases: str
    batch_max: int = 0
    batch_calm: int = 0
    calm_seconds: float = 10.0

    def __post_init__(self) -> None:
        checks.at_least("cluster.items.*", self, 0, "batch_max", "batch_calm", "calm_seconds")
        self.phase_values()

    def phase_values(self) -> list[items.Phase]:
        """The phases in order. Raises ConfigError for what is none."""
        values: list[items.Phase] = []
        for text in checks.names(self.phases):
            until, _, rate = text.partition(":")
            try:
                phase = items.Phase(float(until), float(rate))
            except ValueError:
                phase = items.Phase(-1.0, 0.0)
            before = values[-1].until_seconds if values else 0.0
            if not (before < phase.until_seconds < float("inf") and phase.items_per_second >= 0):
                raise errors.ConfigError(
                    f"cluster.items.*.phases={self.phases}: {text!r} is no phase; give"
                    " SECOND:ITEMS_A_SECOND, comma-separated, seconds in order"
                )
            values.append(phase)
        return values


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Servers that all have the same members. servers: 0: there is one engine alone.

    lends: False: nobody does. routing: which engine of a route a request goes to. unit_bytes: what
    the ledgers count in. reclaim_seconds: what a lender gives to vacate memory.
    heartbeat_seconds: between two questions of lenders and borrowers.
    """

    servers: int = 0
    devices: int = 8
    texts: Mapping[str, TextMemberSettings] = dataclasses.field(default_factory=dict)
    items: Mapping[str, ItemMemberSettings] = dataclasses.field(default_factory=dict)
    lends: bool = True
    routing: str = "least_loaded"
    unit_bytes: int = 64 * types.MIB
    reclaim_seconds: float = 1.0
    heartbeat_seconds: float = 0.25

    def __post_init__(self) -> None:
        checks.at_least("cluster", self, 0, "servers")
        checks.at_least("cluster", self, 1, "devices", "unit_bytes")
        checks.above("cluster", self, "reclaim_seconds", "heartbeat_seconds")
        checks.one_of("cluster.routing", self.routing, routing.ROUTINGS)
        both = sorted(set(self.texts) & set(self.items))
        if both:
            raise errors.ConfigError(f"cluster.texts and cluster.items both have {both[0]!r}")
        if self.servers and not self.texts:
            raise errors.ConfigError("cluster.texts is empty: give a text engine for the requests")
        for name, member in self.texts.items():
            shares = {one.share for one in self.texts.values() if one.route == member.route}
            if len(shares) > 1:
                raise errors.ConfigError(
                    f"cluster.texts.{name}: engines of route {member.route!r} have shares"
                    f" {sorted(shares)}; give all the same"
                )

    @property
    def shares(self) -> dict[str, float]:
        """Route -> its share of the requests."""
        return {member.route: member.share for member in self.texts.values()}
