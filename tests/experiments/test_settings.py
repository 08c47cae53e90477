"""Values are checked when settings are made; errors name the setting and what to give."""

from __future__ import annotations

import re

import pytest

from aqua_jax.control import errors
from aqua_jax.control.policies import base
from aqua_jax.experiments import settings

NAN, INFINITE = float("nan"), float("inf")


def build(name: str, **_: object) -> str:
    """Stands for a model."""
    return name


def experiment(**given) -> settings.Experiment:
    defaults = {"model": settings.ModelSettings(build=build), "arm_settings": {"a": {}, "b": {}}}
    return settings.Experiment(**(defaults | given))


@pytest.mark.parametrize(
    ("cls", "given", "text"),
    [
        (settings.WorkloadSettings, {"requests": 0}, "workload.requests is 0; give a number of"),
        (settings.WorkloadSettings, {"rate": -1.0}, "workload.rate is -1.0; give a number of at"),
        (settings.WorkloadSettings, {"rate": INFINITE}, "workload.rate is inf"),
        (settings.WorkloadSettings, {"temperature": NAN}, "workload.temperature is nan"),
        (settings.WorkloadSettings, {"top_p": 0.0}, "workload.top_p is 0.0; give more than 0"),
        (settings.WorkloadSettings, {"load": 0.0}, "workload.load is 0.0; give a finite number"),
        (settings.WorkloadSettings, {"prompt_scale": NAN}, "workload.prompt_scale is nan"),
        (settings.WorkloadSettings, {"calibration_seconds": 0}, "workload.calibration_seconds"),
        (settings.EngineSettings, {"lanes": 0}, "engine.lanes is 0; give a number of at least 1"),
        (settings.EngineSettings, {"chunk_tokens": 16}, "engine.chunk_tokens is 16; give a number"),
        (settings.EngineSettings, {"chunk_tokens": 40}, "40; give a multiple of 32"),
        (settings.EngineSettings, {"tile_rows": 24}, "engine.tile_rows is 24; give a multiple of"),
        (settings.EngineSettings, {"units_max": 500}, "units_max is 500; give a multiple of 16"),
        (settings.EngineSettings, {"ahead_seconds": -1e-3}, "engine.ahead_seconds is -0.001"),
        (settings.TierSettings, {"kind": "peeer", "bytes": 1}, "(did you mean 'peer'?)"),
        (settings.TierSettings, {"kind": "host", "bytes": 0}, "memory.tiers.*.bytes is 0"),
        (settings.MoverFaults, {"fail": 0.6, "delay": 0.6}, "rates add up to more than 1"),
        (settings.MoverFaults, {"corrupt": -0.1}, "memory.faults.corrupt is -0.1"),
        (settings.MemorySettings, {"mover": "xlb"}, "unknown memory.mover 'xlb' (did you mean"),
        (settings.MemorySettings, {"mover": "fii"}, "unknown memory.mover 'fii' (did you mean"),
        (settings.MemorySettings, {"attention": "naive"}, "(did you mean 'native'?)"),
        (settings.MemorySettings, {"probe": "on"}, "unknown memory.probe 'on'"),
        (settings.MemorySettings, {"link_floor_gbps": NAN}, "memory.link_floor_gbps is nan"),
        (settings.MemorySettings, {"transfer_threads": 0}, "memory.transfer_threads is 0"),
        (settings.MemorySettings, {"transfer_cores": "0,-1"}, "transfer_cores is '0,-1'; give"),
        (settings.MemorySettings, {"pool_pages": 1}, "memory.pool_pages is 1"),
        (settings.LinkSettings, {"latency_seconds": 0, "bytes_per_second": 0}, "bytes_per_second"),
        (settings.EmulateSettings, {"dilation": -1.0}, "emulate.dilation is -1.0"),
        (base.PolicySettings, {"quantum_tokens": 0}, "policy.quantum_tokens is 0; give at least 1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(cls, given, text):
    with pytest.raises(errors.ConfigError, match=re.escape(text)):
        cls(**given)


def test_sessions_attended_away_share_nothing():
    reusing = settings.EngineSettings(prefix_reuse=True)
    with pytest.raises(errors.ConfigError, match=r"attend_away=all with engine\.prefix_reuse"):
        experiment(engine=reusing, memory=settings.MemorySettings(attend_away="all"))
    experiment(engine=reusing, memory=settings.MemorySettings(attend_away="long"))


def test_corruption_needs_verification():
    faults = settings.MoverFaults(corrupt=0.1)
    with pytest.raises(errors.ConfigError, match=r"set memory\.verify=True"):
        settings.MemorySettings(faults=faults)
    assert settings.MemorySettings(faults=faults, verify=True).faults is faults


@pytest.mark.parametrize(("name", "value"), [("mover", "xla"), ("attention", "xla")])
def test_attending_away_is_native_codes(name, value):
    with pytest.raises(
        errors.ConfigError, match=f"attend_away=long with memory.{name}={value}: pages"
    ):
        settings.MemorySettings(attend_away="long", **{name: value})
    settings.MemorySettings(attend_away="long")


def test_cores_are_numbers_between_commas():
    assert settings.MemorySettings().cores == ()
    assert settings.MemorySettings(transfer_cores=" 1, 3,").cores == (1, 3)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"policy": base.PolicySettings(name="cfz")}, "unknown policy.name 'cfz' (did you mean"),
        ({"arms": "a,c"}, "unknown arm 'c' (known: a, b)"),
        ({"devices": 0}, "config.devices is 0"),
        ({"repeats": 0}, "config.repeats is 0"),
        ({"arm_settings": {}}, "no arms"),
        ({"arms": "a,a"}, "arm 'a' is named twice"),
    ],
)
def test_an_experiment_checks_what_only_the_whole_can_tell(given, text):
    with pytest.raises(errors.ConfigError, match=re.escape(text)):
        experiment(**given)


def test_a_tier_needs_the_link_that_it_names():
    memory = settings.MemorySettings(
        tiers={"peer": settings.TierSettings(kind="peer", bytes=1, link="nvlnk")}
    )
    links = {"nvlink": settings.LinkSettings(latency_seconds=0.0, bytes_per_second=1.0)}
    with pytest.raises(errors.ConfigError, match=r"peer\.link is 'nvlnk' \(did you mean 'nvlink'"):
        experiment(memory=memory, emulate=settings.EmulateSettings(dilation=1.0, links=links))


def test_arms_run_in_the_order_asked_for_and_all_when_none_is_named():
    assert experiment().arm_names == ["a", "b"]
    assert experiment(arms=" b , a ").arm_names == ["b", "a"]


def test_dilation_makes_a_run_emulated():
    assert experiment().evidence == "measured"
    assert experiment(emulate=settings.EmulateSettings(dilation=2.0)).evidence == "emulated"


def test_peers_come_before_hosts():
    tiers = {
        "a_host": settings.TierSettings(kind="host", bytes=1),
        "z_peer": settings.TierSettings(kind="peer", bytes=1),
        "b_peer": settings.TierSettings(kind="peer", bytes=1),
    }
    ordered = [name for name, _ in settings.MemorySettings(tiers=tiers).nearest_first]
    assert ordered == ["b_peer", "z_peer", "a_host"]


def test_a_model_from_a_folder_is_called_by_it():
    assert settings.ModelSettings(build=build, name="a").title == "a"
    assert settings.ModelSettings(build=build, name="a", path="some/b").title == "some/b"
