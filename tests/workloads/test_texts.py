"""Prompts out of a file of texts."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.workloads import texts


def read(tmp_path, text: str, tokens_min: int = 3) -> texts.Texts:
    file = tmp_path / "texts.txt"
    file.write_text(text)
    return texts.Texts(file, str.encode, tokens_min=tokens_min)


def test_a_prompt_is_the_beginning_of_its_text_and_texts_come_again(tmp_path):
    words = read(tmp_path, "once\nthere was\n")
    assert bytes(words.prompt(0, 3)) == b"onc"
    assert bytes(words.prompt(1, 7)) == b"there w"
    assert words.prompt(2, 4) == words.prompt(0, 4)


def test_a_text_that_is_too_short_is_named(tmp_path):
    with pytest.raises(errors.ConfigError, match=r"line 2: 2 tokens; expected at least 3"):
        read(tmp_path, "once\nit\nwas\n")


@pytest.mark.parametrize(("text", "says"), [("", "is empty: expected one text a line")])
def test_a_file_without_texts_is_refused(tmp_path, text, says):
    with pytest.raises(errors.ConfigError, match=says):
        read(tmp_path, text)
    with pytest.raises(errors.ConfigError, match="nowhere cannot be read"):
        texts.Texts(tmp_path / "nowhere", str.encode, tokens_min=1)
