"""Completions of prompts by a real engine: text as it comes, results and figures at the end.

Knows: tokenizer, machine and engine, in their order. Does not know: flags, terminals, files'
names beyond the model's folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax

from aqua_jax.control import errors
from aqua_jax.engine import engine as engines
from aqua_jax.experiments import (
    completion_prompts,
    completion_settings,
    data_path,
    machine,
)
from aqua_jax.loops import prompt as prompts
from aqua_jax.tokens import stops, stream, tokenizer

_STEP_SECONDS = 0.05  # a step waits no longer: whoever stops it is heard

Say = Callable[[int, str, bool], None]  # the prompt's number, a piece of its text, its end


@dataclasses.dataclass(frozen=True, slots=True)
class Completed:
    """One completion. Seconds are from its submission; first_token_seconds: None: none came.

    reason: "stop", "length", "abort" (interrupted), "refused" or "error", which `error` says.
    """

    prompt: completion_prompts.Prompt
    text: str
    reason: str
    tokens: list[int]  # `loops.prompt.ScoredToken` where log probabilities were asked for
    first_token_seconds: float | None
    seconds: float
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """A line of completions.jsonl."""
        scored = [token for token in self.tokens if isinstance(token, prompts.ScoredToken)]
        return {
            "prompt": self.prompt.given,
            "text": self.text,
            "reason": self.reason,
            "prompt_tokens": len(self.prompt.ids),
            "output_tokens": len(self.tokens),
            "token_ids": [int(token) for token in self.tokens],
            "first_token_seconds": self.first_token_seconds,
            "seconds": self.seconds,
            **({"logprobs": [_scores(token) for token in scored]} if scored else {}),
            **({"error": self.error} if self.error else {}),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """All of them. seconds: from the first submission to the last end; start_seconds: before."""

    completed: list[Completed]
    seconds: float
    start_seconds: float

    @property
    def first_token_seconds(self) -> float | None:
        """What the prompt waited for that had the first token of all."""
        waits = [one.first_token_seconds for one in self.completed]
        return min((wait for wait in waits if wait is not None), default=None)

    @property
    def output_tokens(self) -> int:
        """Of all completions."""
        return sum(len(one.tokens) for one in self.completed)

    @property
    def failures(self) -> list[str]:
        """A line for each that ended with an error."""
        return [
            f"{one.prompt.where}: {one.reason}: {one.error}" for one in self.completed if one.error
        ]

    def write(self, workdir: pathlib.Path) -> pathlib.Path:
        """Writes completions.jsonl, one line a prompt, in their order."""
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "completions.jsonl"
        lines = [json.dumps(one.as_json(), ensure_ascii=False) for one in self.completed]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path


class Completion:
    """Prompts that were read and checked, as far as that goes without the model's weights.

    Raises ConfigError and RequestError when made.
    """

    def __init__(self, wanted: completion_settings.CompletionSettings) -> None:
        self.settings = wanted
        stops.check(wanted.stops)
        self._known = tokenizer.Tokenizer(wanted.model.path)
        self.prompts = completion_prompts.Reader(self._known, wanted).read()
        for prompt in self.prompts:
            prompt.room(context_tokens=0, units_max=wanted.engine.units_max)
        self._began_at = time.monotonic()

    def machine(self, *, on_stage: Callable[[str], None] = lambda stage: None) -> machine.Machine:
        """The model in memory and its programs, compiled. To be closed by the caller.

        Raises ConfigError for a tokenizer that is none of the model's and RequestError for
        prompts beyond its context.
        """
        experiment = self.settings.experiment
        path = data_path.resolve([experiment], jax.devices()[0].platform)
        made = machine.Machine(experiment, [experiment], path)
        try:
            self._known.check_vocab(made.vocab_size)
            for prompt in self.prompts:
                self._room(prompt, made)
            on_stage("weights")
            made.warm_up()
            on_stage("programs")
            made.check_links()
            on_stage("links")
        except BaseException:
            made.close()
            raise
        return made

    def run(self, made: machine.Machine, say: Say, *, stopped: Callable[[], bool]) -> Result:
        """Completes all prompts at once; `stopped()` ends them where they stand.

        say: is told each piece of text as it comes, of whichever prompt.
        """
        engine = made.start(self.settings.experiment).engine
        with contextlib.closing(engine.mover):
            return self._run(engine, made, say, stopped)

    def _run(
        self, engine: engines.Engine, made: machine.Machine, say: Say, stopped: Callable[[], bool]
    ) -> Result:
        begun_at = time.monotonic()
        running = [
            _Running(prompt, engine, self._submit(engine, prompt, made)) for prompt in self.prompts
        ]
        left = list(enumerate(running))
        is_stopping = False
        while left:
            if stopped() and not is_stopping:
                is_stopping = True
                for _, one in left:
                    one.abort()
            engine.step(engine.clock.now() + _STEP_SECONDS)
            for number, one in left:
                piece = one.read()
                if piece or one.text.ended:
                    say(number, piece, one.text.ended)
            left = [(number, one) for number, one in left if not one.text.ended]
        ended_at = time.monotonic()
        engine.drain(engine.settings.drain_seconds)
        return Result(
            [one.completed() for one in running],
            seconds=ended_at - begun_at,
            start_seconds=begun_at - self._began_at,
        )

    def _submit(
        self, engine: engines.Engine, prompt: completion_prompts.Prompt, made: machine.Machine
    ) -> stream.TextStream:
        wanted = self.settings
        request = prompts.text_request(
            prompt.ids,
            max_tokens=min(wanted.max_tokens, self._room(prompt, made)),
            eos_ids=self._known.eos_ids,
            ignore_eos=wanted.ignore_eos,
            **wanted.sampling.options,
        )
        try:
            raw = engine.submit(request)
        except errors.RequestError as error:
            raise errors.RequestError(f"{prompt.where}: {error}") from None
        return stream.TextStream(
            raw,
            self._known.detokenizer(),
            abort=engine.abort,
            stop=wanted.stops,
            include_stop=wanted.include_stop,
        )

    def _room(self, prompt: completion_prompts.Prompt, made: machine.Machine) -> int:
        units_max = self.settings.engine.units_max
        return prompt.room(context_tokens=made.context_tokens, units_max=units_max)


class _Running:
    """A prompt whose text is coming."""

    def __init__(
        self, prompt: completion_prompts.Prompt, engine: engines.Engine, text: stream.TextStream
    ) -> None:
        self.text = text
        self._prompt = prompt
        self._engine = engine
        self._begun_at = engine.clock.now()
        self._ended_at = self._begun_at
        self._pieces: list[str] = []

    def abort(self) -> None:
        """Ends it where it stands."""
        self.text.abort()

    def read(self) -> str:
        """What has come since."""
        piece = self.text.read()
        if piece:
            self._pieces.append(piece)
        self._ended_at = self._engine.clock.now()
        return piece

    def completed(self) -> Completed:
        """What became of it, once it has ended."""
        first = self.text.first_token_at
        error = self.text.error
        return Completed(
            self._prompt,
            "".join(self._pieces),
            self.text.reason,
            self.text.tokens,
            None if first is None else first - self._begun_at,
            self._ended_at - self._begun_at,
            "" if error is None else str(error),
        )


def _scores(token: prompts.ScoredToken) -> dict[str, Any]:
    """Log probabilities of one token and of the likeliest in its place, by id."""
    return {"logprob": token.logprob, "top": {str(id): value for id, value in token.top}}
