"""Which decoders stand for the same bytes wherever a token stands, and which are refused."""

from __future__ import annotations

import json
import pathlib

import pytest
import tokenizers
from tokenizers import decoders, models

from aqua_jax.control import errors
from aqua_jax.tokens import pieces
from tests.tokens import vocabularies

PATH = pathlib.Path("some/tokenizer.json")


def of(made: tokenizers.Tokenizer) -> pieces.Pieces:
    return pieces.Pieces(made, json.loads(made.to_str())["decoder"], path=PATH)


def words(decoder: object = None) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.WordLevel({"one": 0, "▁two": 1, "##ish": 2}, "one"))
    if decoder is not None:
        made.decoder = decoder
    return made


def test_the_alphabet_is_that_of_the_library():
    assert set(pieces.byte_alphabet()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet()), (
        "the characters"
    )
    assert sorted(pieces.byte_alphabet().values()) == list(range(256))
    made = vocabularies.byte_level()
    known = of(made)
    for text in ("a", " ", "\n", "\x00", "~"):
        (id,) = made.encode(text).ids
        assert known.of(id, first=False) == text.encode()


@pytest.mark.parametrize(
    "decoder",
    [None, decoders.Metaspace(), decoders.WordPiece(), decoders.Sequence([decoders.Metaspace()])],
    ids=["none", "metaspace", "wordpiece", "sequence"],
)
def test_tokens_one_by_one_are_the_text_of_all(decoder):
    made = words(decoder)
    known = of(made)
    for ids in ([0, 1, 2], [1, 0, 1], [2, 2, 0], [1]):
        parts = [known.of(id, first=number == 0) for number, id in enumerate(ids)]
        assert b"".join(parts).decode() == made.decode(ids)


@pytest.mark.parametrize(
    ("decoder", "named"),
    [
        (decoders.CTC(), "decoder is CTC"),
        (decoders.BPEDecoder(), "decoder is BPEDecoder"),
        (decoders.Sequence([decoders.Fuse(), decoders.Replace("a", "b")]), "is Fuse, Replace"),
        (decoders.Sequence([decoders.ByteLevel(), decoders.CTC()]), "is ByteLevel, CTC"),
        (decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 1, 1)]), "is Fuse, Strip"),
    ],
)
def test_decoders_whose_tokens_depend_on_others_are_refused(decoder, named):
    with pytest.raises(errors.ConfigError, match=f"some/tokenizer.json: .*{named}: expected"):
        of(words(decoder))


def test_a_vocabulary_without_text_is_refused():
    made = tokenizers.Tokenizer(models.WordLevel({"!": 0}, "!"))
    with pytest.raises(errors.ConfigError, match=r"model\.vocab has no token of letters"):
        of(made)
