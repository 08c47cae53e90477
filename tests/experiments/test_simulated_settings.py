"""What a simulated experiment may say, and how it is told what it may not."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import overrides, simulated_settings
from tests.experiments import imagined


def test_settings_come_back_from_flags_as_they_were():
    whole = imagined.experiment(arms="fcfs,cfs_peer")
    config = overrides.simulated_config_dict(whole)
    assert overrides.simulated_of(config) == whole
    assert overrides.as_json(whole)["engine"]["overlap"] is True


def test_a_config_of_a_real_experiment_is_no_simulated_one():
    config = overrides.simulated_config_dict(imagined.experiment())
    del config["simulated"]
    assert overrides.simulated_of(config) is None


def test_arms_lay_their_settings_over_the_rest():
    arm = overrides.arm(imagined.experiment(), "cfs_in_line")
    assert not arm.engine.overlap
    assert arm.engine.lanes == 16
    assert [name for name, _ in arm.memory.nearest_first] == ["peer", "host"]


@pytest.mark.parametrize(
    ("rates", "values", "shown"),
    [("", [0.0], 0.0), ("4", [4.0], 4.0), ("2, 4,6.5", [2.0, 4.0, 6.5], 4.0), ("0,3", [0, 3], 3)],
)
def test_rates(rates, values, shown):
    whole = imagined.experiment(rates=rates)
    assert whole.rate_values == values
    assert whole.shown_rate == shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": "2,fast"}, "rates=2,fast: 'fast' is no rate; give requests a second"),
        ({"rates": "-1"}, "rates=-1: '-1' is no rate"),
        ({"rates": "4,4.0"}, "a rate is named twice in rates=4,4.0"),
        ({"workload__rate": 3.0}, "workload.rate is 3, but .* give --config.rates=3"),
        ({"report__shown_rate": 5.0}, "report.shown_rate is 5; give one of rates=6,20"),
        ({"repeats": 0}, "config.repeats is 0; give a number of at least 1"),
        ({"workers": -1}, "config.workers is -1"),
        ({"arms": "fcfs,csf"}, "unknown arm 'csf'"),
        ({"policy__name": "csf"}, "unknown policy.name 'csf' .did you mean 'cfs'"),
        ({"engine__lanes": 0}, "engine.lanes is 0; give a number of at least 1"),
        ({"memory__fraction": 0.0}, "memory.fraction is 0.0; give a finite number above 0"),
        ({"device__shards": 0}, "device.shards is 0"),
        (
            {"memory__attend_away": "all", "engine__prefix_reuse": True},
            "attend_away=all with engine.prefix_reuse",
        ),
    ],
)
def test_what_is_wrong_is_one_line(change, message):
    with pytest.raises(errors.ConfigError, match=message):
        imagined.experiment(**change)


def test_tiers_are_peers_or_hosts():
    with pytest.raises(errors.ConfigError, match=r"unknown memory.tiers...kind 'disk'"):
        simulated_settings.SimulatedTier(kind="disk", bytes=1)
