"""A config is a program: what is wrong with it is said in one line, with file and line."""

from __future__ import annotations

import pathlib

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import config_file
from tests.experiments import tiny

GOOD = """
import ml_collections

def get_config(text="none"):
    return ml_collections.ConfigDict({"text": text})
"""


def written(folder: pathlib.Path, source: str | bytes) -> str:
    path = folder / "config.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return str(path)


def test_a_config_is_loaded_anew_each_time_with_its_argument(tmp_path):
    path = written(tmp_path, GOOD)
    first, second = config_file.load(path), config_file.load(path)
    assert first.text == "none"
    assert first is not second
    assert config_file.load(f"{path}:some:text").text == "some:text"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1\ny = (", r"config\.py, line 2: '\(' was never closed"),
        ("\n\n1 / 0", r"config\.py, line 3: ZeroDivisionError: division by zero"),
        ("import nothing_there", r"line 1: ModuleNotFoundError: No module named 'nothing_there'"),
        ("def get_config():\n    return later", r"line 2: NameError: name 'later' is not defined"),
        ("def get_config(a):\n    return a", r"TypeError: get_config\(\) missing 1 required"),
        ("get_config = 3", r"config\.py: no function get_config\(\)"),
        ("def get_config():\n    return 3", r"returned int; expected a ConfigDict"),
        (b"\xff\xfe", r"config\.py, line 1: .*(utf-8|encoding|null)"),
        (b"x = 1\x00", r"config\.py.*null bytes"),
    ],
)
def test_a_config_that_fails_is_one_line_with_file_and_line(tmp_path, source, text):
    path = written(tmp_path, source)
    with pytest.raises(errors.ConfigError, match=text) as caught:
        config_file.load(path)
    assert str(caught.value).startswith(path)


def test_an_error_of_ours_keeps_its_words(tmp_path):
    source = (
        "from aqua_jax.experiments import settings\n"
        "def get_config():\n    return settings.WorkloadSettings(requests=0)"
    )
    with pytest.raises(errors.ConfigError, match=r"line 3: workload\.requests is 0; give"):
        config_file.load(written(tmp_path, source))


def test_a_bug_of_ours_is_not_taken_for_the_configs(tmp_path):
    source = "from aqua_jax.control import errors\nraise errors.InternalError('broken')"
    with pytest.raises(errors.InternalError, match=r"^broken$"):
        config_file.load(written(tmp_path, source))


def test_a_missing_file_names_one_that_is_there(tmp_path):
    missing = tiny.SMOKE.with_name("smok.py")
    with pytest.raises(errors.ConfigError, match=r"No such file.*did you mean '.*smoke\.py'"):
        config_file.load(str(missing))
    with pytest.raises(errors.ConfigError, match=r"Is a directory"):
        config_file.load(str(tmp_path))
