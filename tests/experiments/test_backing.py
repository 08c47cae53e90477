"""Which arena a tier gets, how an arm's mover is wrapped, what cannot be."""

from __future__ import annotations

import itertools
import json
import re
import types

import jax
import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import link_cache, machine, overrides, trial
from aqua_jax.memory import arenas, native_arenas
from aqua_jax.memory.movers import base, faults, ffi, reference, verified, xla
from tests.experiments import tiny
from tests.memory import parts


def mover_of(shared: machine.Machine, **memory) -> base.PageMover:
    whole = tiny.with_arms({"a": tiny.paging(**memory)})
    return shared.start(overrides.arm(whole, "a")).engine.mover


@pytest.mark.parametrize(
    ("memory", "kinds"),
    [
        ({"mover": "xla"}, (xla.XlaMover,)),
        ({"mover": "reference"}, (reference.ReferenceMover,)),
        pytest.param({"mover": "auto"}, (ffi.FfiMover,), marks=parts.needs_native),
        ({"mover": "xla", "verify": True}, (verified.VerifiedMover, xla.XlaMover)),
        ({"mover": "xla", "faults": {"fail": 0.1}}, (faults.FaultyMover, xla.XlaMover)),
        (
            {"mover": "xla", "verify": True, "faults": {"corrupt": 0.1}},
            (verified.VerifiedMover, faults.FaultyMover, xla.XlaMover),
        ),
    ],
)
def test_movers_are_wrapped_from_the_inside_out(shared, memory, kinds):
    mover = mover_of(shared, **memory)
    found = [type(mover)]
    inner = mover
    while hasattr(inner, "_inner"):
        inner = inner._inner
        found.append(type(inner))
    mover.close()
    assert tuple(found) == kinds


@parts.needs_native
def test_the_ffi_mover_has_arenas_cut_as_the_pool_is(shared):
    kinds = {
        mover: {tier: type(shared._backing._arena(tier, mover)) for tier in ("peer", "host")}
        for mover in ("ffi", "xla", "reference")
    }
    arrays = {"peer": arenas.DeviceArena, "host": arenas.HostArena}
    assert kinds == {
        "ffi": {"peer": arenas.DeviceArena, "host": native_arenas.NativeArena},
        "xla": arrays,
        "reference": arrays,
    }


@parts.needs_native
def test_where_peers_do_not_match_the_pool_native_memory_stands_for_one(cache_everything):
    count = len(jax.devices())
    whole = tiny.with_arms(
        {"a": tiny.paging()}, model__shards=count, memory__mover="ffi", memory__probe="off"
    )
    made = trial.Trial(whole).machine()
    peer = made._backing._arena("peer", "ffi")
    assert isinstance(peer, native_arenas.NativeArena)
    assert peer.label.startswith("device arena")
    made.close()


def test_too_few_devices_are_refused_before_anything_is_built():
    count = len(jax.devices())
    whole = tiny.with_arms({"a": tiny.paging()}, model__shards=count, memory__mover="xla")
    with pytest.raises(errors.ConfigError, match=f"devices to at least {count + 1}"):
        trial.Trial(whole).machine()


@pytest.mark.parametrize(
    ("arms", "text"),
    [
        (
            {"a": {"memory": {"tiers": {"t": {"kind": "peer", "bytes": 100}}}}},
            "a peer tier of 100 bytes holds no page of 4096 bytes: make it larger",
        ),
        (
            {
                "a": {"memory": {"tiers": {"t": {"kind": "peer", "bytes": 9999}}}},
                "b": {"memory": {"tiers": {"t": {"kind": "host", "bytes": 9999}}}},
            },
            "tier 't' is peer in one arm, host in another",
        ),
    ],
)
def test_tiers_that_cannot_be_are_refused(arms, text):
    with pytest.raises(errors.ConfigError, match=re.escape(text)):
        trial.Trial(tiny.with_arms(arms)).machine()


def test_links_are_probed_by_every_mover_and_kept_by_all_that_matters(shared):
    movers = {link.mover for link in shared.links.links}
    assert {"xla", "reference"} <= movers
    assert {(link.direction.origin, link.direction.goal) for link in shared.links.links} == {
        ("device", "peer"), ("peer", "device"), ("device", "host"), ("host", "device"),
    }  # fmt: skip
    assert shared.links.refused_tiers == {}
    keys = [json.loads(file.read_text())["key"] for file in link_cache.folder().iterdir()]
    assert movers <= {key["mover"] for key in keys}
    for key in keys:
        assert {"host", "hardware", "versions", "stores", "library", "transfer"} <= key.keys()
        assert bool(key["library"]) == (key["mover"] == "ffi")


def test_the_key_of_a_link_is_that_of_every_process(shared, monkeypatch):
    """The devices of a sharding are a set, whose order is chance."""
    backing = shared._backing
    keys = []
    for devices in itertools.permutations(jax.devices()[:3]):
        sharding = types.SimpleNamespace(device_set=devices)
        monkeypatch.setattr(backing, "_pool", types.SimpleNamespace(sharding=sharding))
        keys.append(backing._cache_key("xla", {}))
    assert keys == keys[:1] * len(keys)


def test_without_a_probe_nothing_is_said_of_links(cache_everything):
    whole = tiny.with_arms({"a": tiny.paging(mover="reference")}, memory__probe="off")
    made = trial.Trial(whole).machine()
    assert (list(made.links.links), made.links.rows) == ([], {})
    made.close()
