"""Streams of ids give the text of all at once, for any cut, and never half a character."""

from __future__ import annotations

import json
import pathlib

import hypothesis
import pytest
from hypothesis import strategies as st

from aqua_jax.tokens import detokenize, pieces
from tests.tokens import vocabularies

LIBRARIES = {
    "byte-level": vocabularies.byte_level(),
    "byte-fallback": vocabularies.byte_fallback(),
    "no strip": vocabularies.byte_fallback(strip=False),
}
KNOWN = {
    name: pieces.Pieces(
        made, json.loads(made.to_str())["decoder"], path=pathlib.Path("tokenizer.json")
    )
    for name, made in LIBRARIES.items()
}
every_kind = pytest.mark.parametrize("kind", LIBRARIES)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def stream(kind: str, cuts: list[list[int]]) -> list[str]:
    made = detokenize.Detokenizer(KNOWN[kind])
    return [made.push(ids) for ids in cuts] + [made.flush()]


@every_kind
@hypothesis.settings(max_examples=60)
@hypothesis.given(text=texts, data=st.data())
def test_any_text_comes_back_whatever_the_cuts(kind: str, text: str, data: st.DataObject):
    ids = LIBRARIES[kind].encode(text).ids
    marks = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=5)))
    cuts = [ids[a:b] for a, b in zip([0, *marks], [*marks, len(ids)], strict=True)]
    found = stream(kind, cuts)
    assert "".join(found) == LIBRARIES[kind].decode(ids)
    if "▁" not in text:  # which stands for a space there
        assert "".join(found) == text
    assert stream(kind, [[id] for id in ids])[-1] == "", "every character is whole at its last id"


@hypothesis.given(ids=st.lists(st.integers(0, LIBRARIES["byte-level"].get_vocab_size() - 1)))
def test_any_ids_of_a_byte_level_vocabulary_are_decoded_as_the_library_does(ids: list[int]):
    found = "".join(stream("byte-level", [[id] for id in ids]))
    assert found == LIBRARIES["byte-level"].decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("kind", ["byte-fallback", "no strip"])
@hypothesis.given(data=st.data())
def test_any_ids_between_bytes_are_decoded_as_the_library_does(kind: str, data: st.DataObject):
    made = LIBRARIES[kind]
    ids = apart(made, data.draw(st.lists(st.integers(0, made.get_vocab_size() + 3))))
    found = "".join(stream(kind, [[id] for id in ids]))
    assert found == made.decode(ids, skip_special_tokens=False)


def apart(made, ids: list[int]) -> list[int]:
    """Without bytes that follow a byte: the library takes a run of them, or leaves it, whole."""
    kept: list[int] = []
    after_byte = False
    for id in ids:
        if not (after_byte and is_byte(made, id)):
            kept.append(id)
            after_byte = is_byte(made, id) or (after_byte and made.id_to_token(id) is None)
    return kept


def is_byte(made, id: int) -> bool:
    return (made.id_to_token(id) or "").startswith("<0x")


def test_half_a_character_waits_and_at_the_end_it_is_replaced():
    for kind, replaced in (("byte-level", "\ufffd"), ("byte-fallback", "\ufffd" * 3)):
        ids = LIBRARIES[kind].encode("🙂").ids[-4:]
        assert stream(kind, [[id] for id in ids]) == ["", "", "", "🙂", ""]
        assert stream(kind, [[id] for id in ids[:3]]) == ["", "", "", replaced]


def test_good_characters_in_a_bad_run_of_bytes_stay():
    """They were let out before anybody could know, where the library takes all of them back."""
    made = LIBRARIES["byte-fallback"]
    ids = [made.token_to_id(f"<0x{byte:02X}>") for byte in "é".encode() + b"\xff"]
    assert stream("byte-fallback", [[id] for id in ids]) == ["", "é", "\ufffd", ""]
    assert made.decode(ids) == "\ufffd" * 3


def test_tokens_to_be_skipped_are_not_written_and_are_not_the_first():
    made = LIBRARIES["byte-fallback"]
    bos = made.token_to_id("<s>")
    one = detokenize.Detokenizer(KNOWN["byte-fallback"], skip={bos})
    ids = [bos, *made.encode("the and", add_special_tokens=False).ids, bos]
    assert one.push(ids) + one.flush() == "the and" == made.decode(ids)
    unknown = detokenize.Detokenizer(KNOWN["byte-fallback"])
    assert unknown.push([100_000, *ids[1:-1]]) == "the and"


def test_a_token_is_decoded_once_however_often_it_comes():
    class Counting:
        def __init__(self) -> None:
            self.calls = 0

        def __getattr__(self, name: str):
            return getattr(LIBRARIES["byte-fallback"], name)

        def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
            self.calls += 1
            assert len(ids) <= 2
            return LIBRARIES["byte-fallback"].decode(ids, skip_special_tokens=skip_special_tokens)

    layout = json.loads(LIBRARIES["byte-fallback"].to_str())["decoder"]
    library = Counting()
    known = pieces.Pieces(library, layout, path=pathlib.Path("tokenizer.json"))
    one = detokenize.Detokenizer(known)
    id = LIBRARIES["byte-fallback"].token_to_id("▁the")
    one.push([id, id])
    before = library.calls
    assert one.push([id] * 1000) == " the" * 1000
    assert library.calls == before
