"""Texts that come in pieces, written in order as they come, and what to say at the end.

Knows: a stream to write to, terminals' control characters. Does not know: engines, flags.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from typing import TextIO

from aqua_jax.experiments import completion

# A model's text must not move the cursor or rename the window.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HEADING_CHARACTERS = 60


class Typewriter:
    """Writes texts one after the other; the first that has not ended is written as it comes.

    headings: of each text, written above it where there are several.
    """

    def __init__(self, out: TextIO, headings: Sequence[str]) -> None:
        self._out = out
        self._headings = headings
        self._waiting = [""] * len(headings)
        self._ended = [False] * len(headings)
        self._at = 0
        self._is_terminal = out.isatty()
        self._write_heading()

    def say(self, number: int, piece: str, ended: bool) -> None:
        """More of text `number`; ended: it was the last."""
        self._waiting[number] += piece
        self._ended[number] = ended
        while self._at < len(self._headings):
            self._write(self._waiting[self._at])
            self._waiting[self._at] = ""
            if not self._ended[self._at]:
                break
            self._write("\n")
            self._at += 1
            self._write_heading()
        self._out.flush()

    def _write_heading(self) -> None:
        count = len(self._headings)
        if count > 1 and self._at < count:
            words = " ".join(self._headings[self._at].split())
            if len(words) > _HEADING_CHARACTERS:
                words = f"{words[: _HEADING_CHARACTERS - 1]}…"
            self._write(f"== {self._at + 1} of {count}: {words}\n")

    def _write(self, text: str) -> None:
        shown = _CONTROLS.sub("\ufffd", text) if self._is_terminal else text
        # A terminal of another encoding shows what it can.
        encoding = self._out.encoding or "utf-8"
        self._out.write(shown.encode(encoding, "replace").decode(encoding))


def figures(result: completion.Result) -> str:
    """How fast it was, in a line or a few.

    Tokens a second: of all prompts together, from the first submission to the last end.
    """
    reasons: dict[str, int] = {}
    for one in result.completed:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    ends = ", ".join(
        reason if len(result.completed) == 1 else f"{count} {reason}"
        for reason, count in reasons.items()
    )
    prompt_tokens = sum(len(one.prompt.ids) for one in result.completed)
    firsts = [
        one.first_token_seconds for one in result.completed if one.first_token_seconds is not None
    ]
    first = f"first token after {statistics.median(firsts):.3f} s" if firsts else "no token"
    if len(firsts) > 1:
        first += f" (median; the last after {max(firsts):.3f} s)"
    speed = result.output_tokens / result.seconds if result.seconds > 0 else 0.0
    return (
        f"{prompt_tokens:,} prompt tokens, {result.output_tokens:,} tokens in"
        f" {result.seconds:.2f} s: {speed:,.1f} tokens/s, {first}; ready after"
        f" {result.start_seconds:.1f} s; ended by: {ends}"
    )
