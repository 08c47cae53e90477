"""A prompt twice the pool: by the real engine, and what configs/long_prompt.py is to show."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from aqua_jax.control import types
from aqua_jax.experiments import config_file, overrides, recorder, settings, trial
from aqua_jax.workloads import measure, records
from tests.experiments import simulated, tiny
from tests.memory import parts

CONFIG = pathlib.Path(__file__).resolve().parent.parent / "configs" / "long_prompt.py"


def runs(variant: str = "") -> dict[str, records.RunRecord]:
    """Each arm on simulated devices, by name."""
    return {name: simulated.run(arm) for name, arm in arms(variant).items()}


def arms(variant: str = "") -> dict[str, settings.Experiment]:
    whole = overrides.experiment(config_file.load(f"{CONFIG}{variant}"))
    return {name: overrides.arm(whole, name) for name in whole.arm_names}


@pytest.fixture
def shares_away(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """By arm, the largest share of a session's pages that a slice attended in place."""
    shares: dict[str, float] = {}
    slice_done = recorder.Recorder.slice_done

    def noted(self: recorder.Recorder, batch: types.Batch, *args: Any) -> None:
        arm = self.record.arm
        for plan in batch.lanes:
            away = sum(entry < 0 for entry in plan.pages)
            # Of one that has ended and had all on the device, nothing is left to look at.
            shares[arm] = max(shares.get(arm, 0.0), away / max(1, len(plan.pages)))
        slice_done(self, batch, *args)

    monkeypatch.setattr(recorder.Recorder, "slice_done", noted)
    return shares


@parts.needs_native
def test_its_tokens_are_those_of_an_engine_with_enough_memory(
    shares_away: dict[str, float],
) -> None:
    away = {"attend_away": "long", "pool_pages": 6, "mover": "ffi"}
    whole = tiny.with_arms(
        {
            "fits": {},
            "away": tiny.paging(**away),
            "failing": tiny.paging(**away, faults={"fail": 0.2, "seed": 3}),
        },
        workload__requests=4,
        workload__prompt_max=64,
        workload__prompt_scale=1.0,
        workload__output_max=32,
        memory__attention="native",
        memory__probe="off",
        report__baselines="fits",
    )
    assert 64 // whole.engine.page_tokens > 6  # the prompt alone outgrows the pool
    one = trial.Trial(whole)
    shared = one.machine()
    try:
        value = tiny.run(one, shared).value
    finally:
        shared.close()
    assert len(tiny.digests(value)) == 1
    assert "attended_bytes" not in value["arms"]["fits"]
    assert shares_away["fits"] == 0.0
    for name in ("away", "failing"):
        assert shares_away[name] >= 0.5
        assert sum(value["arms"][name]["attended_bytes"].values()) > 0


@parts.needs_native
def test_where_all_attend_away_sessions_that_fit_run_in_a_third_of_the_memory(
    shares_away: dict[str, float],
) -> None:
    whole = tiny.with_arms(
        {
            "fits": {},
            "away": tiny.paging(attend_away="all", pool_pages=9, mover="ffi"),
            "paged": tiny.paging(pool_pages=9, mover="ffi"),
        },
        workload__requests=6,
        workload__prompt_max=32,
        workload__prompt_scale=1.0,
        workload__output_max=24,
        memory__attention="native",
        memory__probe="off",
        report__baselines="fits",
    )
    one = trial.Trial(whole)
    shared = one.machine()
    try:
        value = tiny.run(one, shared).value
    finally:
        shared.close()
    assert len(tiny.digests(value)) == 1
    assert shares_away["fits"] == shares_away["paged"] == 0.0
    assert shares_away["away"] > 0.3
    assert value["arms"]["away"]["preemptions"] < value["arms"]["paged"]["preemptions"]


def test_half_is_attended_away_and_the_link_says_how_fast() -> None:
    ran = runs()
    assert [len(run.requests) for run in ran.values()] == [1, 1, 1]
    fits, peer, host = (measure.summarise(run) for run in ran.values())
    assert fits["tpot_seconds"]["p50"] < peer["tpot_seconds"]["p50"]
    assert host["tpot_seconds"]["p50"] > 4 * peer["tpot_seconds"]["p50"]
    # Were prefill to bring each page over its link once a program: no more than the link asks for.
    assert host["ttft_seconds"]["max"] < 1.5 * fits["ttft_seconds"]["max"]
    attended = [host["attended_bytes"]["host"], peer["attended_bytes"]["peer"]]
    assert attended[0] == pytest.approx(attended[1], rel=0.02)
    last = ran["host"].samples[-1].pages
    assert last["host"] == pytest.approx(last["device"], rel=0.1)
    for name in ("peer", "host"):
        assert ran[name].recomputed_tokens == ran[name].preemptions == 0
        assert ran[name].stall_seconds == pytest.approx(0.0, abs=0.1)


def test_short_requests_beside_it_are_served() -> None:
    ran = runs(":beside")
    for name in ("peer", "host"):
        tenants = measure.summarise_tenants(ran[name])
        assert tenants["chat"]["finished"] == 5
        assert tenants["document"]["finished"] == 1
        chat, document = (tenants[who]["ttft_seconds"]["max"] for who in ("chat", "document"))
        assert chat < 0.3 * document
        assert ran[name].recomputed_tokens == 0


def test_the_derivation_says_what_is_emulated() -> None:
    derivation = arms()["peer"].report.derivation
    for text in (
        "For prefill that is a lower bound",
        "does not do yet. First-token times are no forecast.",
        "5.97 ms",
        "48.9 ns",
        "84.8 us",
        "NVLink 370 GB/s, 8.2 GiB in 24 ms",
        "169 ms",
    ):
        assert text in derivation
