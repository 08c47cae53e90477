"""Settings to flags and back, nothing lost; arms laid over; what cannot be is said by name."""

from __future__ import annotations

import json
import re

import ml_collections
import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import overrides
from tests.experiments import tiny


def config() -> ml_collections.ConfigDict:
    return overrides.to_config_dict(tiny.experiment())


def test_there_and_back_is_the_same_experiment():
    whole = tiny.experiment()
    assert overrides.experiment(config()) == whole
    assert whole.arm_names == ["fcfs", "cfs_host", "cfs_peer"]


def test_a_changed_value_arrives_and_ints_become_floats():
    changed = config()
    changed.workload.rate = 3
    changed.memory.faults.fail = 0.5
    whole = overrides.experiment(changed)
    assert isinstance(whole.workload.rate, float)
    assert whole.memory.faults.fail == 0.5


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("engine.lanes", 2.5, "engine.lanes is 2.5 of type float; expected int"),
        ("engine.lanes", True, "engine.lanes is True of type bool; expected int"),
        ("memory.mover", 3, "memory.mover is 3 of type int; expected str"),
        ("memory", 3, "memory is 3; expected settings by name"),
        ("memory.tiers", 3, "memory.tiers is 3; expected settings by name"),
        ("memory.tiers", {"peer": 3}, "memory.tiers.peer is 3; expected settings by name"),
        ("memory.tiers", {"p": {"knd": "peer"}}, "unknown memory.tiers.p.knd (did you mean"),
        ("memory.tiers", {"p": {"kind": "peer"}}, "memory.tiers.p.bytes is missing"),
        ("model.build", "llama", "model.build is 'llama'"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_path(path, value, text):
    changed = config().to_dict()
    *heads, last = path.split(".")
    head = changed
    for name in heads:
        head = head[name]
    head[last] = value
    with pytest.raises(errors.ConfigError, match=re.escape(text)):
        overrides.experiment(ml_collections.ConfigDict(changed))


def test_an_arm_is_the_whole_with_its_settings_laid_over():
    whole = tiny.experiment()
    arm = overrides.arm(whole, "fcfs")
    assert arm.policy.name == "fcfs"
    assert arm.policy.quantum_tokens == whole.policy.quantum_tokens
    assert arm.memory.tiers == {}
    assert overrides.arm(whole, "cfs_peer").memory.tiers.keys() == {"peer", "host"}
    assert arm.engine == whole.engine


def test_seeds_count_on_from_the_workloads():
    whole = tiny.experiment(workload__seed=7)
    assert overrides.with_seed(whole, 2).workload.seed == 9
    assert overrides.with_seed(whole, 0) == whole


def test_as_json_is_json_and_names_functions():
    value = overrides.as_json(tiny.experiment())
    assert json.loads(json.dumps(value)) == value
    assert value["model"]["build"] == "models.build.causal"
    assert list(value["arm_settings"]) == sorted(value["arm_settings"])


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("polcy.name", "cfs", "--config.polcy.name: the config has no 'polcy' (did you mean 'pol"),
        ("policy.nam", "cfs", "--config.policy.nam: policy has no 'nam' (did you mean 'name'?)"),
        ("policy.name.x", "cfs", "policy.name is a value and has no 'x'"),
        ("memory.tiers.peer.bytes", "4", "arms have it: --config.arm_settings.cfs_peer.memory.t"),
        ("engine.lanes", "many", "--config.engine.lanes=many: expected a whole number"),
        ("engine.lanes", "2.5", "--config.engine.lanes=2.5: expected a whole number"),
        ("workload.rate", "fast", "--config.workload.rate=fast: expected a number"),
        ("memory.verify", "perhaps", "--config.memory.verify=perhaps: expected True or False"),
        ("model.build", "f", "--config.model.build: a function cannot be given on the command"),
        ("policy", "cfs", "--config.policy=cfs: policy has settings of its own: "),
    ],
)
def test_a_wrong_key_or_value_of_a_flag_is_named(path, value, text):
    with pytest.raises(errors.ConfigError, match=re.escape(text)):
        overrides.check_key(config(), path, value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("policy.quantum_tokens", "16"),
        ("workload.rate", "1e3"),
        ("memory.verify", "True"),
        ("arms", "fcfs"),
        ("arm_settings.cfs_peer.memory.tiers.peer.bytes", "4096"),
    ],
)
def test_right_ones_pass(path, value):
    overrides.check_key(config(), path, value)


def test_a_setting_that_every_arm_sets_has_no_effect():
    arms = {"a": {"policy": {"name": "fcfs"}}, "b": {"policy": {"name": "cfs"}}}
    whole = tiny.with_arms(arms)
    text = r"policy\.name has no effect.*--config\.arm_settings\.a\.policy\.name"
    with pytest.raises(errors.ConfigError, match=text):
        overrides.check_effect(whole, "policy.name")
    overrides.check_effect(whole, "policy.quantum_tokens")
    overrides.check_effect(tiny.experiment(), "policy.name")  # two arms leave it alone
