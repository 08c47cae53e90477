"""Stop strings in pieces: the same as one search over the whole text."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from aqua_jax.control import errors
from aqua_jax.tokens import stops

letters = st.text("ab", max_size=12)


def naive(text: str, wanted: list[str], *, include: bool) -> str:
    """The text before the earliest match; of matches that begin together, the shortest."""
    matches = [(text.find(stop), len(stop)) for stop in wanted if stop in text]
    if not matches:
        return text
    begin, length = min(matches)
    return text[: begin + length * include]


@hypothesis.given(
    pieces=st.lists(letters, max_size=8),
    wanted=st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
    include=st.booleans(),
)
def test_any_cut_of_any_text_gives_what_one_search_finds(pieces, wanted, include):
    one = stops.StopStrings(wanted, include=include)
    out = [one.push(piece) for piece in pieces]
    whole = "".join(pieces)
    expected = naive(whole, wanted, include=include)
    assert expected.startswith("".join(out)), "nothing is taken back"
    assert "".join(out) + one.flush() == expected
    assert bool(one.matched) == any(stop in whole for stop in wanted)


def test_only_what_could_be_a_beginning_is_held_back():
    one = stops.StopStrings(["</s>", "\n\n"])
    assert [one.push(piece) for piece in ("a<", "b</", "s", "!\n")] == ["a", "<b", "", "</s!"]
    assert (one.push("\nrest"), one.matched, one.push("more"), one.flush()) == ("", "\n\n", "", "")


def test_what_was_held_back_comes_at_the_end():
    one = stops.StopStrings(["stop"])
    assert (one.push("please sto"), one.flush(), one.matched) == ("please ", "sto", "")


def test_an_earlier_beginning_is_waited_for():
    one = stops.StopStrings(["bc", "abcd"])
    assert (one.push("xabc"), one.matched) == ("x", "")
    assert (one.push("!"), one.matched) == ("a", "bc")


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ([""], "a string of 0 characters: expected 1 to 1024"),
        (["a" * 1025], "a string of 1025 characters"),
        (["a"] * 65, "stop has 65 strings: expected at most 64"),
        ("ab", "stop is 'ab': expected a list of strings"),
        ([3], "stop is .3.: expected a list of strings"),
    ],
)
def test_stop_strings_that_cannot_be(wanted, text):
    with pytest.raises(errors.RequestError, match=text):
        stops.StopStrings(wanted)
