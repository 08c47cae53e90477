"""Settings of completions: what is refused, and what stop strings a text stands for."""

from __future__ import annotations

import pathlib

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import completion_settings, overrides, settings
from tests.experiments import tiny_text

PATH = pathlib.Path("some/model")


@pytest.mark.parametrize(
    ("stop", "stops"),
    [
        ("", []),
        ("\n\n", ["\n\n"]),
        ("a,b", ["a,b"]),
        ('["a", "\\n"]', ["a", "\n"]),
        ("[]", []),
    ],
)
def test_stop_is_a_text_or_a_list_of_them(stop, stops):
    assert tiny_text.wanted(PATH, stop=stop).stops == stops


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"stop": "[1]"}, r"stop is '\[1\]': expected a JSON list of texts"),
        ({"stop": "[oh"}, r"stop is '\[oh': no JSON list: Expecting value"),
        ({"stop": '[""]'}, "expected a JSON list of texts"),
        ({"max_tokens": 0}, r"config.max_tokens is 0; give a number of at least 1"),
        ({"system": "Be kind."}, "system is given without chat: set chat=True as well"),
        ({"model": settings.ModelSettings(build=print)}, r"model\.path is empty: give a folder"),
    ],
)
def test_settings_that_cannot_be(changes, text):
    with pytest.raises(errors.ConfigError, match=text):
        tiny_text.wanted(PATH, **changes)


@pytest.mark.parametrize(("name", "value"), [("temperature", -1.0), ("top_p", 0.0), ("seed", -1)])
def test_sampling_that_cannot_be(name, value):
    with pytest.raises(errors.ConfigError, match=rf"sampling\.{name} is {value}"):
        completion_settings.SamplingSettings(**{name: value})


def test_settings_survive_the_way_through_flags():
    wanted = tiny_text.wanted(PATH, stop="x", chat=True)
    config = overrides.completion_config_dict(wanted)
    assert overrides.completion_of(config) == wanted
    config.sampling.temperature = 0.5
    changed = overrides.completion_of(config)
    assert changed is not None
    assert changed.sampling.temperature == 0.5
    assert changed.experiment.engine == wanted.engine
    with pytest.raises(errors.ConfigError, match=r"sampling has no 'temprature' .did you mean"):
        overrides.check_key(config, "sampling.temprature", "1")
