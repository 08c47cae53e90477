"""Chat templates: as transformers renders them, from a model's folder, and what is refused how."""

from __future__ import annotations

import datetime
import json
import pathlib

import pytest

from aqua_jax.control import errors
from aqua_jax.tokens import chat
from tests.tokens import chat_cases

GOLDEN = json.loads(pathlib.Path(__file__).with_name("golden_chat.json").read_text())["prompts"]
HELLO = [{"role": "user", "content": "hello"}]


def made(source: str) -> chat.ChatTemplate:
    return chat.ChatTemplate({"default": source}, specials=chat_cases.SPECIALS, where="some.json")


def test_there_is_a_golden_prompt_for_every_case():
    cases = {f"{t}, {c}" for t in chat_cases.TEMPLATES for c in chat_cases.CONVERSATIONS}
    assert cases == set(GOLDEN)
    assert sum(prompt is None for prompt in GOLDEN.values()) == 2


@pytest.mark.parametrize("case", GOLDEN)
def test_prompts_are_those_of_transformers(case):
    template, conversation = case.split(", ")
    one = made(chat_cases.TEMPLATES[template])
    options = chat_cases.CONVERSATIONS[conversation]
    if GOLDEN[case] is None:
        with pytest.raises(errors.RequestError, match=r"refuses the messages: .*must alternate"):
            one.render(**options)
    else:
        assert one.render(**options) == GOLDEN[case]


def test_dates_and_json_and_variables():
    one = made(
        "{{ strftime_now('%d %b %Y') }} {{ {'a': '<é>'} | tojson }} {{ documents }} {{ tone }}"
    )
    day = datetime.datetime(2024, 7, 26)
    given = {"now": lambda: day, "documents": [{"text": "d"}], "variables": {"tone": "kind"}}
    assert one.render(HELLO, **given) == "26 Jul 2024 {\"a\": \"<é>\"} [{'text': 'd'}] kind"


def test_messages_are_not_changed():
    messages = [{"role": "user", "content": "hello", "extra": [1, 2]}]
    before = json.dumps(messages)
    made(chat_cases.QWEN3).render(messages)
    assert json.dumps(messages) == before


def folder(tmp_path: pathlib.Path, given: object, *, jinja: str = "") -> pathlib.Path:
    config = {} if given is None else {"chat_template": given}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if jinja:
        (tmp_path / "chat_template.jinja").write_text(jinja)
    return tmp_path


NAMED = [
    {"name": "default", "template": "plain"},
    {"name": "tool_use", "template": "with {{ tools | length }} tools"},
]


def test_a_folder_has_one_template_or_several_or_a_file_of_its_own(tmp_path):
    one = chat.read(folder(tmp_path, "{{ bos_token }}x"), specials={"bos_token": "<s>"})
    assert (one.names, one.render(HELLO)) == (["default"], "<s>x")
    several = chat.read(folder(tmp_path, NAMED), specials={})
    assert several.render(HELLO) == "plain"
    assert several.render(HELLO, tools=[{}]) == "with 1 tools"
    assert several.render(HELLO, tools=[{}], name="default") == "plain"
    with pytest.raises(errors.ConfigError, match=r"no template 'tools' .did you mean 'tool_use'"):
        several.render(HELLO, name="tools")
    assert chat.read(folder(tmp_path, NAMED, jinja="file"), specials={}).render(HELLO) == "file"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "tokenizer_config.json: chat_template is missing, and .*chat_template.jinja is not"),
        (3, "tokenizer_config.json: chat_template is 3: expected a template or a list"),
        ([], r"chat_template is \[\]: expected a template or a list of"),
        ([{"name": "x"}], r"chat_template is \[.*\]: expected a template or a list of"),
        (
            "a\n{% if %}",
            r"chat_template: line 2: Expected an expression.*: expected a template that",
        ),
        ("{{ x | frob }}", r"chat_template: line 1: No filter named 'frob'"),
        ("{% include 'x' %}", "chat_template: line 1: include of another template"),
        ("{{" + "(" * 999 + ")" * 999 + "}}", "chat_template: it cannot be compiled"),
    ],
)
def test_a_folder_without_a_good_template_is_refused(tmp_path, given, text):
    with pytest.raises(errors.ConfigError, match=text):
        chat.read(folder(tmp_path, given), specials={})


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (
            "\n{{ messages.__class__ }}",
            errors.ConfigError,
            "some.json: line 2: attribute '__class__' of a list is not for templates",
        ),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
            errors.ConfigError,
            "some.json: line 1: it takes more than 1000000 steps: expected a template that",
        ),
        ("{{ 'x' * 10**9 }}", errors.ConfigError, "it makes a value of more than 2000"),
        ("{{ [1] | tojson(indent=99) }}", errors.ConfigError, "indents JSON by 99, more than 16"),
        ("{{ strftime_now('%99999d') }}", errors.ConfigError, "pads a date by a width"),
        ("{{ raise_exception('no!') }}", errors.RequestError, "refuses the messages: no!"),
        (
            "{{ messages[0].a.b }}",
            errors.RequestError,
            "line 1: the template cannot read the messages: .* has no attribute 'a'",
        ),
        ("{{ messages[0].x | tojson }}", errors.RequestError, "Undefined is not JSON"),
    ],
)
def test_what_goes_wrong_while_rendering_is_said_with_file_and_line(source, error, text):
    with pytest.raises(error, match=text):
        made(source).render(HELLO)


def test_output_without_end_is_refused():
    source = "{% for a in range(9999) %}" + "x" * 9999 + "{% endfor %}"
    with pytest.raises(errors.ConfigError, match="it makes a value of more than"):
        made(source).render(HELLO)


def test_long_conversations_are_not_taken_for_bombs():
    turns = [{"role": role, "content": "word " * 500} for role in ("user", "assistant")] * 150
    for template in (chat_cases.QWEN3, chat_cases.MISTRAL, chat_cases.LLAMA3):
        assert len(made(template).render(turns)) > 700_000


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], "messages is .*: expected a list of at least one message"),
        ("hello", "messages is 'hello': expected a list"),
        ([{"content": "x"}], r"messages\[0\] is .*: expected an object with a role"),
        ([HELLO[0], "x"], r"messages\[1\] is 'x': expected an object"),
        ([{"role": "user", "n": 1 << 9999}], "messages, tools or documents: .* an integer of more"),
    ],
)
def test_messages_that_are_none(messages, text):
    with pytest.raises(errors.RequestError, match=text):
        made("x").render(messages)
