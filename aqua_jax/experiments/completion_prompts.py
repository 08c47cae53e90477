"""The prompts of a completion: from a setting or a file, plain or as chat, to token ids.

Knows: lines of files, tokenizers, chat templates. Does not know: engines, flags.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from aqua_jax.control import errors
from aqua_jax.experiments import completion_settings
from aqua_jax.tokens import chat, folder, stream, tokenizer

_PROMPTS_MAX = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt. where: its setting, or file and line. given: as it was given."""

    where: str
    given: str | list[Any]
    ids: tuple[int, ...]

    def room(self, *, context_tokens: int, units_max: int) -> int:
        """Tokens that may follow it. Raises RequestError, saying which prompt, where none may."""
        try:
            return stream.room(len(self.ids), context_tokens=context_tokens, units_max=units_max)
        except errors.RequestError as error:
            raise errors.RequestError(f"{self.where}: {error}") from None


class Reader:
    """Makes prompts of texts and messages, by a model's tokenizer and its chat template."""

    def __init__(
        self, known: tokenizer.Tokenizer, wanted: completion_settings.CompletionSettings
    ) -> None:
        """Raises ConfigError where chat is asked for and there is no template."""
        self._known = known
        self._wanted = wanted
        self._template = self._read_template() if wanted.chat else None

    def read(self) -> list[Prompt]:
        """The prompts of the settings. Raises ConfigError and RequestError, with file and line."""
        if not self._wanted.prompts_file:
            return [self._make("prompt", self._wanted.prompt)]
        path = pathlib.Path(self._wanted.prompts_file)
        lines = folder.read_text(path, what="prompts, one a line").split("\n")
        found = [
            (f"{path}, line {number}", line.removesuffix("\r"))
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
        if not 0 < len(found) <= _PROMPTS_MAX:
            raise errors.ConfigError(
                f"{path} has {len(found)} prompts: expected 1 to {_PROMPTS_MAX}, one a line"
            )
        if path.suffix != ".jsonl":
            return [self._make(where, line) for where, line in found]
        return [self._make(where, _parse(where, line)) for where, line in found]

    def _make(self, where: str, given: str | list[Any]) -> Prompt:
        try:
            return Prompt(where, given, tuple(self._encode(given)))
        except errors.RequestError as error:
            raise errors.RequestError(f"{where}: {error}") from None

    def _encode(self, given: str | list[Any]) -> list[int]:
        if isinstance(given, str):
            if not given:
                raise errors.RequestError("the prompt is empty: expected text")
            if not self._wanted.chat:
                return self._known.encode(given)
            given = self._as_messages(given)
        self._template = self._template or self._read_template()
        return self._known.encode(self._template.render(given), add_special=False)

    def _as_messages(self, text: str) -> list[dict[str, str]]:
        before = [{"role": "system", "content": self._wanted.system}] if self._wanted.system else []
        return [*before, {"role": "user", "content": text}]

    def _read_template(self) -> chat.ChatTemplate:
        return chat.read(self._known.path.parent, specials=self._known.specials)


def _parse(where: str, line: str) -> str | list[Any]:
    """The prompt or the messages of a line of JSON."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise errors.ConfigError(f"{where}: no JSON: {error}") from None
    given = (value.get("prompt"), value.get("messages")) if isinstance(value, dict) else (None,) * 2
    if isinstance(given[0], str) and given[1] is None:
        return given[0]
    if isinstance(given[1], list) and given[0] is None:
        return given[1]
    raise errors.ConfigError(
        f"{where} is {line[:80]!r}: expected an object with a text `prompt` or a list `messages`"
    )
