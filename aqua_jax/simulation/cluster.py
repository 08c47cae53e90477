"""Servers of devices with text, image and audio engines that lend each other memory; requests.

Knows: who is on which server, what they share there (a ledger, a network, a
clock), which engine a request goes to. Does not know: traces, reports.

A server has so many devices, each used by one member: a text engine has
`shards` of them, an engine of items one. Every text engine pages to its part of
the host's memory, and to what the server's ledger grants it of its neighbours'.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aqua_jax.control import (
    borrowing,
    controller,
    errors,
    lease_line,
    lease_types,
    leases,
    lending,
    sources,
    types,
)
from aqua_jax.engine import engine as production
from aqua_jax.engine import observer, protocols, streams
from aqua_jax.simulation import engines, items, neighbours, network, routing, world
from aqua_jax.simulation import runner as runners

_HOST_SPACES = range(1, 2)
_SPACES = range(8, 40)  # of grants, of each borrower
_TICK_SECONDS = 0.5

Observe = Callable[[str, "Text"], observer.Observer]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextMember:
    """A text engine. route: requests for that name go to it and to others that have the same.

    borrow_bytes: the most that it borrows; ahead_bytes: borrowed memory that it likes to have
    FREE. lends: when its pool has pages to spare; None: never. pair: the member next to it.
    """

    spec: engines.TextEngine
    route: str
    host_bytes: int
    borrow_bytes: int = 0
    ahead_bytes: int = 4 * types.GIB
    lends: sources.PoolLoad | None = None
    pair: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ItemMember:
    """An engine of items, and when they arrive."""

    spec: items.ItemEngine
    phases: Sequence[items.Phase]
    lends: bool = True


Members = Mapping[str, TextMember | ItemMember]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """unit_bytes: what the ledger counts in. The rest as in `LenderSettings`, of both sides."""

    unit_bytes: int = 64 * types.MIB
    reclaim_seconds: float = 1.0
    heartbeat_seconds: float = 0.25


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """servers: of each its members by name. routing: one of `routing.ROUTINGS`."""

    servers: Sequence[Members]
    devices: int = 8
    routing: str = "least_loaded"
    times: LeaseTimes = dataclasses.field(default_factory=LeaseTimes)
    seed: int = 0

    def __post_init__(self) -> None:
        for number, members in enumerate(self.servers):
            needed = sum(_devices_of(member) for member in members.values())
            if needed > self.devices:
                raise errors.ConfigError(
                    f"the members of server {number} need {needed} devices, it has {self.devices}"
                )
            for name, member in members.items():
                if isinstance(member, TextMember) and member.pair and member.pair not in members:
                    raise errors.ConfigError(
                        f"{name} is paired with {member.pair!r}, which is not on its server"
                        f"{errors.close_match(member.pair, members)}"
                    )


@dataclasses.dataclass(slots=True, eq=False)
class Text:
    """A text engine of a server. number: among those of its route."""

    name: str
    server: int
    number: int
    member: TextMember
    engine: production.Engine
    runner: runners.SimulatedRunner
    borrower: borrowing.Borrower | None
    lender: lending.Lender | None


class Server:
    """The members of one server, and what they share."""

    def __init__(self, number: int, spec: ClusterSpec, at: world.World) -> None:
        self.texts: dict[str, Text] = {}
        self.items: dict[str, items.SimulatedItems] = {}
        self.overdue: list[lease_types.Overdue] = []
        members = spec.servers[number]
        self.number = number
        self._times = spec.times
        self._world = at
        self._network = network.Network(at.clock)
        self._ports = {name: _ports_of(name, member) for name, member in members.items()}
        for name, member in members.items():
            if member.lends:
                neighbours.nvlink(name, self._ports[name])
        self._lenders = {_lender_id(name, members[name]): p for name, p in self._ports.items()}
        self.ledger = leases.Ledger(unit_bytes=spec.times.unit_bytes, pairs=_pairs(members))
        self._tick()

    def add_items(self, name: str, member: ItemMember, seed: str) -> None:
        """An engine of items."""
        seat = self._world.seat()
        made = items.SimulatedItems(
            name,
            seat,
            member.spec,
            lease_line.DirectPort(self.ledger),
            unit_bytes=self._times.unit_bytes,
            settings=self._lender_settings(),
            arriving_ns=items.arrivals(seed, member.phases),
            lends=member.lends,
        )
        seat.take(made)
        self.items[name] = made

    def add_text(
        self, name: str, member: TextMember, number: int, watched: observer.Observer
    ) -> None:
        """A text engine, the `number`th of its route."""
        seat, sides = self._world.seat(), _Sides()

        def parties(
            owner: controller.Controller, mover: network.SimulatedMover
        ) -> list[protocols.Party]:
            sides.borrower = self._borrower(name, member, owner, mover)
            sides.lender = self._lender(name, member, owner)
            return [side for side in (sides.borrower, sides.lender) if side is not None]

        made = engines.make(
            seat,
            self._network,
            member.spec,
            tiers={"host": engines.host_tier(member.host_bytes, self._ports[name].pcie)},
            observer=watched,
            parties=parties if member.borrow_bytes or member.lends else None,
        )
        seat.take(made.engine)
        self.texts[name] = Text(
            name,
            self.number,
            number,
            member,
            made.engine,
            made.runner,
            sides.borrower,
            sides.lender,
        )

    def check_integrity(self) -> None:
        """Of all that is there. Raises InternalError."""
        self.ledger.check_integrity()
        for text in self.texts.values():
            text.engine.check_integrity()
            if text.borrower is not None:
                text.borrower.check_integrity()
        for made in self.items.values():
            made.check_integrity()

    def _tick(self) -> None:
        """The ledger's time passes, and always will."""
        clock = self._world.clock
        events = self.ledger.tick(clock.now())
        self.overdue += [event for event in events if isinstance(event, lease_types.Overdue)]
        clock.at(clock.now() + _TICK_SECONDS, self._tick)

    def _borrower(
        self,
        name: str,
        member: TextMember,
        owner: controller.Controller,
        mover: network.SimulatedMover,
    ) -> borrowing.Borrower | None:
        if not member.borrow_bytes:
            return None
        unit_bytes, page_bytes = self._times.unit_bytes, member.spec.page_bytes
        unit_slots = _whole_pages(name, unit_bytes, page_bytes)
        return borrowing.Borrower(
            name,
            owner,
            lease_line.DirectPort(self.ledger),
            settings=borrowing.BorrowerSettings(
                unit_slots=unit_slots,
                spaces=_SPACES,
                units_max=max(1, member.borrow_bytes // unit_bytes),
                ahead_slots=max(1, member.ahead_bytes // unit_bytes) * unit_slots,
                heartbeat_seconds=self._times.heartbeat_seconds,
            ),
            incarnation=1,
            arenas=neighbours.GrantRoutes(
                mover,
                neighbours.nvlink(name, self._ports[name]),
                self._lenders,
                device_space=owner.memory.device.space,
                host_spaces=_HOST_SPACES,
            ),
        )

    def _lender(
        self, name: str, member: TextMember, owner: controller.Controller
    ) -> lending.Lender | None:
        if member.lends is None:
            return None
        unit_pages = _whole_pages(name, self._times.unit_bytes, member.spec.page_bytes)
        return lending.Lender(
            _lender_id(name, member),
            sources.PoolSource(owner, member.lends, unit_pages=unit_pages),
            lease_line.DirectPort(self.ledger),
            settings=self._lender_settings(),
            incarnation=1,
        )

    def _lender_settings(self) -> lending.LenderSettings:
        return lending.LenderSettings(
            reclaim_seconds=self._times.reclaim_seconds,
            heartbeat_seconds=self._times.heartbeat_seconds,
        )


class Cluster:
    """All servers in one world. observe: whom each text engine tells what it does."""

    def __init__(self, spec: ClusterSpec, *, observe: Observe | None = None) -> None:
        self.world = world.World()
        self.servers = [Server(number, spec, self.world) for number in range(len(spec.servers))]
        self.routes: dict[str, list[Text]] = {}
        self.living = 0  # requests that have not ended
        for number, members in enumerate(spec.servers):
            for name, member in members.items():
                if isinstance(member, ItemMember):
                    seed = f"{spec.seed}/{number}/{name}"
                    self.servers[number].add_items(name, member, seed)
                else:
                    self._add_text(self.servers[number], name, member, observe)
        self._routers = {
            route: routing.Router(spec.routing, len(texts)) for route, texts in self.routes.items()
        }

    @property
    def texts(self) -> list[Text]:
        """The text engines of all servers."""
        return [text for server in self.servers for text in server.texts.values()]

    def choose(self, route: str) -> Text:
        """The engine for the next request of that route. Raises ConfigError without one."""
        if route not in self.routes:
            raise errors.ConfigError(
                f"no engine takes requests for {route!r}{errors.close_match(route, self.routes)}"
            )
        return self.routes[route][self._routers[route].choose()]

    def submit(self, to: Text, request: types.Request, sink: streams.Sink) -> streams.Stream:
        """Submits a request there; raises what `Engine.submit` does."""
        router, units = self._routers[to.member.route], request.prompt_units

        def deliver(tokens: Sequence[Any], reason: str, at: float) -> None:
            if reason:
                self.living -= 1
                router.end(to.number, units)
            sink(tokens, reason, at)

        stream = to.engine.submit(request, sink=deliver)
        self.living += 1
        router.begin(to.number, units)
        return stream

    def check_integrity(self) -> None:
        """Of every server. Raises InternalError."""
        for server in self.servers:
            server.check_integrity()

    def _add_text(
        self, server: Server, name: str, member: TextMember, observe: Observe | None
    ) -> None:
        alike = self.routes.setdefault(member.route, [])
        server.add_text(name, member, len(alike), observer.Observer())
        text = server.texts[name]
        if observe is not None:
            text.engine.observer = observe(name, text)
        alike.append(text)


@dataclasses.dataclass(slots=True)
class _Sides:
    """A text engine's sides of leases."""

    borrower: borrowing.Borrower | None = None
    lender: lending.Lender | None = None


def _devices_of(member: TextMember | ItemMember) -> int:
    return member.spec.shards if isinstance(member, TextMember) else 1


def _ports_of(name: str, member: TextMember | ItemMember) -> neighbours.Ports:
    if isinstance(member, TextMember):
        return neighbours.ports(name, member.spec.hardware, shards=member.spec.shards)
    return neighbours.ports(name, member.spec.device)


def _lender_id(name: str, member: TextMember | ItemMember) -> str:
    """Its name as a lender: one that lends and borrows joins the ledger twice."""
    return f"{name}/pool" if isinstance(member, TextMember) else name


def _pairs(members: Members) -> dict[str, str]:
    return {
        name: _lender_id(member.pair, members[member.pair])
        for name, member in members.items()
        if isinstance(member, TextMember) and member.pair
    }


def _whole_pages(name: str, unit_bytes: int, page_bytes: int) -> int:
    """Pages of a unit; what is left of it is not used."""
    if unit_bytes < page_bytes:
        raise errors.ConfigError(
            f"a unit of {unit_bytes} bytes holds no page of {name}, {page_bytes} bytes: raise"
            " unit_bytes"
        )
    return unit_bytes // page_bytes
