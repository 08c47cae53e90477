"""One simulated run: the same every time, small in memory, checked before it begins."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import overrides, replay, simulated
from tests.experiments import imagined

ROOT = pathlib.Path(__file__).resolve().parents[2]


def job(name: str = "cfs_peer", *, keeps_record: bool = False, **changes) -> simulated.Job:
    whole = imagined.experiment(**changes)
    arm = overrides.arm(whole, name)
    drawn = replay.arrivals(whole.workload, units_max=arm.engine.units_max)
    return simulated.Job(name, arm, 1.0, 0, drawn.arrivals, keeps_record)


def run(one: simulated.Job) -> simulated.Done:
    return simulated.run(one, lambda: False)


def test_a_run_is_the_same_every_time_but_for_the_hosts_seconds():
    first, again = run(job()), run(job())
    assert first.summary == again.summary
    assert "controller_seconds" not in first.summary
    assert first.summary["finished"] == 30
    assert first.summary["paged_bytes"]["out"]["peer"] > 0
    assert first.host["seconds"] > 0
    assert first.host["dispatches"] == again.host["dispatches"] > 0
    assert first.record is None


def test_arms_give_the_same_tokens():
    digests = {run(job(name)).summary["token_ids_sha256"] for name in imagined.ARMS}
    assert len(digests) == 1


def test_a_record_keeps_its_timeline_only_when_asked():
    kept = run(job(keeps_record=True))
    assert kept.record is not None
    assert kept.record.spans
    assert kept.record.samples
    assert kept.record.capacity_pages["device"] in (imagined.PAGES - 1, imagined.PAGES - 2)
    assert kept.summary == run(job()).summary


def test_in_line_the_seconds_that_copies_hold_the_device_are_stall():
    beside, in_line = run(job("cfs_peer")).summary, run(job("cfs_in_line")).summary
    assert in_line["stall_seconds"] > beside["stall_seconds"]
    assert in_line["e2e_seconds"]["mean"] > beside["e2e_seconds"]["mean"]


def test_a_stop_ends_the_run_and_says_so():
    asked = iter(range(1_000_000))
    done = simulated.run(job(), lambda: next(asked) > 20)
    assert done.summary["interrupted"] is True
    assert done.summary["finished"] < 30


def test_a_session_larger_than_the_pool_is_attended_away():
    long = {"workload__requests": 1, "workload__prompt_scale": 1e3, "engine__units_max": 4000}
    change = {"workload__prompt_max": 1500, **long}
    whole = imagined.experiment(**change)
    memory = dataclasses.replace(overrides.arm(whole, "cfs_peer").memory, attend_away="long")
    one = job(**change)
    one = one._replace(settings=dataclasses.replace(one.settings, memory=memory))
    done = run(one)
    assert done.summary["finished"] == 1
    assert done.summary["attended_bytes"]["peer"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device__hardware": "H1000"}, "arm 'cfs_peer': unknown hardware 'H1000' .did you mean"),
        ({"device__model": "Llama"}, "arm 'cfs_peer': unknown text model 'Llama'"),
        ({"device__hardware": "A10G"}, "arm 'cfs_peer': CodeLlama-34B needs 62.9 GiB .* short by"),
        ({"memory__fraction": 0.7}, "80 GiB|0.7 GiB: short by"),
        ({"device__lender": "A10G"}, "memory.tiers.peer is a peer's, and A10G has no NVLink"),
        ({"device__shards": 3}, "expected a divisor of its 64 heads"),
    ],
)
def test_an_arm_that_cannot_be_put_together_is_named(change, message):
    with pytest.raises(errors.ConfigError, match=message):
        simulated.check(overrides.arm(imagined.experiment(**change), "cfs_peer"), "cfs_peer")


PROGRAM = """
import hashlib
from tests.experiments import test_simulated
done = test_simulated.run(test_simulated.job(workload__tenants=3))
print(hashlib.sha256(repr((done.summary, done.tenants)).encode()).hexdigest())
"""


def test_figures_do_not_depend_on_the_order_of_sets_of_names():
    """Which Python draws anew in each process."""
    digests = set()
    for seed in ("1", "2"):
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(ended.stdout)
    assert len(digests) == 1
