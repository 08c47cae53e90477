"""What lies between the devices of one server: ports, and the routes to memory that is granted.

Knows: ports by who lends, spaces of grants, a mover's routes. Does not know:
the ledger, what is copied.
"""

from __future__ import annotations

from typing import NamedTuple

from aqua_jax.control import errors, lease_types
from aqua_jax.simulation import engines, hardware, network


class Ports(NamedTuple):
    """The links of a group of devices, which its copies use evenly. nvlink: None where it has none.

    One object for all who copy from or to the group: they share it.
    """

    nvlink: engines.Port | None
    pcie: engines.Port


def ports(name: str, device: hardware.Hardware, *, shards: int = 1) -> Ports:
    """The ports of so many devices of a kind."""
    nvlink = device.nvlink
    return Ports(
        engines.port(f"{name} nvlink", nvlink, shards=shards) if nvlink else None,
        engines.port(f"{name} pcie", device.pcie, shards=shards),
    )


def nvlink(name: str, of: Ports) -> engines.Port:
    """Its NVLink. Raises ConfigError where there is none."""
    if of.nvlink is None:
        raise errors.ConfigError(
            f"{name} borrows or lends, and its device has no NVLink: give other hardware, or host"
            " memory alone"
        )
    return of.nvlink


class GrantRoutes:
    """The arenas of a simulated borrower: a grant's space gets routes when it is opened.

    Between the device and the lender, and, for pages that move on when a lender calls, from the
    lender to the host and between lenders.
    """

    def __init__(
        self,
        mover: network.SimulatedMover,
        own: engines.Port,
        lenders: dict[str, Ports],
        *,
        device_space: int,
        host_spaces: range,
    ) -> None:
        """lenders: by the names that grants say; more may be added."""
        self._mover = mover
        self._own = own
        self._lenders = lenders
        self._device = device_space
        self._hosts = host_spaces
        self._open: dict[int, Ports] = {}

    def open(self, grant: lease_types.Grant, space: int) -> None:
        lender = self._lenders[grant.lender]
        link = nvlink(grant.lender, lender)
        tier = engines.peer_tier(0, self._own, link)
        routes = {(self._device, space): tier.out, (space, self._device): tier.into}
        for host in self._hosts:
            routes[space, host] = engines.host_tier(0, lender.pcie).out
        for other, ports_of in self._open.items():
            between = engines.peer_tier(0, link, nvlink(grant.lender, ports_of))
            routes |= {(space, other): between.out, (other, space): between.into}
        self._mover.add_routes(routes)
        self._open[space] = lender

    def scrub(self, space: int, slots: range) -> None:
        """Nothing is kept that could be read."""

    def close(self, space: int) -> None:
        del self._open[space]
