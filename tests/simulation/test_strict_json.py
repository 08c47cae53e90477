"""Reading dataclasses strictly: every way to be wrong has its line."""

from __future__ import annotations

import dataclasses

import pytest

from aqua_jax.control import errors
from aqua_jax.simulation import strict_json


@dataclasses.dataclass(frozen=True)
class Part:
    size: int

    def __post_init__(self):
        strict_json.above(self, "size")


@dataclasses.dataclass(frozen=True)
class Whole:
    name: str
    share: float
    busy: bool
    part: Part
    spare: Part | None
    notes: dict[str, str] = dataclasses.field(default_factory=dict)


GOOD = {"name": "a", "share": 1, "busy": False, "part": {"size": 2}, "spare": None}


def test_what_is_dumped_builds_again():
    whole = Whole("a", 0.5, True, Part(3), Part(4), {"size": "b"})
    assert strict_json.build(Whole, strict_json.dump(whole), where="f") == whole


def test_an_int_will_do_for_a_float_and_a_default_may_be_left_out():
    whole = strict_json.build(Whole, GOOD, where="f")
    assert (whole.share, type(whole.share), whole.notes) == (1.0, float, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shear": 1}, r"^f: unknown field 'shear' \(did you mean 'share'\?\)$"),
        ({"name": 1}, r"^f: name is 1; expected text$"),
        ({"share": True}, r"^f: share is true; expected a number$"),
        ({"busy": 1}, r"^f: busy is 1; expected true or false$"),
        ({"part": None}, r"^f: part: null; expected an object$"),
        ({"part": {}}, r"^f: part: lacks 'size'; expected a whole number$"),
        ({"part": {"size": 2.0}}, r"^f: part: size is 2.0; expected a whole number$"),
        ({"part": {"size": True}}, r"^f: part: size is true; expected a whole number$"),
        ({"spare": {"size": 0}}, r"^f: spare: size is 0; expected a number above 0$"),
        ({"notes": {"a": 1}}, r'^f: notes is {"a": 1}; expected an object$'),
        ({"name": ["x" * 99]}, r'^f: name is \["x{35}\.\.\.; expected text$'),
    ],
)
def test_a_wrong_field_is_named(change, message):
    with pytest.raises(errors.ConfigError, match=message):
        strict_json.build(Whole, GOOD | change, where="f")


def test_a_missing_field_is_named():
    without = {key: value for key, value in GOOD.items() if key != "spare"}
    with pytest.raises(errors.ConfigError, match=r"^f: lacks 'spare'; expected an object or null$"):
        strict_json.build(Whole, without, where="f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"f\.json, line 1: not JSON: "),
        ("", r"f\.json, line 1: not JSON: "),
        ('{"a": NaN}', r"f\.json: NaN is not JSON; expected finite numbers$"),
        ('{"a": -Infinity}', r"f\.json: -Infinity is not JSON; expected finite numbers$"),
        ('{"a": 1, "a": 2}', r"f\.json: 'a' is given twice; expected it once$"),
        ("[" * 100_000, r"f\.json: not nested this deep; expected an object$"),
    ],
)
def test_what_is_not_json_is_refused(tmp_path, text, message):
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(errors.ConfigError, match=message) as caught:
        strict_json.read(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(errors.ConfigError, match=r"none\.json: No such file or directory"):
        strict_json.read(tmp_path / "none.json")
    (tmp_path / "f.json").write_bytes(b"\xff\xfe")
    with pytest.raises(errors.ConfigError, match=r"f\.json: not UTF-8"):
        strict_json.read(tmp_path / "f.json")


@pytest.mark.parametrize("size", [float("nan"), float("inf"), -1, 0])
def test_a_number_out_of_range_is_refused(size):
    with pytest.raises(errors.ConfigError, match=r"^size is .*; expected a number above 0$"):
        Part(size)
