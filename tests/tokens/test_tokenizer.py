"""Tokenizers from a model's folder: their first and last tokens, and files that are wrong."""

from __future__ import annotations

import pathlib

import hypothesis
import pytest
from hypothesis import strategies as st

from aqua_jax.control import errors
from aqua_jax.tokens import tokenizer
from tests.tokens import vocabularies

BYTES = vocabularies.byte_level()
BOS, EOS, END = (BYTES.token_to_id(token) for token in ("<s>", "</s>", "<|im_end|>"))


def made(tmp_path: pathlib.Path, library=BYTES, **files) -> tokenizer.Tokenizer:
    return tokenizer.Tokenizer(vocabularies.save(library, tmp_path / "model", **files))


def test_text_to_ids_and_back(tmp_path):
    one = made(tmp_path)

    @hypothesis.given(st.text(st.characters(exclude_categories=["Cs"])))
    @hypothesis.settings(max_examples=50)
    def holds(text: str) -> None:
        assert one.decode(one.encode(text), skip_special=False) == text

    holds()
    assert one.vocab_size == BYTES.get_vocab_size()
    assert (one.bos_id, one.eos_ids, one.specials) == (None, (), {})


def test_special_tokens_are_written_only_when_asked_for(tmp_path):
    one = made(tmp_path)
    ids = [BOS, *one.encode("hello"), EOS]
    assert one.decode(ids) == "hello"
    assert one.decode(ids, skip_special=False) == "<s>hello</s>"


@pytest.mark.parametrize("asked", [None, True, False])
@pytest.mark.parametrize("begins", [True, False])
def test_the_first_token_is_as_the_files_say(tmp_path, asked, begins):
    library = vocabularies.beginning(BYTES) if begins else BYTES
    config = {"bos_token": {"content": "<s>"}} | ({} if asked is None else {"add_bos_token": asked})
    one = made(tmp_path, library, tokenizer_config=config)
    expected = begins if asked is None else asked
    assert one.encode("hello")[:1] == ([BOS] if expected else BYTES.encode("hello").ids[:1])
    assert one.encode("hello", add_special=False) == BYTES.encode("hello").ids


def test_prompts_are_neither_cut_nor_filled_up(tmp_path):
    library = vocabularies.beginning(BYTES)
    library.enable_truncation(4)
    library.enable_padding(length=64, pad_token="</s>")
    assert len(made(tmp_path, library).encode("xyz" * 10)) == 31


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ({"generation_config": {"eos_token_id": [END, EOS]}}, (END, EOS)),
        ({"generation_config": {"eos_token_id": END}, "config": {"eos_token_id": EOS}}, (END,)),
        ({"config": {"eos_token_id": EOS}}, (EOS,)),
        ({"special_tokens_map": {"eos_token": "</s>"}}, (EOS,)),
        (
            {
                "generation_config": {"eos_token_id": EOS},
                "tokenizer_config": {"eos_token": "<|im_end|>"},
                "special_tokens_map": {"eos_token": "</s>"},
            },
            (EOS, END),
        ),
    ],
)
def test_ids_that_end_a_text(tmp_path, files, ids):
    assert made(tmp_path, **files).eos_ids == ids


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            {"tokenizer_config": {"eos_token": "<none>"}},
            r"tokenizer_config.json: eos_token is '<none>': expected a token of .*tokenizer.json",
        ),
        (
            {"tokenizer_config": {"add_bos_token": True}},
            r"tokenizer_config.json: add_bos_token is true: expected a bos_token beside it",
        ),
        ({"generation_config": {"eos_token_id": "x"}}, r"generation_config.json: eos_token_id is"),
    ],
)
def test_fields_that_are_wrong_are_named(tmp_path, files, text):
    with pytest.raises(errors.ConfigError, match=text):
        made(tmp_path, **files)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "tokenizer.json is not there: expected a tokenizer as"),
        ("{", "tokenizer.json cannot be read as JSON"),
        ("{}", "tokenizer.json: model is missing: expected the fields of a tokenizer"),
        ('{"model": {"type": "BPE"}}', "tokenizer.json: .*: expected a tokenizer of the library"),
    ],
)
def test_a_broken_tokenizer_is_refused(tmp_path, text, expected):
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(errors.ConfigError, match=expected):
        tokenizer.Tokenizer(tmp_path)


def test_a_vocabulary_larger_than_the_models_is_refused(tmp_path):
    one = made(tmp_path)
    one.check_vocab(one.vocab_size + 3)
    with pytest.raises(errors.ConfigError, match=r"ids up to 339: expected at most 299, since"):
        one.check_vocab(300)


def test_half_a_character_is_no_text(tmp_path):
    with pytest.raises(errors.RequestError, match=r"half a character, '\\ud83d' at 2"):
        made(tmp_path).encode("ab\ud83d")
