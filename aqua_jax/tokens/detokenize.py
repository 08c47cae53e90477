"""Token ids in, text out, as they come: never half a character, nothing decoded twice.

Knows: UTF-8 over the bytes of tokens. Does not know: where ids come from, stop strings.

A character may be spread over several tokens; its bytes wait for the last of them, at most three
bytes. So a token costs its own length, however long the text is. What no character can be made of
becomes U+FFFD: of a byte-level vocabulary once for the longest part that could have become a
character, of a byte-fallback one once a byte, as the library does it.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable

from aqua_jax.tokens import pieces

_REPLACEMENT = "\ufffd"
_ESCAPED = dict.fromkeys(range(0xDC80, 0xDD00), _REPLACEMENT)  # bytes that are part of no character


class Detokenizer:
    """The text of one stream of ids. skip: ids that are not written, special tokens as a rule.

    What `push` returns and then `flush`, put together, is the text of all ids at once. Used by one
    thread.
    """

    def __init__(self, known: pieces.Pieces, *, skip: Collection[int] = ()) -> None:
        self._pieces = known
        self._skip = skip
        self._by_byte = known.kind == "fallback"
        make = codecs.getincrementaldecoder("utf-8")
        self._decoder = make("surrogateescape" if self._by_byte else "replace")
        self._first = True

    def push(self, ids: Iterable[int]) -> str:
        """The text that these ids complete; "" while a character lacks bytes."""
        added = bytearray()
        for id in ids:
            if id in self._skip:
                continue
            added += self._pieces.of(id, first=self._first)
            self._first = self._first and not self._pieces.knows(id)
        return self._text(bytes(added), final=False)

    def flush(self) -> str:
        """The end: U+FFFD for a character whose bytes did not all come, else ""."""
        return self._text(b"", final=True)

    def _text(self, added: bytes, *, final: bool) -> str:
        text = self._decoder.decode(added, final)
        return text.translate(_ESCAPED) if self._by_byte else text
