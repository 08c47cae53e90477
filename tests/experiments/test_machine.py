"""What arms share, what each has of its own, and what a machine refuses."""

from __future__ import annotations

import re

import jax
import pytest

from aqua_jax.control import errors, types
from aqua_jax.experiments import machine, overrides, settings, trial
from aqua_jax.memory.movers import faults, reference, verified, xla
from tests.experiments import tiny


@pytest.fixture
def start(shared):
    """Starts the first arm of an experiment; its mover is closed in the end."""
    started = []

    def start_first(whole: settings.Experiment) -> machine.Arm:
        running = shared.start(overrides.arm(whole, whole.arm_names[0]))
        started.append(running)
        return running

    yield start_first
    for running in started:
        running.engine.mover.close()


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


@pytest.mark.parametrize(
    ("memory", "kinds"),
    [
        ({}, (xla.XlaMover,)),
        ({"mover": "reference"}, (reference.ReferenceMover,)),
        ({"verify": True}, (verified.VerifiedMover, xla.XlaMover)),
        ({"faults": {"fail": 0.1}}, (faults.FaultyMover, xla.XlaMover)),
        (
            {"verify": True, "faults": {"corrupt": 0.1}},
            (verified.VerifiedMover, faults.FaultyMover, xla.XlaMover),
        ),
    ],
)
def test_movers_are_wrapped_from_the_inside_out(start, memory, kinds):
    mover = start(tiny.with_arms({"a": tiny.paging(**memory)})).engine.mover
    found = [type(mover)]
    while hasattr(mover, "_inner"):
        mover = mover._inner
        found.append(type(mover))
    assert tuple(found) == kinds


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


def test_too_few_devices_are_refused_before_anything_is_built():
    count = len(jax.devices())
    whole = tiny.with_arms({"a": tiny.paging()}, model__shards=count)
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


def test_an_unknown_model_is_refused_by_name():
    one = trial.Trial(tiny.experiment(model__name="tinny"))
    with pytest.raises(errors.ConfigError, match=r"tinny.*did you mean 'tiny'"):
        one.machine()
