"""A model's tokenizer, from the files beside its weights: text to ids and back, ids that end it.

Knows: tokenizer.json and what tokenizer_config.json, special_tokens_map.json,
generation_config.json and config.json say about the first and the last token.
Does not know: models, chat templates, streams.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers

from aqua_jax.control import errors
from aqua_jax.tokens import detokenize, folder, pieces

_SPECIALS = ("bos_token", "eos_token", "unk_token", "pad_token")


class Tokenizer:
    """Text to token ids and back. Any thread may use it.

    specials: texts of special tokens by name ("bos_token", ...), for chat templates.
    eos_ids: ids that end a text, those of generation_config.json first.
    vocab_size: one more than the largest id.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        """path: the folder of tokenizer.json. Raises ConfigError: file, field, expectation."""
        root = pathlib.Path(path)
        self.path = root / "tokenizer.json"
        self._library, layout = _read_library(self.path)
        self.config = folder.read_json(root / "tokenizer_config.json")
        self.specials = _specials(root, self.config)
        self._pieces = pieces.Pieces(self._library, layout.get("decoder"), path=self.path)
        known = self._library.get_vocab(with_added_tokens=True)
        self.vocab_size = max(known.values(), default=-1) + 1
        added = self._library.get_added_tokens_decoder()
        self._special_ids = frozenset(id for id, token in added.items() if token.special)
        self._add_bos = self.config.flag("add_bos_token")
        self.bos_id = self._id_of("bos_token")
        if self._add_bos and self.bos_id is None:
            raise self.config.wrong("add_bos_token", True, "a bos_token beside it")
        self.eos_ids = self._find_eos(root)

    def encode(self, text: str, *, add_special: bool = True) -> list[int]:
        """The ids of `text`. add_special: the tokens that begin a text, as the files ask for.

        Without: a text that holds them already, as that of a chat template does. Texts of special
        tokens become their ids either way.
        """
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise errors.RequestError(
                    f"the text holds half a character, {text[error.start]!r} at {error.start}:"
                    " expected text that UTF-8 can hold"
                ) from None
        ids = self._library.encode(text, add_special_tokens=add_special).ids
        if add_special and self._add_bos is not None and self.bos_id is not None:
            begins = ids[:1] == [self.bos_id]
            if self._add_bos and not begins:
                return [self.bos_id, *ids]
            if begins and not self._add_bos:
                return ids[1:]
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of `ids`, as a stream of them would give it."""
        stream = self.detokenizer(skip_special=skip_special)
        return stream.push(ids) + stream.flush()

    def detokenizer(self, *, skip_special: bool = True) -> detokenize.Detokenizer:
        """For one stream of ids. skip_special: special tokens are not written."""
        return detokenize.Detokenizer(self._pieces, skip=self._special_ids if skip_special else ())

    def check_vocab(self, vocab: int) -> None:
        """Raises ConfigError when ids of this tokenizer are none of a model with so many.

        A model may have more: published ones are padded.
        """
        if self.vocab_size > vocab:
            raise errors.ConfigError(
                f"{self.path}: the vocabulary has ids up to {self.vocab_size - 1}: expected at"
                f" most {vocab - 1}, since the model beside it has {vocab}; these files are of"
                " different models"
            )

    def _id_of(self, name: str) -> int | None:
        token = self.specials.get(name)
        if token is None:
            return None
        id = self._library.token_to_id(token)
        if id is None:
            raise errors.ConfigError(
                f"{self.config.path}: {name} is {token!r}: expected a token of {self.path}"
            )
        return id

    def _find_eos(self, root: pathlib.Path) -> tuple[int, ...]:
        generation = root / "generation_config.json"
        file = folder.read_json(generation if generation.exists() else root / "config.json")
        ids = file.ids("eos_token_id")
        own = self._id_of("eos_token")
        return tuple(dict.fromkeys(ids if own is None else (*ids, own)))


def _read_library(path: pathlib.Path) -> tuple[tokenizers.Tokenizer, Mapping[str, Any]]:
    """The library's tokenizer of the file, and the file's fields."""
    text = folder.read_text(path, what="a tokenizer as the tokenizers library saves it")
    try:
        layout = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise errors.ConfigError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(layout, dict) or "model" not in layout:
        raise errors.ConfigError(f"{path}: model is missing: expected the fields of a tokenizer")
    try:
        library = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises this class itself
        raise errors.ConfigError(f"{path}: {error}: expected a tokenizer of the library") from None
    # Prompts are neither cut nor filled up, whatever the training did.
    library.no_truncation()
    library.no_padding()
    return library, layout


def _specials(root: pathlib.Path, config: folder.JsonFile) -> dict[str, str]:
    """Texts by name: tokenizer_config.json speaks first, then special_tokens_map.json."""
    mapped = folder.read_json(root / "special_tokens_map.json")
    found: dict[str, str] = {}
    for name in _SPECIALS:
        token = config.token(name)
        token = mapped.token(name) if token is None else token
        if token is not None:
            found[name] = token
    return found
