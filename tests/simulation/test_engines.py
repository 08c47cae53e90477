"""A simulated engine is the production one, with the sizes, times and routes of its figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, slices, types
from aqua_jax.control.policies import base
from aqua_jax.engine import usage
from aqua_jax.simulation import cost, engines, hardware, network, shapes
from aqua_jax.simulation import runner as runners

H100 = hardware.load("H100")
MODEL = shapes.text("CodeLlama-34B")
GB = 10**9
LIMITS = slices.ControllerSettings(lanes=8, chunk_units=64, steps_max=4, steps_contended=2)
# Weights of 63 GiB and 39 pages of 16 tokens: sessions crowd each other out at once.
SMALL = engines.TextEngine(
    hardware=H100,
    shape=MODEL,
    limits=LIMITS,
    policy=base.PolicySettings(quantum_tokens=4, prefill_quantum_tokens=16),
    memory_fraction=(MODEL.weight_bytes + 40 * MODEL.page_bytes(16)) / H100.memory_bytes,
    units_max=512,
)


def tiers(*names: str) -> dict[str, engines.Tier]:
    assert H100.nvlink is not None
    peer, lender = engines.port("peer", H100.nvlink), engines.port("lender", H100.nvlink)
    every = {
        "peer": engines.peer_tier(4 * GB, peer, lender),
        "host": engines.host_tier(9 * GB, engines.port("pcie", H100.pcie)),
    }
    return {name: every[name] for name in names}


def started(*names: str, **changes: Any) -> engines.Simulated:
    clock = clocks.VirtualClock()
    spec = dataclasses.replace(SMALL, **changes)
    return engines.make(clock, network.Network(clock), spec, tiers=tiers(*names))


def run(made: engines.Simulated, *, checked: bool = False) -> list[list[int]]:
    """The tokens of sessions that want more than there is. checked: after every step."""
    engine = made.engine
    streams = [engine.submit(runners.request(90 + n, 40, seed=n), sink=None) for n in range(12)]
    for _ in range(20_000):
        if engine.idle:
            break
        engine.step()
        if checked:
            engine.check_integrity()
    return [list(stream.read()) for stream in streams]


@pytest.mark.parametrize("overlaps", [True, False])
@pytest.mark.parametrize("names", [("peer", "host"), ("host",), ()])
def test_every_session_gets_its_tokens_whatever_moves(
    names: tuple[str, ...], overlaps: bool
) -> None:
    made = started(*names, overlaps=overlaps)
    assert run(made, checked=True) == [runners.tokens(n, 90 + n, 40) for n in range(12)]
    moved = made.engine.controller.memory.moved
    assert bool(sum(moved.out.values())) == bool(names)
    made.engine.close()


def test_the_pool_is_what_the_weights_leave() -> None:
    assert SMALL.pool_pages in (39, 40)
    whole = dataclasses.replace(SMALL, memory_fraction=0.9)
    left = int(0.9 * H100.memory_bytes) - MODEL.weight_bytes
    assert whole.pool_pages == left // (16 * 192 * 1024)
    assert started("host").engine.controller.memory.tiers[0].slots.capacity == 9 * GB // (3 << 20)


def test_a_model_that_does_not_fit_is_refused_by_how_much() -> None:
    message = r"needs 62\.9 GiB of weights, 1 device of H100 give 79\.6 x 0\.7 GiB: short by 7\.2"
    with pytest.raises(errors.ConfigError, match=message):
        dataclasses.replace(SMALL, memory_fraction=0.7)
    with pytest.raises(errors.ConfigError, match="1 pages of 512 tokens; expected at least 2"):
        dataclasses.replace(SMALL, page_tokens=512)


def test_paging_that_holds_the_device_costs_what_the_link_takes() -> None:
    """The same work beside slices, and in line with them over either link."""
    seconds, held = {}, {}
    for name in ("peer", "host"):
        for overlaps in (True, False):
            made = started(name, overlaps=overlaps)
            run(made)
            seconds[name, overlaps] = made.engine.clock.now()
            held[name, overlaps] = made.runner.held_ns / 1e9
    assert held["peer", True] == held["host", True] == 0
    assert 3 * held["peer", False] < held["host", False]
    assert seconds["host", True] < seconds["peer", False] < seconds["host", False]


def test_stall_is_what_the_device_waits_for_copies_alone() -> None:
    made = started("host", overlaps=False)
    run(made)
    used = made.engine.usage.seconds
    assert made.runner.busy_ns / 1e9 + made.runner.held_ns / 1e9 == pytest.approx(
        used[usage.Use.RUNNING], rel=0.02
    )


def test_copies_out_and_in_share_a_port_that_is_slower_both_ways() -> None:
    pcie = engines.port("pcie", H100.pcie)
    host = engines.host_tier(GB, pcie)
    assert [channel.name for channel in host.out.channels] == ["pcie out", "pcie both"]
    assert host.out.channels[1] is host.into.channels[1]
    assert host.out.channels[0] is not host.into.channels[0]
    assert pcie.both is not None
    assert pcie.both.bytes_per_second == 83 * GB


def test_two_borrowers_share_the_lenders_port() -> None:
    assert H100.nvlink is not None
    lender = engines.port("lender", H100.nvlink)
    first, second = (
        engines.peer_tier(GB, engines.port(name, H100.nvlink), lender) for name in "ab"
    )
    assert first.out.channels[1] is second.out.channels[1] is lender.into
    assert first.into.channels[0] is second.into.channels[0] is lender.out
    assert len(first.out.channels) == 2  # NVLink is full duplex


def test_shards_have_a_link_each() -> None:
    assert H100.nvlink is not None
    assert engines.port("two", H100.nvlink, shards=2).out.bytes_per_second == 2 * 361 * GB


@pytest.mark.parametrize("hides", [True, False])
def test_reads_of_pages_attended_away_count_beside_or_behind_the_rest(hides: bool) -> None:
    reads: dict[int, int] = {1: 7}

    def count(batch: types.Batch) -> Mapping[int, int]:
        return reads

    made = started("host", away_reads=count, away_hides=hides)
    session = types.Session(1, runners.request(10, 10), 0.0)
    batch = types.Batch((types.LanePlan(0, session, [1], 10, 0, 1, True),), 1)
    costs = cost.text_cost(H100, MODEL)
    here_ns = costs.nanoseconds(batch, 64)
    page_ns = (3 << 20) / 52
    for pages in (7, 7_000):
        reads[1] = pages
        before = made.runner.busy_ns
        made.runner.dispatch(batch)
        away_ns = pages * page_ns
        expected = max(here_ns, away_ns) if hides else here_ns + away_ns
        assert made.runner.busy_ns - before == pytest.approx(expected, abs=2)
