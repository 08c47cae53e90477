"""Wrong bytes and slow links are refused, good ones are not, and kept speeds refuse nobody."""

from __future__ import annotations

import itertools
import re

import jax.numpy as jnp
import pytest

from aqua_jax.control import clock as clocks
from aqua_jax.experiments import link_cache, link_checks, settings
from aqua_jax.memory import arenas, page_array, paged, probe
from aqua_jax.memory.movers import base, faults, links, reference
from aqua_jax.workloads import metrics
from tests.memory import parts

_benches = itertools.count()
PAGE_SHAPE, PAGE_BYTES = (64, 1024), 256 << 10
PAGES = 5  # 1280 KiB: enough for the floor to say something
OUT = link_checks.Direction("device", "peer", "peer", parts.POOL, parts.PEER)
BACK = link_checks.Direction("peer", "device", "peer", parts.PEER, parts.POOL)


class Bench:
    """A pool and a peer arena joined by emulated links, and how often a link was timed."""

    def __init__(self, *, pages: int = PAGES, bytes_per_second: float = 1e9) -> None:
        self.stores: dict[int, page_array.PageArray] = {
            parts.POOL: paged.PagedPool(
                parts.POOL, pages + 1, PAGE_SHAPE, jnp.float32, sharding=parts.on(0)
            ),
            parts.PEER: arenas.DeviceArena(
                parts.PEER, pages, PAGE_SHAPE, jnp.float32, sharding=parts.on(1)
            ),
        }
        self.clock = clocks.VirtualClock()
        self.cache = link_cache.LinkCache({"bench": next(_benches)})
        self.set_speed(bytes_per_second)

    def set_speed(self, bytes_per_second: float) -> None:
        link = links.Link(1e-4, bytes_per_second)
        pairs = {(d.source, d.target): link for d in (OUT, BACK)}
        plain = reference.ReferenceMover(self.stores, self.clock)
        self.mover: base.PageMover = links.LinkedMover(
            plain, self.clock, links=pairs, tiers=parts.TIERS
        )

    def check(self, mover: str = "xla", **memory) -> link_checks.Report:
        probing = probe.Probe(self.mover, self.stores, self.clock)
        wanted = settings.MemorySettings(**memory)
        return link_checks.check(probing, [OUT, BACK], wanted, mover=mover, cache=self.cache)


def test_good_links_are_measured_then_kept_and_always_compared():
    bench = Bench()
    first, again = bench.check(), bench.check()
    assert [link.kept for link in first.links] == [False, False]
    assert [link.kept for link in again.links] == [True, True]
    assert [link.speed for link in again.links] == [link.speed for link in first.links]
    assert [link.kept for link in bench.check(probe="always").links] == [False, False]
    for report in (first, again):
        assert report.refused_tiers == {}
        assert all(link.comparison.bytes == PAGES * PAGE_BYTES for link in report.links)
        assert report.note == ""


def test_a_wrong_byte_refuses_the_tier_though_the_speed_is_kept():
    bench = Bench()
    bench.check()
    bench.mover = faults.FaultyMover(
        bench.mover,
        bench.clock,
        faults.Faults(exact={1: faults.Fault.CORRUPT}),
        corrupt=faults.byte_flipper(bench.stores),
    )
    report = bench.check()
    good, bad = report.links
    assert (good.refused, good.kept) == ("", True)
    assert re.fullmatch(
        r"1 of 1310720 bytes arrived wrong, the first is byte \d+ of page \d+", bad.refused
    )
    assert report.refused_tiers == {"peer": f"peer->device by the xla mover: {bad.refused}"}
    assert report.rows["peer->device"]["wrong_bytes"] == 1
    assert "bytes_per_second" not in report.rows["peer->device"]  # nobody wants to know


def test_a_slow_link_is_refused_below_the_floor_and_not_above_it():
    bench = Bench(bytes_per_second=5e7)
    report = bench.check()
    assert [link.refused for link in report.links] == [
        "0.0498 GB/s at best, in copies of 1280KiB, below memory.link_floor_gbps=0.1"
    ] * 2
    assert report.refused_tiers["peer"].count("GB/s") == 2
    assert bench.check(link_floor_gbps=0.04).refused_tiers == {}
    assert bench.check(link_floor_gbps=0.0).refused_tiers == {}
    assert bench.check("reference").refused_tiers == {}  # slow on purpose


def test_a_speed_that_was_kept_refuses_nobody():
    bench = Bench(bytes_per_second=5e7)
    assert bench.check().refused_tiers
    bench.set_speed(1e9)  # it was a bad moment
    report = bench.check()
    assert report.refused_tiers == {}
    assert [link.kept for link in report.links] == [False, False]
    assert [link.kept for link in bench.check().links] == [True, True]


def test_copies_too_small_to_tell_are_never_too_slow():
    bench = Bench(pages=3, bytes_per_second=1e6)
    assert bench.check().refused_tiers == {}


def test_a_copy_that_fails_refuses_the_link():
    bench = Bench()
    bench.mover = faults.FaultyMover(
        bench.mover, bench.clock, faults.Faults(rates={faults.Fault.FAIL: 1.0})
    )
    report = bench.check()
    assert all("injected" in link.refused for link in report.links)
    assert list(report.rows["device->peer"]) == ["source", "target", "mover", "kept", "refused"]


def test_rows_are_defined_and_named_by_mover_where_there_are_several():
    links_of = Bench().check().links
    one = link_checks.Report(links_of, "")
    assert list(one.rows) == ["device->peer", "peer->device"]
    assert metrics.undefined({"links": one.rows}) == []
    sizes = one.rows["device->peer"]["plan_bytes_per_second"]
    assert list(sizes) == ["256KiB", "1MiB", "1280KiB"]
    row = one.rows["device->peer"]
    assert row["bytes_per_second"] == sizes["1280KiB"] == pytest.approx(1e9, rel=0.1)
    both = link_checks.Report([*links_of, *_by_another(links_of)], "")
    assert list(both.rows)[::2] == ["device->peer (xla)", "device->peer (ffi)"]


def _by_another(links_of):
    return [
        link_checks.Link(link.direction, "ffi", link.comparison, link.speed, link.kept, "")
        for link in links_of
    ]
