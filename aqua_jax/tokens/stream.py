"""A request's text as it comes: an engine's stream of tokens through detokenizer and stop strings.

Knows: how the three are joined, the room that a prompt leaves. Does not know: the engine beyond
its stream, sampling, chat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from aqua_jax.control import errors
from aqua_jax.engine import streams
from aqua_jax.tokens import detokenize, stops


class TextStream:
    """Pieces of text of one session. Any one thread may read it.

    A stop string that has come ends it: the session is aborted at the engine, by `abort(id)`, and
    what it still sends is dropped. `tokens` holds the ids as they came, which may carry more (log
    probabilities), up to the last that has part in the text.
    """

    def __init__(
        self,
        stream: streams.Stream,
        detokenizer: detokenize.Detokenizer,
        *,
        abort: Callable[[int], None],
        stop: Sequence[str] = (),
        include_stop: bool = False,
    ) -> None:
        self.tokens: list[int] = []
        self._stream = stream
        self._detokenizer = detokenizer
        self._stops = stops.StopStrings(stop, include=include_stop)
        self._abort = abort
        self._ended = False

    @property
    def ended(self) -> bool:
        """True once all text has been read."""
        return self._ended

    @property
    def reason(self) -> str:
        """Why it ended, "" before: as of `streams.Stream`, and "stop" for a stop string too."""
        if not self._ended:
            return ""
        return "stop" if self._stops.matched else self._stream.reason

    @property
    def error(self) -> BaseException | None:
        """What the session ended with, if that was an error."""
        return self._stream.error if self._ended and not self._stops.matched else None

    @property
    def matched(self) -> str:
        """The stop string that ended it; "" where none did."""
        return self._stops.matched

    @property
    def first_token_at(self) -> float | None:
        """The engine's clock at its first token; None before."""
        return self._stream.first_token_at

    def abort(self) -> None:
        """Ends the session where it stands, at the engine's next step."""
        self._abort(self._stream.id)

    def read(self, timeout_seconds: float = 0.0) -> str:
        """The text that has come; waits up to `timeout_seconds` for tokens. "": none yet, or end.

        Tokens may come that complete no character; then it is "" before the time is over.
        """
        if self._ended:
            return ""
        text = ""
        # Asked before reading: tokens that come in between would be taken for the last.
        last = self._stream.ended
        for token in self._stream.read(timeout_seconds):
            self.tokens.append(token)
            text += self._stops.push(self._detokenizer.push((token,)))
            if self._stops.matched:
                self._ended = True
                self.abort()
                return text
        if last:
            self._ended = True
            text += self._stops.push(self._detokenizer.flush())
            text += self._stops.flush()
        return text

    def pieces(self, timeout_seconds: float = 60.0) -> Iterator[str]:
        """Pieces as they come, to the end, none of them empty.

        Raises TimeoutError when no token comes for so long, and the session's error at its end.
        """
        while not self._ended:
            known = len(self.tokens)
            text = self.read(timeout_seconds)
            if text:
                yield text
            elif len(self.tokens) == known and not (self._ended or self._stream.ended):
                raise TimeoutError(
                    f"request {self._stream.id}: no token for {timeout_seconds} seconds"
                )
        if self.error is not None:
            raise self.error


def room(prompt_tokens: int, *, context_tokens: int, units_max: int) -> int:
    """Tokens that may follow a prompt of `prompt_tokens` tokens.

    context_tokens: positions that the model was trained for; 0: nobody says. units_max: tokens
    that the runner's sessions hold. Raises RequestError, with both numbers, where none may.
    """
    limits = [(units_max, f"the runner's units_max is {units_max}")]
    if context_tokens:
        limits.append((context_tokens, f"the model's context length is {context_tokens}"))
    most, why = min(limits)
    if not prompt_tokens:
        raise errors.RequestError("the prompt is empty: expected text of at least one token")
    if prompt_tokens >= most:
        raise errors.RequestError(
            f"the prompt has {prompt_tokens} tokens and {why}: expected at most {most - 1}, so that"
            " one can follow"
        )
    return most - prompt_tokens
