"""Prompts and answers in words: a model with a tokenizer under several arms."""

from __future__ import annotations

import pathlib

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import startup, trial
from aqua_jax.workloads import live, samples
from models import tiny_text
from tests.experiments import tiny

TELLERS = {
    "fcfs": {"policy": {"name": "fcfs"}},
    "cfs_host": {"memory": {"tiers": {"host": tiny.TIERS["host"]}}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A model that has learnt nothing, with its tokenizer and stories to begin with."""
    target = tmp_path_factory.mktemp("words") / "model"
    tiny_text.write(tiny_text.untrained(0), target, readme="")
    return target


def test_answers_are_shown_in_words_and_are_the_same_in_all_arms(folder):
    experiment = tiny.with_arms(
        TELLERS,
        model__path=str(folder),
        workload__texts=str(folder / "prompts.txt"),
        workload__temperature=0.8,
        workload__top_p=0.95,
        report__samples=2,
    )
    one = trial.Trial(experiment)
    begun = startup.Startup()
    machine = one.machine(on_stage=begun.ended)
    try:
        with live.LiveView(console=tiny.quiet()) as view:
            value = one.run(machine, view, stopped=lambda: False, begun=begun).value
    finally:
        machine.close()
    assert len(tiny.digests(value)) == 1
    assert value["arms"]["cfs_host"]["preemptions"] > 0
    texts = (folder / "prompts.txt").read_text().splitlines()
    assert len(value["samples"]) == 2
    for number, sample in value["samples"].items():
        assert texts[int(number)].startswith(sample["prompt"])
        assert sample["arm"] == samples.SAME
        assert sample["answer"]
    assert list(value["startup"]) == ["import", "weights", "programs", "links", "first token"]
    assert value["startup"]["first token"]["until_seconds"] > 0


@pytest.mark.parametrize("setting", ["workload__texts", "report__samples"])
def test_words_need_a_tokenizer(setting):
    with pytest.raises(errors.ConfigError, match=r"needs words.*set model\.path"):
        tiny.experiment(**{setting: 1 if setting.endswith("samples") else "texts.txt"})
