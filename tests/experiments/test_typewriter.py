"""Texts in order, whichever comes first; a terminal's cursor stays where it is."""

from __future__ import annotations

import io

from aqua_jax.experiments import completion, completion_prompts, typewriter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_one_text_is_written_as_it_comes_and_nothing_else():
    out = io.StringIO()
    writer = typewriter.Typewriter(out, ["a prompt"])
    writer.say(0, "one ", False)
    assert out.getvalue() == "one "
    writer.say(0, "two", True)
    assert out.getvalue() == "one two\n"


def test_several_are_written_in_their_order_with_headings():
    out = io.StringIO()
    writer = typewriter.Typewriter(out, ["first", "second\nline " + "x" * 99, "third"])
    writer.say(1, "B", True)
    writer.say(2, "C", False)
    writer.say(0, "A", False)
    assert out.getvalue() == "== 1 of 3: first\nA"
    writer.say(0, "a", True)
    heading = f"== 2 of 3: second line {'x' * 47}…"
    assert out.getvalue() == f"== 1 of 3: first\nAa\n{heading}\nB\n== 3 of 3: third\nC"
    writer.say(2, "c", True)
    assert out.getvalue().endswith("\nCc\n")


def test_a_terminal_gets_no_control_characters_and_a_pipe_gets_all():
    shown, piped = Terminal(), io.StringIO()
    for out in (shown, piped):
        typewriter.Typewriter(out, ["x"]).say(0, "a\x1b[2J\tb\nc\r", True)
    assert shown.getvalue() == "a\ufffd[2J\tb\nc\ufffd\n"
    assert piped.getvalue() == "a\x1b[2J\tb\nc\r\n"


def test_an_output_of_another_encoding_shows_what_it_can():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    typewriter.Typewriter(out, ["x"]).say(0, "é!", True)
    assert raw.getvalue() == b"?!\n"


def made(count: int, reason: str, first: float | None) -> completion.Completed:
    prompt = completion_prompts.Prompt("prompt", "x", (1, 2, 3))
    return completion.Completed(prompt, "", reason, list(range(count)), first, 1.0)


def test_figures_of_one_and_of_many():
    one = completion.Result([made(10, "stop", 0.25)], seconds=2.0, start_seconds=3.0)
    assert typewriter.figures(one) == (
        "3 prompt tokens, 10 tokens in 2.00 s: 5.0 tokens/s, first token after 0.250 s; ready"
        " after 3.0 s; ended by: stop"
    )
    some = [made(1, "stop", 0.1), made(2, "length", 0.2), made(3, "length", 0.6)]
    text = typewriter.figures(completion.Result(some, seconds=1.0, start_seconds=0.0))
    assert "9 prompt tokens, 6 tokens" in text
    assert "after 0.200 s (median; the last after 0.600 s)" in text
    assert text.endswith("ended by: 1 stop, 2 length")
    none = completion.Result([made(0, "abort", None)], seconds=0.0, start_seconds=0.0)
    assert "0.0 tokens/s, no token;" in typewriter.figures(none)
