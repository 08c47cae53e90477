"""End to end: same requests, same answers under any policy, tier, fault and sharding."""

from __future__ import annotations

import json
import re

import jax
import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import trial
from aqua_jax.memory import native
from aqua_jax.memory.movers import faults, xla
from aqua_jax.workloads import report
from tests.experiments import tiny
from tests.memory import parts

FCFS = {"policy": {"name": "fcfs"}}
FAULTY = {"seed": 1, "delay_seconds": 0.003}
ARMS = {
    "fcfs": FCFS,
    "fcfs_reserve": {"policy": {"name": "fcfs_reserve"}},
    "cfs_host": {"memory": {"tiers": {"host": tiny.TIERS["host"]}}},
    "cfs_peer": tiny.paging(),
    "cfs_recompute": {"policy": {"name": "cfs_recompute"}},
    "quantum_1": tiny.paging() | {"policy": {"name": "cfs", "quantum_tokens": 1}},
    "reference": tiny.paging(mover="reference"),
    "xla": tiny.paging(mover="xla"),
    "late": tiny.paging(faults=FAULTY | {"delay": 0.4, "reorder": 0.4}),
    "failing": tiny.paging(faults=FAULTY | {"fail": 0.3}),
    "corrupt": tiny.paging(verify=True, faults=FAULTY | {"corrupt": 0.3}),
}


def test_the_count_of_compilations_counts():
    with tiny.count_compilations() as compiled:
        jax.jit(lambda x: x * 3 + 1)(jax.numpy.zeros((3, 5)))
    assert compiled


def test_all_arms_give_the_same_answers_and_compile_nothing(shared, tmp_path):
    one = trial.Trial(tiny.with_arms(ARMS))
    with tiny.count_compilations() as compiled:
        result = tiny.run(one, shared)
    assert not compiled
    arms = result.value["arms"]
    assert len(tiny.digests(result.value)) == 1
    assert list(arms) == list(ARMS)
    assert arms["fcfs"]["recomputed_tokens"] > 0
    assert arms["fcfs_reserve"]["recomputed_tokens"] == 0
    assert arms["cfs_host"]["paged_bytes"]["in"]["host"] > 0
    assert arms["cfs_peer"]["paged_bytes"]["in"]["peer"] > 0
    assert arms["quantum_1"]["preemptions"] > arms["cfs_peer"]["preemptions"]
    assert arms["failing"]["mover_errors"] > 0
    assert arms["corrupt"]["mover_errors"] > 0
    assert arms["failing"]["recomputed_tokens"] > 0
    assert result.value["comparisons"].keys() == {f"{a}/fcfs" for a in ARMS if a != "fcfs"}
    for name, program in result.value["programs"]["cfs_peer"].items():
        assert program["compiles"] == 1, name
        assert (program["calls"] > 0) == (name != "note"), "no request has penalties or biases"
    paths = result.write(tmp_path / "new" / "folder")
    report.check(json.loads(paths["report.json"].read_text()))


def test_sampled_answers_are_the_same_and_differ_from_greedy_ones(shared):
    arms = {name: ARMS[name] for name in ("fcfs", "cfs_peer", "quantum_1")}
    found = {}
    for temperature in (0.0, 0.8):
        one = trial.Trial(tiny.with_arms(arms, workload__temperature=temperature))
        found[temperature] = tiny.digests(tiny.run(one, shared).value)
        assert len(found[temperature]) == 1
    assert found[0.0] != found[0.8]


def test_tensor_parallel_answers_are_the_same_in_every_arm(cache_everything):
    arms = {name: ARMS[name] for name in ("fcfs", "cfs_host", "cfs_peer")}
    one = trial.Trial(tiny.with_arms(arms, model__shards=2, workload__requests=8))
    shared = one.machine()
    value = tiny.run(one, shared).value
    shared.close()
    assert len(tiny.digests(value)) == 1
    assert value["arms"]["cfs_peer"]["paged_bytes"]["in"]["peer"] > 0
    assert len(value["hardware"]["devices"]) >= 3


@parts.needs_native
@pytest.mark.parametrize("shards", [1, 4])
def test_native_copies_and_attention_give_the_same_answers_in_every_arm(cache_everything, shards):
    arms = {name: ARMS[name] for name in ("fcfs", "cfs_host", "cfs_peer")}
    whole = tiny.with_arms(
        arms,
        model__shards=shards,
        workload__requests=8,
        memory__mover="ffi",
        memory__attention="native",
    )
    one = trial.Trial(whole)
    before = native.load().memory_live_bytes()
    shared = one.machine()
    with tiny.count_compilations() as compiled:
        value = tiny.run(one, shared).value
    shared.close()
    assert native.load().memory_live_bytes() == before
    assert not compiled
    assert len(tiny.digests(value)) == 1
    assert value["arms"]["cfs_host"]["paged_bytes"]["in"]["host"] > 0
    assert value["arms"]["cfs_peer"]["paged_bytes"]["in"]["peer"] > 0
    assert {name: choice["used"] for name, choice in value["data_path"].items()} == {
        "memory.mover=ffi": "ffi",
        "memory.attention=native": "native",
        "engine.linear=auto": "native",
    }
    assert {row["mover"] for row in value["links"].values()} == {"ffi"}


def test_a_bad_link_leaves_its_tier_out_of_every_arm_and_says_so(cache_everything, monkeypatch):
    arms = {name: ARMS[name] for name in ("fcfs", "cfs_host", "cfs_peer")}
    one = trial.Trial(tiny.with_arms(arms, workload__requests=8, memory__mover="xla"))
    shared = one.machine()
    plain = xla.XlaMover

    def damaging_the_first(stores, clock):
        exact = faults.Faults(exact={0: faults.Fault.CORRUPT})
        mover = plain(stores, clock)
        return faults.FaultyMover(mover, clock, exact, corrupt=faults.byte_flipper(stores))

    with monkeypatch.context() as patch:
        patch.setattr(xla, "XlaMover", damaging_the_first)
        shared.check_links()
    value = tiny.run(one, shared).value
    shared.close()
    assert len(tiny.digests(value)) == 1
    refused = {name: row["refused"] for name, row in value["links"].items()}
    (bad,) = [name for name, why in refused.items() if why]
    assert bad == "device->host"
    assert refused[bad].startswith("1 of 65536 bytes arrived wrong")
    left_out = value["data_path"]["memory.tiers.host"]
    assert left_out["used"] == "left out of all arms"
    assert refused[bad] in left_out["because"]
    host, peer = (value["arms"][name] for name in ("cfs_host", "cfs_peer"))
    assert host["paged_bytes"]["out"] == {"peer": 0, "host": 0}
    assert host["recomputed_tokens"] > 0  # no tier is left to it
    assert peer["paged_bytes"]["out"]["peer"] > peer["paged_bytes"]["out"]["host"] == 0


def test_an_interrupted_trial_reports_what_had_begun(shared):
    calls = iter(range(1_000_000))
    one = trial.Trial(tiny.with_arms({"fcfs": FCFS, "cfs": tiny.paging()}))
    result = tiny.run(one, shared, stopped=lambda: next(calls) > 10)
    assert result.interrupted
    assert list(result.value["arms"]) == ["fcfs"]
    arm = result.value["arms"]["fcfs"]
    assert arm["interrupted"] is True
    assert arm["finished"] < 16
    assert result.value["comparisons"] == {}
    report.check(result.value)


def test_calibration_sets_the_rate_and_the_load_multiplies_it(shared):
    seconds = {}
    for load in (1.0, 4.0):
        one = trial.Trial(
            tiny.with_arms(
                {"fcfs": FCFS},
                workload__rate=0.0,
                workload__load=load,
                workload__calibration_seconds=0.3,
                workload__requests=12,
            )
        )
        sustained = one.calibrate(shared)
        assert sustained is not None
        assert sustained > 0
        arrivals = [r.scheduled_at for r in tiny.run(one, shared).runs[0].requests]
        rate = (len(arrivals) - 1) / (max(arrivals) - min(arrivals))
        assert rate == pytest.approx(sustained * load, rel=1e-3)
        seconds[load] = max(arrivals)
    assert trial.Trial(tiny.experiment()).calibrate(shared) is None


def test_a_calibration_that_sees_too_little_says_so(shared):
    one = trial.Trial(
        tiny.with_arms({"fcfs": FCFS}, workload__rate=0.0, workload__calibration_seconds=1e-6)
    )
    with pytest.raises(errors.ConfigError, match=r"calibration_seconds=1e-06 is too short"):
        one.calibrate(shared)


@pytest.mark.parametrize(
    ("arm", "text"),
    [
        ({"workload": {"requests": 3}}, "arm 'a' sets workload: all arms share it"),
        ({"model": {"seed": 3}}, "arm 'a' sets model: all arms share it"),
        ({"engine": {"page_tokens": 16}}, "arm 'a' sets engine.page_tokens, a size of the"),
        ({"engine": {"lanes": 9}}, "arm 'a' sets engine.lanes to 9; the programs that all arms"),
        ({"memory": {"pool_pages": 18}}, "raise config.memory.pool_pages"),
        ({"memory": {"attention": "xla"}}, "arm 'a' sets memory.attention: all arms share it"),
        ({"memory": {"link_floor_gbps": 0.0}}, "sets memory.link_floor_gbps: all arms share it"),
        ({"policy": {"nam": "cfs"}}, "unknown policy.nam (did you mean 'name'?)"),
        ({"polcy": {"name": "cfs"}}, "unknown config.polcy (did you mean 'policy'?)"),
    ],
)
def test_arms_that_cannot_share_a_machine_are_refused(arm, text):
    with pytest.raises(errors.ConfigError, match=re.escape(text)):
        trial.Trial(tiny.with_arms({"a": arm}))


CONVERSATIONS = [  # prompts in blocks of 512 tokens: of three conversations, three turns each
    {
        "timestamp": turn,
        "input_length": 512 * (turn + 1) + 300,
        "output_length": 64,
        "hash_ids": [*(100 * number + block for block in range(turn + 1)), 1000 * turn + number],
    }
    for turn in range(3)
    for number in range(1, 4)
]


@pytest.mark.parametrize(
    "memory",
    [
        {"memory__mover": "xla", "memory__attention": "xla"},
        pytest.param(
            {"memory__mover": "ffi", "memory__attention": "native"}, marks=parts.needs_native
        ),
    ],
)
def test_reused_prefixes_change_no_answer_and_save_prefill(cache_everything, tmp_path, memory):
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(row) + "\n" for row in CONVERSATIONS))
    on = {"engine": {"prefix_reuse": True}}
    arms = {
        "alone": tiny.paging(),
        "reuse": tiny.paging() | on,
        "reuse_fcfs": {"policy": {"name": "fcfs"}} | on,
    }
    workload = {"trace": str(trace), "requests": 9, "rate": 2000.0, "output_scale": 0.5}
    changes = {f"workload__{name}": value for name, value in workload.items()}
    one = trial.Trial(tiny.with_arms(arms, **changes, **memory))
    shared = one.machine()
    value = tiny.run(one, shared).value
    shared.close()
    assert len(tiny.digests(value)) == 1
    alone, reuse = value["arms"]["alone"], value["arms"]["reuse"]
    assert "prefix" not in alone
    assert reuse["preemptions"] > 0
    assert sum(reuse["paged_bytes"]["in"].values()) > 0
    assert reuse["prefix"]["hit_tokens"] > 0
    assert reuse["prefill_tokens"] < alone["prefill_tokens"]
    assert value["comparisons"]["reuse/alone"]["prefill_ratio"] > 1
