"""What arms share, what each has of its own, and what a machine refuses."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors, types
from aqua_jax.experiments import away_reads, machine, overrides, settings, trial
from tests.experiments import tiny


@pytest.fixture
def start(shared):
    """Starts the first arm of an experiment, once the mover of the one before is closed."""
    started = []

    def close_last() -> None:
        if started:
            started.pop().engine.mover.close()

    def start_first(whole: settings.Experiment) -> machine.Arm:
        close_last()
        running = shared.start(overrides.arm(whole, whole.arm_names[0]))
        started.append(running)
        return running

    yield start_first
    close_last()


def test_an_arm_has_its_policy_its_tiers_and_no_more_pages_than_asked_for(start):
    memory = {"pool_pages": 9, "tiers": {"host": {"kind": "host", "bytes": 8192}}}
    small = start(tiny.with_arms({"a": {"policy": {"name": "fcfs"}, "memory": memory}}))
    control = small.engine.controller
    assert control.memory.device.capacity == 8  # page 0 is scratch
    assert [(tier.name, tier.slots.capacity) for tier in control.memory.tiers] == [("host", 2)]
    assert not control.policy.pages_out
    both = start(tiny.with_arms({"a": tiny.paging()})).engine.controller.memory
    assert [tier.name for tier in both.tiers] == ["peer", "host"]
    assert both.device.capacity == 16


def test_emulated_links_count_a_page_as_what_it_stands_for(shared, start):
    emulate = {
        "dilation": 2.0,
        "step_seconds": 0.01,
        "page_bytes": 10 * shared.runner.page_bytes,
        "links": {"slow": {"latency_seconds": 0.02, "bytes_per_second": 1e6}},
    }
    tiers = {"peer": {"kind": "peer", "bytes": 1 << 20, "link": "slow"}}
    running = start(tiny.with_arms({"a": {"emulate": emulate, "memory": {"tiers": tiers}}}))
    assert running.links is running.engine.mover
    assert running.runner is running.engine.runner
    peer = running.engine.controller.memory.tiers[0].slots.space
    began_at = shared.clock.now()
    move = types.Move(types.Place(shared.runner.space, 1), types.Place(peer, 0), 8)
    ticket = running.links.submit([move])
    while not ticket.done():
        shared.clock.wait([ticket], began_at + 5.0)
        running.links.poll()
    seconds = 2.0 * (0.02 + 10 * shared.runner.page_bytes / 1e6)
    assert shared.clock.now() - began_at == pytest.approx(seconds, abs=0.1)
    assert running.links.late == 0


def test_without_emulation_nothing_is_withheld(start):
    running = start(tiny.with_arms({"a": tiny.paging()}))
    assert (running.runner, running.links) == (None, None)


def test_an_unknown_model_is_refused_by_name():
    one = trial.Trial(tiny.experiment(model__name="tinny"))
    with pytest.raises(errors.ConfigError, match=r"tinny.*did you mean 'tiny'"):
        one.machine()


def test_a_page_attended_away_costs_its_tiers_link_what_it_stands_for():
    links = {"slow": {"latency_seconds": 0.0, "bytes_per_second": 1e6}}
    tiers = {"peer": {**tiny.TIERS["peer"], "link": "slow"}, "host": tiny.TIERS["host"]}
    whole = tiny.with_arms(
        {"a": {"memory": {"tiers": tiers}}},
        emulate={"dilation": 1.0, "step_reads": 4, "links": links},
    )
    arm = overrides.arm(whole, "a")
    reads = machine.count_reads(arm, window=24)
    cost = machine.step_cost(arm, {"peer": 1, "host": 2}, page_bytes=4096, reads=reads)
    assert cost.away_page == {1: pytest.approx(4096 / 1e6)}
    engine = whole.engine
    assert (
        cost.reads
        == reads
        == away_reads.AwayReads(
            chunk_units=engine.chunk_tokens, page_units=engine.page_tokens, window=24, step_reads=4
        )
    )
