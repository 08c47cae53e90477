"""Routes between the devices of a server, as grants come and go."""

from __future__ import annotations

import dataclasses

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, lease_types, ranges, types
from aqua_jax.simulation import hardware, neighbours, network

H100 = hardware.load("H100")
PAGE_BYTES = 1 << 20


def arenas(*lenders: str) -> tuple[network.SimulatedMover, neighbours.GrantRoutes]:
    clock = clocks.VirtualClock()
    mover = network.SimulatedMover(clock, network.Network(clock), routes={}, page_bytes=PAGE_BYTES)
    own = neighbours.ports("own", H100)
    made = neighbours.GrantRoutes(
        mover,
        neighbours.nvlink("own", own),
        {name: neighbours.ports(name, H100) for name in lenders},
        device_space=0,
        host_spaces=range(1, 2),
    )
    return mover, made


def grant(lender: str, generation: int) -> lease_types.Grant:
    return lease_types.Grant(1, generation, lender, "own", ranges.of([(0, 4)]))


def submit(mover: network.SimulatedMover, source: int, target: int) -> None:
    mover.submit([types.Move(types.Place(source, 0), types.Place(target, 0), 16)])


def test_a_grant_has_routes_to_the_device_the_host_and_other_grants() -> None:
    mover, made = arenas("a", "b")
    made.open(grant("a", 1), 8)
    made.open(grant("b", 2), 9)
    for source, target in ((0, 8), (8, 0), (8, 1), (9, 1), (8, 9), (9, 8)):
        submit(mover, source, target)
    with pytest.raises(errors.MoveError, match="no route from space 1 to 8"):
        submit(mover, 1, 8)


def test_a_space_leads_to_whose_grant_it_is_now() -> None:
    _, made = arenas("a")
    made.open(grant("a", 1), 8)
    made.close(8)
    made.open(grant("a", 3), 9)  # no route to the former space is asked for
    with pytest.raises(KeyError):
        made.close(8)


def test_shards_have_their_links_together() -> None:
    one, two = neighbours.ports("x", H100), neighbours.ports("x", H100, shards=2)
    assert two.pcie.out.bytes_per_second == 2 * one.pcie.out.bytes_per_second


def test_without_nvlink_nobody_lends() -> None:
    slow = neighbours.ports("a", dataclasses.replace(H100, nvlink=None))
    with pytest.raises(errors.ConfigError, match="a borrows or lends, and its device has no NV"):
        neighbours.nvlink("a", slow)
