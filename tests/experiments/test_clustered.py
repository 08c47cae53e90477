"""One simulated run of a small cluster: its figures, its lenders, the same tokens in every arm."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import cluster_settings, clustered, overrides, replay, simulated
from tests.experiments import imagined

MEMBERS = cluster_settings.ClusterSettings(
    servers=2,
    devices=2,
    texts={
        "text": cluster_settings.TextMemberSettings(
            model="CodeLlama-34B",
            borrow_bytes=2 * 10**9,
            ahead_bytes=10**9,
            host_bytes=10**10,
            pair="images",
        )
    },
    items={
        "images": cluster_settings.ItemMemberSettings(
            model="SDXL", phases="1.5:0.5,4:8", batch_max=11, batch_calm=1, calm_seconds=1.0
        )
    },
)
ARMS: dict[str, Any] = {
    "fcfs": {"policy": {"name": "fcfs"}, "cluster": {"lends": False}},
    "cfs_peer": {"cluster": {"lends": True}},
}


def job(name: str = "cfs_peer", *, keeps_record: bool = True, **changes: Any) -> simulated.Job:
    cluster = dataclasses.replace(MEMBERS, **changes)
    whole = imagined.experiment(arm_settings=ARMS, cluster=cluster, workload__requests=60)
    whole = dataclasses.replace(whole, rates="40")
    arm = overrides.arm(whole, name)
    drawn = replay.arrivals(whole.workload, units_max=arm.engine.units_max)
    arrivals = [dataclasses.replace(a, at_seconds=a.at_seconds / 40) for a in drawn.arrivals]
    return simulated.Job(name, arm, 40.0, 0, arrivals, keeps_record)


def run(one: simulated.Job) -> simulated.Done:
    return clustered.run(one, lambda: False)


def test_arms_give_the_same_tokens_and_lenders_are_told_of():
    without, with_lenders = run(job("fcfs")), run(job())
    assert without.summary["token_ids_sha256"] == with_lenders.summary["token_ids_sha256"]
    assert with_lenders.summary["finished"] == 60
    assert with_lenders.summary["paged_bytes"]["out"]["peer"] > 0
    assert without.summary["paged_bytes"]["out"]["peer"] == 0
    assert with_lenders.record is not None
    (images,) = with_lenders.record.lenders.values()
    assert images.model == "SDXL"
    assert images.reclaims >= 2  # one of each server
    assert images.overdue == 0
    assert max(images.held_bytes) > 0
    assert len(images.at_seconds) == len(images.offered_bytes) == len(images.held_bytes)
    assert len(images.items_done_at) == len(images.items_seconds) >= images.batches > 0
    assert with_lenders.record.samples[-1].tokens_emitted <= with_lenders.summary["output_tokens"]
    assert with_lenders.host["events"] > 100


def test_a_run_is_the_same_every_time_and_whoever_keeps_its_record():
    one, other = run(job()), run(job(keeps_record=False))
    assert other.record is None
    assert one.summary == other.summary


def test_routes_share_the_requests():
    texts = {
        name: dataclasses.replace(MEMBERS.texts["text"], route=name, share=share, pair="")
        for name, share in (("code", 3.0), ("chat", 1.0))
    }
    done = run(job(texts=texts, items={}))
    assert set(done.tenants) == {"code", "chat"}
    requests = {name: row["requests"] for name, row in done.tenants.items()}
    assert sum(requests.values()) == 60
    assert requests["code"] > requests["chat"] > 0


def test_pages_in_use_leave_out_what_a_pool_has_lent():
    text = MEMBERS.texts["text"]
    other = cluster_settings.TextMemberSettings(
        model="Llama-3.1-8B", route="chat", share=0.1, lends=True, retain_bytes=10**9
    )
    texts = {"text": dataclasses.replace(text, pair="other"), "other": other}
    record = run(job(texts=texts, items={}, servers=1)).record
    assert record is not None
    lender = record.lenders["other"]
    assert lender.model == "Llama-3.1-8B"
    assert max(lender.held_bytes) > 0
    used = [sample.pages["device"] for sample in record.samples]
    assert min(used) >= 0 < max(used) < lender.offered_bytes[-1] // 2**21


def test_who_is_stopped_says_so():
    assert clustered.run(job(), lambda: True).summary["interrupted"]


def test_what_does_not_fit_is_refused_with_the_arm_s_name():
    arm = job(devices=1).settings
    with pytest.raises(errors.ConfigError, match="arm 'cfs_peer': the members of server 0 need 2"):
        clustered.check(arm, "cfs_peer")
    clustered.check(job().settings, "cfs_peer")
