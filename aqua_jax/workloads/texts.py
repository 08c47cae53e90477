"""Prompts cut from texts of a file, for workloads whose answers somebody is to read.

Knows: a file of one text a line, arrivals. Does not know: tokenizers, beyond a function.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence

from aqua_jax.control import errors

Encode = Callable[[str], Sequence[int]]


class Texts:
    """The lines of a file as token ids. encode: without tokens that begin or end a text.

    Raises ConfigError for a file that cannot be read, or whose texts are shorter than `tokens_min`
    tokens: the first of them is named.
    """

    def __init__(self, path: str | pathlib.Path, encode: Encode, *, tokens_min: int) -> None:
        try:
            lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise errors.ConfigError(
                f"{path} cannot be read: {error}; expected UTF-8, one text a line"
            ) from None
        if not lines:
            raise errors.ConfigError(f"{path} is empty: expected one text a line")
        self._ids = [tuple(encode(line)) for line in lines]
        for number, ids in enumerate(self._ids, start=1):
            if len(ids) < tokens_min:
                raise errors.ConfigError(
                    f"{path}, line {number}: {len(ids)} tokens; expected at least {tokens_min},"
                    " the longest prompt of the workload (workload.prompt_max)"
                )

    def prompt(self, number: int, tokens: int) -> tuple[int, ...]:
        """The first `tokens` ids of text `number`; past the last text the first comes again."""
        return self._ids[number % len(self._ids)][:tokens]
