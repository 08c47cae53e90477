"""Prompts from settings and files, plain and as chat; those that cannot be are named by line."""

from __future__ import annotations

import pathlib

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import completion_prompts
from aqua_jax.tokens import tokenizer
from tests.experiments import tiny_text
from tests.tokens import vocabularies

CHATTED = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tiny_text.write(tmp_path_factory.mktemp("prompts") / "model")


def read(model: pathlib.Path, **changes) -> list[completion_prompts.Prompt]:
    wanted = tiny_text.wanted(model, **changes)
    return completion_prompts.Reader(tokenizer.Tokenizer(model), wanted).read()


def texts(model: pathlib.Path, prompts: list[completion_prompts.Prompt]) -> list[str]:
    known = tokenizer.Tokenizer(model)
    return [known.decode(prompt.ids, skip_special=False) for prompt in prompts]


def test_a_prompt_is_plain_or_a_message(model):
    (plain,) = read(model, prompt="hi")
    assert (plain.where, plain.given, texts(model, [plain])) == ("prompt", "hi", ["hi"])
    assert texts(model, read(model, prompt="hi", chat=True)) == [CHATTED]
    with_system = texts(model, read(model, prompt="hi", chat=True, system="Be kind."))
    assert with_system == ["<|im_start|>system\nBe kind.<|im_end|>\n" + CHATTED]


def test_a_chats_special_tokens_are_not_doubled(tmp_path):
    template = "{{ bos_token }}{{ messages[0].content }}"
    path = tiny_text.write(tmp_path / "model", template=template)
    library = vocabularies.beginning(vocabularies.byte_level())
    config = {"bos_token": "<s>", "chat_template": template}
    vocabularies.save(library, path, tokenizer_config=config)
    assert texts(path, read(path, prompt="hi")) == ["<s>hi"]
    assert texts(path, read(path, prompt="hi", chat=True)) == ["<s>hi"]


def test_a_file_has_a_prompt_a_line(model, tmp_path):
    path = tiny_text.prompts_file(tmp_path / "some.txt", ["one", "", " two\r", '{"prompt": "x"}'])
    found = read(model, prompts_file=path)
    assert texts(model, found) == ["one", " two", '{"prompt": "x"}']
    assert [prompt.where for prompt in found] == [f"{path}, line {n}" for n in (1, 3, 4)]


def test_lines_of_json_are_prompts_or_messages(model, tmp_path):
    messages = [{"role": "user", "content": "hi"}]
    lines = [{"prompt": "a\nb"}, {"messages": messages}]
    path = tiny_text.prompts_file(tmp_path / "some.jsonl", lines)
    assert texts(model, read(model, prompts_file=path)) == ["a\nb", CHATTED]


@pytest.mark.parametrize(
    ("name", "lines", "text"),
    [
        ("some.txt", ["", " "], r"some.txt has 0 prompts: expected 1 to 100000, one a line"),
        ("some.jsonl", ["{"], r"some.jsonl, line 1: no JSON: "),
        ("some.jsonl", [{"prompt": "x"}, {"text": "x"}], r"line 2 is .*expected an object with a"),
        ("some.jsonl", [{"prompt": "x", "messages": []}], r"line 1 is .*expected an object"),
        ("some.jsonl", [["x"]], r"line 1 is .*expected an object"),
        ("some.jsonl", [{"prompt": ""}], r"line 1: the prompt is empty: expected text"),
        ("some.jsonl", [{"messages": [{"a": 1}]}], r"line 1: messages\[0\] is .*with a role"),
        ("some.jsonl", [{"messages": [{"role": "user"}]}], r"line 1: .*cannot read the messages"),
        ("some.jsonl", ['{"prompt": "\\ud83d"}'], r"line 1: the text holds half a character"),
    ],
)
def test_a_wrong_line_is_named(model, tmp_path, name, lines, text):
    path = tiny_text.prompts_file(tmp_path / name, lines)
    with pytest.raises((errors.ConfigError, errors.RequestError), match=text):
        read(model, prompts_file=path)


def test_a_file_that_is_not_there_and_a_prompt_of_nothing(model):
    with pytest.raises(errors.ConfigError, match=r"none.txt is not there: expected prompts, one a"):
        read(model, prompts_file="none.txt")
    with pytest.raises(errors.RequestError, match="prompt: the prompt is empty: expected text"):
        read(model, prompt="")


def test_a_model_without_a_template_does_not_chat(tmp_path):
    path = tiny_text.write(tmp_path / "model", template="")
    assert len(read(path, prompt="hi")) == 1
    with pytest.raises(
        errors.ConfigError, match=r"tokenizer_config.json: chat_template is missing"
    ):
        read(path, prompt="hi", chat=True)


def test_a_prompt_without_room_is_named_with_both_numbers(model):
    (prompt,) = read(model, prompt="x" * 40)
    assert prompt.room(context_tokens=50, units_max=64) == 10
    with pytest.raises(errors.RequestError, match=r"prompt: the prompt has 40 tokens and .* is 40"):
        prompt.room(context_tokens=40, units_max=64)
