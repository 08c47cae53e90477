"""The manual names every setting there is, with its default."""

from __future__ import annotations

import dataclasses
import re

from aqua_jax.experiments import manual, settings
from tests.experiments import tiny


def test_every_setting_is_named_with_its_default():
    text, _ = manual.text().split("Of simulated experiments")
    sections = dict(
        re.findall(r"--config\.(\w*)\.?NAME=VALUE\n(.*?)(?=\n\n--config|\Z)", text, re.S)
    )
    whole = tiny.experiment()
    heads = [
        field.name
        for field in dataclasses.fields(whole)
        if dataclasses.is_dataclass(getattr(whole, field.name))
    ]
    assert list(sections) == ["", *heads]
    for head in heads:
        for field in dataclasses.fields(getattr(whole, head)):
            assert re.search(rf"\b{field.name}\b", sections[head]), f"{head}.{field.name}"
    assert re.search(r"Defaults: .*requests 128", sections["workload"])
    assert "seed 0" in sections[""]


def test_simulated_experiments_have_what_is_theirs_alone():
    _, text = manual.text().split("Of simulated experiments")
    text, _ = text.split("Of completions")
    heads = re.findall(r"--config\.(\w*)\.?NAME=VALUE\n", text)
    assert heads == ["", "device", "engine", "memory", "cluster", "report"]
    assert "rates: requests a second" in text
    assert "hardware H100, model CodeLlama-34B" in text
    assert "overlap True" in text


def test_completions_have_what_is_theirs_alone():
    _, text = manual.text().split("Of completions")
    heads = re.findall(r"--config\.(\w*)\.?NAME=VALUE\n", text)
    assert heads == ["", "sampling"]
    assert "max_tokens 128" in text
    assert "temperature: 0 is greedy" in text


def test_it_fits_a_terminal_and_says_what_a_setting_means():
    text = manual.text()
    assert max(map(len, text.splitlines())) <= 100
    assert "calibration_seconds: how long that measurement runs." in text
    assert f"load {settings.WorkloadSettings().load}" in text
