"""What each token id adds to the text, as bytes, so that text can be put together id by id.

Knows: the decoders of `tokenizer.json` whose tokens stand for the same bytes wherever they stand.
Does not know: characters cut in two, which are the detokenizer's.

A byte-level decoder writes each byte as one printable character, GPT-2's alphabet ("Language
Models are Unsupervised Multitask Learners", its published encoder). A byte-fallback decoder has
tokens `<0xHH>` for the bytes of characters that the vocabulary lacks. Other tokens are decoded by
the library once, behind an anchor, since the first token of a text may lose its space. Each id so
costs the library one call in a process, not one for each time it is met.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tokenizers

from aqua_jax.control import errors

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
# Decoders that look at one token at a time, and at whether it is the first.
_ONE_BY_ONE = ("Replace", "ByteFallback", "Metaspace", "WordPiece")


def byte_alphabet() -> dict[str, int]:
    """Character -> the byte it stands for in a byte-level vocabulary.

    >>> byte_alphabet()["Ġ"], byte_alphabet()["a"]
    (32, 97)
    """
    others = [byte for byte in range(256) if byte not in set(_PRINTABLE)]
    return {chr(byte): byte for byte in _PRINTABLE} | {
        chr(256 + number): byte for number, byte in enumerate(others)
    }


_ALPHABET = byte_alphabet()


class Pieces:
    """The bytes of every token of `library`'s vocabulary.

    kind: "bytes" (byte-level), "fallback" or "texts". path: of tokenizer.json, for errors.
    Raises ConfigError for a decoder whose tokens depend on others.
    """

    def __init__(
        self,
        library: tokenizers.Tokenizer,
        decoder: Mapping[str, Any] | None,
        *,
        path: pathlib.Path,
    ) -> None:
        self._library = library
        self.kind = _kind(decoder, path)
        self._anchor = -1 if self.kind == "bytes" else self._find_anchor(path)
        self._anchor_text = "" if self._anchor < 0 else self._decode([self._anchor])
        self._inner: dict[int, bytes] = {}

    def knows(self, id: int) -> bool:
        """Whether the vocabulary has `id`; a padded model may have more."""
        return self._library.id_to_token(id) is not None

    def of(self, id: int, *, first: bool) -> bytes:
        """What `id` adds. first: nothing stands before it. Unknown ids add nothing."""
        if first and self.kind != "bytes":
            return self._make_first(id)
        piece = self._inner.get(id)
        if piece is None:
            piece = self._inner[id] = self._make(id)
        return piece

    def _make(self, id: int) -> bytes:
        token = self._library.id_to_token(id)
        if token is None:
            return b""
        if self.kind == "bytes":
            if all(character in _ALPHABET for character in token):
                return bytes(_ALPHABET[character] for character in token)
            return token.encode()  # an added token, which is written as it is
        byte = _BYTE_TOKEN.fullmatch(token) if self.kind == "fallback" else None
        if byte:
            return bytes([int(byte[1], 16)])
        return self._decode([self._anchor, id])[len(self._anchor_text) :].encode()

    def _make_first(self, id: int) -> bytes:
        token = self._library.id_to_token(id) or ""
        byte = _BYTE_TOKEN.fullmatch(token) if self.kind == "fallback" else None
        text = self._decode([id])
        return bytes([int(byte[1], 16)]) if byte and text else text.encode()

    def _find_anchor(self, path: pathlib.Path) -> int:
        """An id that another can follow: its text is the same alone and before itself."""
        for id in _plain_ids(self._library):
            text = self._decode([id])
            if text.isalnum() and self._decode([id, id]).startswith(text):
                return id
        raise errors.ConfigError(
            f"{path}: model.vocab has no token of letters or digits: expected a vocabulary of text"
        )

    def _decode(self, ids: Sequence[int]) -> str:
        return self._library.decode(list(ids), skip_special_tokens=False)


def _plain_ids(library: tokenizers.Tokenizer) -> Iterator[int]:
    added = library.get_added_tokens_decoder()
    for id in range(library.get_vocab_size()):
        token = library.id_to_token(id)
        if id not in added and token is not None and not _BYTE_TOKEN.fullmatch(token):
            yield id


def _kind(decoder: Mapping[str, Any] | None, path: pathlib.Path) -> str:
    if decoder is None:
        return "texts"
    parts = decoder["decoders"] if decoder.get("type") == "Sequence" else [decoder]
    types = [part.get("type") for part in parts]
    if "ByteLevel" in types:
        if set(types) - {"ByteLevel", "Fuse"}:
            raise _refused(path, types, "ByteLevel alone")
        return "bytes"
    fused = False
    for part, name in zip(parts, types, strict=True):
        if name == "Fuse":
            fused = True
        elif name == "Strip" and part.get("stop") == 0 and part.get("start") in (0, 1):
            continue  # of the whole text its first token alone
        elif fused or name not in _ONE_BY_ONE:
            expected = f"ByteLevel, or {', '.join(_ONE_BY_ONE)}, then Fuse, then Strip of one space"
            raise _refused(path, types, expected)
    return "fallback" if "ByteFallback" in types else "texts"


def _refused(path: pathlib.Path, types: list[Any], expected: str) -> errors.ConfigError:
    named = ", ".join(str(name) for name in types)
    return errors.ConfigError(
        f"{path}: decoder is {named}: expected {expected}, whose tokens stand for the same text"
        " wherever they stand"
    )
