"""Fields of `config.json`: what is wrong is named with its file and what was expected."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from models import config_json


def test_files_that_are_none(tmp_path):
    with pytest.raises(errors.ConfigError, match=r"config.json is not there"):
        config_json.Fields.read(tmp_path / "config.json")
    for text, message in (("{", "cannot be read as JSON"), ("[]", "holds a list")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(errors.ConfigError, match=message):
            config_json.Fields.read(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f: f.architecture, 'c.json: architectures is "one": expected a list of one name'),
        (lambda f: f.integer("size"), "c.json: size is 0: expected a whole number of at least 1"),
        (lambda f: f.integer("flag"), "c.json: flag is true: expected a whole number"),
        (lambda f: f.integer("absent"), "c.json: absent is null: expected a whole number"),
        (lambda f: f.number("size"), "c.json: size is 0: expected a number above 0"),
        (lambda f: f.flag("size", False), "c.json: size is 0: expected true or false"),
        (lambda f: f.expect("act", "silu"), "c.json: act is \"gelu\": expected 'silu'"),
        (lambda f: f.refuse_rest(), "c.json: size is 0: expected no such field"),
        (lambda f: f.inner("size"), "c.json: size is 0: expected an object"),
        (lambda f: f.inner("deep").integer("a"), 'c.json: deep.a is "b": expected a whole number'),
        (lambda f: f.inner("deep").inner("in").number("x"), "c.json: deep.in.x is null: expected"),
        (lambda f: f.inner("deep").refuse_rest(), 'c.json: deep.a is "b": expected no such field'),
    ],
)
def test_fields_that_are_wrong(ask, message):
    fields = config_json.Fields(
        {
            "architectures": "one",
            "size": 0,
            "flag": True,
            "act": "gelu",
            "deep": {"a": "b", "in": {"x": None}},
        },
        "c.json",
    )
    with pytest.raises(errors.ConfigError, match=message):
        ask(fields)


def test_fields_that_are_there_or_have_a_default():
    fields = config_json.Fields({"size": 3, "theta": 1e6, "tied": True, "null": None}, "c.json")
    assert (fields.integer("size"), fields.number("theta"), fields.flag("tied", False)) == (
        3,
        1e6,
        True,
    )
    assert (fields.integer("null", 7), fields.number("none", 2.5), fields.raw("none")) == (
        7,
        2.5,
        None,
    )
    fields.refuse_rest()


@pytest.mark.parametrize("name", ["is_encoder_decoder", "add_cross_attention"])
def test_what_is_no_decoder_is_refused_with_a_reason(name):
    with pytest.raises(errors.ConfigError, match=f"c.json: {name} is true: .*only decoders"):
        config_json.Fields({name: True}, "c.json").refuse_rest()


def test_what_says_nothing_is_never_refused():
    fields = config_json.Fields(
        {"torch_dtype": "float16", "top_p": 0.6, "new": None, "old": {}, "off": False}, "c.json"
    )
    fields.refuse_rest()
    assert fields.inner("new") is None
    assert fields.has("new")
    assert not fields.has("size")
