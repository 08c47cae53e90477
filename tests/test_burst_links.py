"""What configs/burst_links.py is to show, on a virtual clock and (long) as it runs."""

from __future__ import annotations

import io
import itertools
import pathlib
from typing import Any

import pytest
import rich.console

from aqua_jax.experiments import config_file, overrides, settings, trial
from aqua_jax.workloads import live, measure, records
from tests.experiments import simulated

CONFIG = pathlib.Path(__file__).resolve().parent.parent / "configs" / "burst_links.py"


def experiment(**workload: Any) -> settings.Experiment:
    config = config_file.load(str(CONFIG))
    config.workload.update(workload)
    return overrides.experiment(config)


def gaps(record: records.RunRecord) -> list[tuple[float, float]]:
    """From the end of each slice to the start of the next, where there is time between."""
    slices = sorted(
        (span.start_seconds, span.end_seconds) for span in record.spans if span.track == "device"
    )
    return [
        (end, start) for (_, end), (start, _) in itertools.pairwise(slices) if start > end + 1e-9
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_peer_stalls_the_device_much_less(seed: int) -> None:
    whole = experiment(seed=seed)
    host, peer = (simulated.run(overrides.arm(whole, name)) for name in ("cfs_host", "cfs_peer"))
    assert host.preemptions > 10
    assert host.stall_seconds > 4 * peer.stall_seconds > 0
    faster = [measure.summarise(run)["output_tokens_per_second"] for run in (peer, host)]
    assert faster[0] > 1.05 * faster[1]
    assert peer.recomputed_tokens == host.recomputed_tokens == 0


@pytest.mark.parametrize("arm", ["cfs_host", "cfs_peer"])
def test_stall_is_the_time_between_slices_and_ends_with_a_copy(arm: str) -> None:
    record = simulated.run(overrides.arm(experiment(), arm))
    between = gaps(record)
    assert len(between) > 5
    assert record.stall_seconds == pytest.approx(sum(end - start for start, end in between))
    assert record.idle_seconds == pytest.approx(0.0, abs=1e-9)
    landed = [span.end_seconds for span in record.spans if span.name == "page_in"]
    for _, end in between:
        assert any(abs(end - at) < 1e-9 for at in landed)


def test_with_memory_for_three_it_does_not_matter() -> None:
    config = config_file.load(str(CONFIG))
    config.memory.pool_pages = 2 * config.memory.pool_pages
    whole = overrides.experiment(config)
    host, peer = (simulated.run(overrides.arm(whole, name)) for name in ("cfs_host", "cfs_peer"))
    ends = [max(span.end_seconds for span in run.spans) for run in (host, peer)]
    assert ends[0] == pytest.approx(ends[1], rel=0.01)


def test_the_derivation_says_what_is_emulated() -> None:
    derivation = experiment().report.derivation
    for text in ("5.97 ms", "48.9 ns", "41.4 us", "8.9 us + bytes / 370 GB/s", "52 GB/s"):
        assert text in derivation


@pytest.mark.long
def test_the_emulation_shows_it_with_real_tokens() -> None:
    one = trial.Trial(experiment(requests=3))
    shared = one.machine()
    try:
        with live.LiveView(console=rich.console.Console(file=io.StringIO())) as view:
            value = one.run(shared, view, stopped=lambda: False).value
    finally:
        shared.close()
    arms = value["arms"]
    assert len({arm["token_ids_sha256"] for arm in arms.values()}) == 1
    assert arms["cfs_host"]["stall_seconds"] > 2 * arms["cfs_peer"]["stall_seconds"] > 0
    assert all(row["valid"] for row in value["emulation"].values()), value["emulation"]
