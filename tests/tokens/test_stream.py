"""A stream of tokens as text: characters, stop strings, ends, and the room of a prompt."""

from __future__ import annotations

import pathlib

import pytest

from aqua_jax.control import errors
from aqua_jax.engine import streams
from aqua_jax.tokens import stream, tokenizer
from tests.tokens import vocabularies


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tokenizer.Tokenizer:
    folder: pathlib.Path = tmp_path_factory.mktemp("tokens") / "model"
    return tokenizer.Tokenizer(vocabularies.save(vocabularies.byte_level(), folder))


class Scene:
    """A text stream over an engine's stream that the test delivers to."""

    def __init__(self, known: tokenizer.Tokenizer, **options) -> None:
        self.known = known
        self.aborted: list[int] = []
        self.raw = streams.Stream(7, tokens_max=99, on_room=lambda id: None, sink=None)
        self.text = stream.TextStream(
            self.raw, known.detokenizer(), abort=self.aborted.append, **options
        )

    def deliver(self, text: str, reason: str = "", error: BaseException | None = None) -> None:
        self.raw.deliver(self.known.encode(text), reason, 1.0, error)


def test_text_comes_as_tokens_do_and_ends_as_they_do(known):
    scene = Scene(known)
    assert (scene.text.read(), scene.text.ended) == ("", False)
    scene.deliver("one ")
    assert (scene.text.read(), scene.text.reason) == ("one ", "")
    scene.deliver("two", "length")
    assert list(scene.text.pieces()) == ["two"]
    assert (scene.text.reason, scene.text.ended, scene.aborted) == ("length", True, [])
    assert scene.text.tokens == known.encode("one ") + known.encode("two")


def test_half_a_character_is_let_out_at_the_end_only(known):
    scene = Scene(known)
    ids = known.encode("🙂")[:-1]
    scene.raw.deliver(ids, "", 1.0, None)
    assert scene.text.read() == ""
    scene.raw.deliver((), "length", 2.0, None)
    assert list(scene.text.pieces()) == ["\ufffd"]


@pytest.mark.parametrize(("include", "rest"), [(False, ""), (True, "it is")])
def test_a_stop_string_aborts_the_session_and_what_follows_is_dropped(known, include, rest):
    scene = Scene(known, stop=["it is"], include_stop=include)
    scene.deliver("so it")
    assert scene.text.read() == "so "
    scene.deliver(" is what it was")
    assert scene.text.read() == rest
    assert (scene.text.ended, scene.text.reason, scene.aborted) == (True, "stop", [7])
    assert scene.text.matched == "it is"
    count = len(scene.text.tokens)
    scene.deliver("more", "abort", RuntimeError("of an end that nobody asked about"))
    assert (scene.text.read(), list(scene.text.pieces())) == ("", [])
    assert (scene.text.reason, scene.text.error, len(scene.text.tokens)) == ("stop", None, count)


def test_what_a_stop_string_held_back_comes_at_the_end(known):
    scene = Scene(known, stop=["stop"])
    scene.deliver("a sto", "stop")
    assert "".join(scene.text.pieces()) == "a sto"
    assert (scene.text.reason, scene.aborted) == ("stop", [])


def test_the_sessions_error_is_raised_after_its_text(known):
    scene = Scene(known)
    scene.deliver("text", "error", RuntimeError("the device is gone"))
    pieces = scene.text.pieces()
    assert next(pieces) == "text"
    with pytest.raises(RuntimeError, match="the device is gone"):
        next(pieces)
    assert scene.text.reason == "error"


def test_no_token_for_too_long(known):
    with pytest.raises(TimeoutError, match=r"request 7: no token for 0\.01 seconds"):
        next(Scene(known).text.pieces(0.01))


def test_tokens_that_are_more_than_ids_are_kept_as_they_came(known):
    class Scored(int):
        """An id that carries more."""

    scene = Scene(known)
    tokens = [Scored(id) for id in known.encode("hello")]
    scene.raw.deliver(tokens, "stop", 1.0, None)
    assert "".join(scene.text.pieces()) == "hello"
    assert all(found is token for found, token in zip(scene.text.tokens, tokens, strict=True))


def test_the_room_of_a_prompt():
    assert stream.room(10, context_tokens=0, units_max=64) == 54
    assert stream.room(10, context_tokens=16, units_max=64) == 6
    for tokens, context, text in (
        (16, 16, "has 16 tokens and the model's context length is 16: expected at most 15"),
        (70, 0, "has 70 tokens and the runner's units_max is 64: expected at most 63"),
        (0, 16, "the prompt is empty: expected text of at least one token"),
    ):
        with pytest.raises(errors.RequestError, match=text):
            stream.room(tokens, context_tokens=context, units_max=64)
