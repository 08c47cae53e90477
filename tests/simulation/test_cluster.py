"""A small cluster: memory is lent and called back, requests are routed, tokens are the same."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from aqua_jax.control import errors, sources
from aqua_jax.simulation import cluster
from aqua_jax.simulation import runner as runners
from tests.simulation import small_cluster

ENGINE, MEMBERS = small_cluster.ENGINE, small_cluster.MEMBERS
REQUESTS, SPEC, TEXT = small_cluster.REQUESTS, small_cluster.SPEC, small_cluster.TEXT


@pytest.fixture(scope="module")
def run() -> small_cluster.Run:
    return small_cluster.Run(SPEC)


def test_every_request_gets_its_tokens(run: small_cluster.Run) -> None:
    assert run.tokens == {n: runners.tokens(n, 90 + n, 60) for n in range(REQUESTS)}
    assert run.cluster.living == 0
    assert all(text.engine.idle for text in run.cluster.texts)


def test_memory_is_lent_called_back_in_time_and_lent_again(run: small_cluster.Run) -> None:
    for server in run.cluster.servers:
        borrower = server.texts["text"].borrower
        assert borrower is not None
        assert borrower.counters.units_granted > 0
        assert borrower.counters.reclaims_met > 0
        assert borrower.counters.reclaims_late == len(server.overdue) == 0
        moved = server.texts["text"].engine.controller.memory.moved
        assert moved.out["peer"] > 0
        images = server.items["images"]
        assert images.lender.counters.reclaims > 0
        assert images.lent_bytes > 0  # it is calm again


def test_items_are_made_first_come_first_served(run: small_cluster.Run) -> None:
    for server in run.cluster.servers:
        made = server.items["images"]
        assert made.waiting == 0
        assert list(made.arrived_ns) == sorted(made.arrived_ns)
        assert len(made.done_ns) == len(made.arrived_ns) > 10
        assert made.batches < len(made.done_ns)


def test_a_run_is_the_same_in_another_process(run: small_cluster.Run) -> None:
    assert small_cluster.digest_of(sys.executable) == run.digest


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_a_run_is_the_same_on_another_python(run: small_cluster.Run, version: str) -> None:
    python = next(filter(_runs, _candidates(version)), None)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    assert small_cluster.digest_of(python) == run.digest


def test_routing_spreads_requests() -> None:
    servers = small_cluster.Run(dataclasses.replace(SPEC, routing="round_robin"), until=0.5)
    assert {where for _, _, where, _, _ in servers.told} == {"0/text", "1/text"}


def test_a_text_engine_lends_pages_of_its_pool() -> None:
    spec = dataclasses.replace(ENGINE, memory_fraction=ENGINE.memory_fraction + 0.02)
    lender = dataclasses.replace(
        TEXT,
        spec=spec,
        route="calm",
        borrow_bytes=0,
        pair="",
        lends=sources.PoolLoad(retain_pages=40),
    )
    members = {"text": dataclasses.replace(TEXT, pair="other"), "other": lender}
    run = small_cluster.Run(dataclasses.replace(SPEC, servers=[members]), until=12.0)
    assert run.tokens == {n: runners.tokens(n, 90 + n, 60) for n in range(REQUESTS)}
    text = run.cluster.servers[0].texts["text"]
    assert text.borrower is not None
    assert text.borrower.counters.units_granted > 0
    assert text.engine.controller.memory.moved.out["peer"] > 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"devices": 1}, "need 2 devices, it has 1"),
        ({"routing": "least_laden"}, "unknown routing 'least_laden' .did you mean"),
        ({"servers": [{"text": TEXT}]}, "paired with 'images', which is not on its server"),
        (
            {"times": cluster.LeaseTimes(unit_bytes=1 << 20)},
            "a unit of 1048576 bytes holds no page of text",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.ConfigError, match=text):
        cluster.Cluster(dataclasses.replace(SPEC, **changes))


def test_requests_go_where_an_engine_takes_them() -> None:
    with pytest.raises(errors.ConfigError, match="no engine takes requests for 'chap'"):
        cluster.Cluster(SPEC).choose("chap")


def test_a_device_without_nvlink_cannot_lend() -> None:
    device = dataclasses.replace(small_cluster.H100, nvlink=None)
    spec = dataclasses.replace(small_cluster.SDXL, device=device)
    alone = {"images": cluster.ItemMember(spec=spec, phases=(), lends=False)}
    assert cluster.Cluster(dataclasses.replace(SPEC, servers=[alone])).living == 0
    lends = {"images": cluster.ItemMember(spec=spec, phases=())}
    with pytest.raises(errors.ConfigError, match="images borrows or lends, and its device has no"):
        cluster.Cluster(dataclasses.replace(SPEC, servers=[lends]))


def _candidates(version: str) -> Iterator[str]:
    yield f"python{version}"
    yield from map(str, pathlib.Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))


def _runs(python: str) -> bool:
    """A shim of pyenv may exist for a version that is switched off."""
    try:
        subprocess.run([python, "-c", ""], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
