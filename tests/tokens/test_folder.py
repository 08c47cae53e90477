"""Files beside a model: what is wrong is said with file, field and what belongs there."""

from __future__ import annotations

import pathlib

import pytest

from aqua_jax.control import errors
from aqua_jax.tokens import folder


def written(tmp_path: pathlib.Path, text: bytes) -> pathlib.Path:
    path = tmp_path / "some.json"
    path.write_bytes(text)
    return path


def test_fields_are_read_by_type(tmp_path):
    text = b'{"a": "x", "b": {"content": "y"}, "c": true, "d": 3, "e": [4, 5], "f": null}'
    file = folder.read_json(written(tmp_path, text), what="it")
    assert (file.string("a"), file.string("f"), file.string("g")) == ("x", None, None)
    assert (file.token("a"), file.token("b"), file.token("f")) == ("x", "y", None)
    assert (file.flag("c"), file.flag("f")) == (True, None)
    assert (file.ids("d"), file.ids("e"), file.ids("f")) == ((3,), (4, 5), ())


@pytest.mark.parametrize(
    ("getter", "text", "expected"),
    [
        ("string", b'{"it": 3}', r"some.json: it is 3: expected a string"),
        ("flag", b'{"it": "no"}', r'some.json: it is "no": expected true or false'),
        ("token", b'{"it": {"content": 1}}', r"it is \{.*: expected a token's text"),
        ("ids", b'{"it": [1, true]}', r"it is \[1, true\]: expected a token id or a list"),
        ("ids", b'{"it": -1}', r"it is -1: expected a token id"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, getter, text, expected):
    file = folder.read_json(written(tmp_path, text))
    with pytest.raises(errors.ConfigError, match=expected):
        getattr(file, getter)("it")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"{", "some.json cannot be read as JSON: Expecting property name"),
        (b"[1]", "some.json holds a list: expected an object"),
        (b"[" * 100_000, "some.json cannot be read as JSON: "),
        (b'{"a": "\xff"}', "some.json is no UTF-8 at byte 7: expected a JSON object"),
    ],
)
def test_a_file_that_is_no_object_is_refused(tmp_path, text, expected):
    with pytest.raises(errors.ConfigError, match=expected):
        folder.read_json(written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path):
    path = tmp_path / "none.json"
    assert folder.read_json(path).values == {}
    with pytest.raises(errors.ConfigError, match=r"none\.json is not there: expected a recipe"):
        folder.read_json(path, what="a recipe")
    with pytest.raises(errors.ConfigError, match=r"cannot be read .*: expected a JSON object"):
        folder.read_json(tmp_path)
