"""Chat templates: messages to the text of a prompt, as the model was trained to see it.

Knows: where a model's folder keeps its templates, what they are given. Does not know: ids, models.

The conventions are those of Hugging Face's "Chat templates" guide: jinja2 with trimmed blocks,
`break` and `continue`, `raise_exception`, `strftime_now`, `tojson` that escapes nothing. What a
template may do is bounded (`sandbox.py`).
"""

from __future__ import annotations

import datetime
import json
import pathlib
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import exceptions

from aqua_jax.control import errors
from aqua_jax.tokens import budget, folder, sandbox

_FIELD = "chat_template"
_FILE = "chat_template.jinja"
_DEFAULT = "default"
_WITH_TOOLS = "tool_use"
_GIVEN_MAX = 1 << 26  # characters and items of messages, tools and documents
_INDENT_MAX = 16
_WIDE_DATE = re.compile(r"%[^a-zA-Z%]*\d{4}")


class ChatTemplate:
    """A model's chat templates by name, compiled. Any thread may use it.

    specials: texts of special tokens by name, which templates use. where: files and fields, for
    errors.
    """

    def __init__(
        self, sources: Mapping[str, str], *, specials: Mapping[str, str], where: str
    ) -> None:
        """Raises ConfigError for a template that cannot be compiled."""
        self._where = where
        self._specials = dict(specials)
        self._environment = sandbox.Sandbox(
            functions={"raise_exception": _raise}, own_filters={"tojson": _to_json}
        )
        self._templates = {name: self._make(name, text) for name, text in sources.items()}

    @property
    def names(self) -> list[str]:
        """Those of the templates; a lone one is "default"."""
        return list(self._templates)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        name: str = "",
        now: Callable[[], datetime.datetime] = datetime.datetime.now,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt. It holds its special tokens: encode it without adding any.

        messages: `{"role": ..., "content": ...}` and what else the template reads. name: of the
        template; "": "tool_use" where there are tools and such a template, else "default".
        variables: more for the template, as `enable_thinking`. Raises RequestError for messages
        that the template refuses or cannot read, ConfigError for a template that is unsafe or
        works without end.
        """
        _check_messages(messages)
        template = self._choose(name, bool(tools))
        given = {
            **self._specials,
            **(variables or {}),
            "messages": messages,
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
            "strftime_now": _strftime(now),
        }
        size = _measure_given([messages, tools, documents, dict(variables or {})])
        with budget.granted(budget.Budget(given=size)):
            return "".join(self._pieces(template, given))

    def _choose(self, name: str, has_tools: bool) -> jinja2.Template:
        if not name:
            name = _WITH_TOOLS if has_tools and _WITH_TOOLS in self._templates else _DEFAULT
        if name not in self._templates:
            raise errors.ConfigError(
                f"{self._where}: no template {name!r}{errors.close_match(name, self._templates)}"
            )
        return self._templates[name]

    def _make(self, name: str, text: str) -> jinja2.Template:
        try:
            with budget.granted(budget.Budget()):
                return self._environment.make(text, filename=self._filename(name))
        except jinja2.TemplateSyntaxError as error:
            raise self._fault(f"line {error.lineno}: {error.message}") from None
        except (exceptions.SecurityError, budget.BudgetError) as error:
            raise self._fault(str(error)) from None
        except (RecursionError, SyntaxError, MemoryError, ValueError) as error:
            raise self._fault(f"it cannot be compiled ({type(error).__name__})") from None

    def _pieces(self, template: jinja2.Template, given: Mapping[str, Any]) -> Iterator[str]:
        """What it writes, within its bounds, and its errors as ours."""
        size = 0
        try:
            for piece in template.generate(given):
                size += len(piece)
                budget.current().check_size(size)
                yield piece
        except (exceptions.SecurityError, budget.BudgetError, RecursionError) as error:
            raise self._fault(f"{_line(template, error)}{error}") from None
        except _RefusalError as error:
            raise errors.RequestError(
                f"{self._where}: the template refuses the messages: {error}"
            ) from None
        except Exception as error:  # a template may raise whatever its values do
            raise errors.RequestError(
                f"{self._where}: {_line(template, error)}the template cannot read the messages:"
                f" {error}"
            ) from None

    def _fault(self, reason: str) -> errors.ConfigError:
        return errors.ConfigError(
            f"{self._where}: {reason}: expected a template that writes a prompt and does no more"
        )

    def _filename(self, name: str) -> str:
        return f"<{self._where}, {name}>"


def read(path: str | pathlib.Path, *, specials: Mapping[str, str]) -> ChatTemplate:
    """The chat templates of a model's folder: chat_template.jinja, else tokenizer_config.json's.

    specials: as `Tokenizer.specials`. Raises ConfigError where there is none.
    """
    root = pathlib.Path(path)
    file = root / _FILE
    if file.exists():
        source = folder.read_text(file, what="a chat template")
        return ChatTemplate({_DEFAULT: source}, specials=specials, where=str(file))
    config = folder.read_json(root / "tokenizer_config.json")
    given = config.values.get(_FIELD)
    if given is None:
        raise errors.ConfigError(
            f"{config.path}: {_FIELD} is missing, and {file} is not there: expected one of them to"
            " chat with this model; or give the prompt as plain text"
        )
    where = f"{config.path}: {_FIELD}"
    return ChatTemplate(_by_name(config, given), specials=specials, where=where)


def _by_name(config: folder.JsonFile, given: Any) -> dict[str, str]:
    if isinstance(given, str):
        return {_DEFAULT: given}
    named: dict[str, str] = {}
    for one in given if isinstance(given, list) and given else [None]:
        fields = one if isinstance(one, dict) else {}
        name, text = fields.get("name"), fields.get("template")
        if not (isinstance(name, str) and isinstance(text, str)):
            raise config.wrong(_FIELD, given, "a template or a list of {name, template}")
        named[name] = text
    return named


class _RefusalError(Exception):
    """Raised by a template: it does not take these messages."""


def _raise(message: Any) -> None:
    raise _RefusalError(str(message)[:500])


def _strftime(now: Callable[[], datetime.datetime]) -> Callable[[str], str]:
    def strftime_now(layout: str) -> str:
        if _WIDE_DATE.search(layout):
            raise budget.BudgetError("it pads a date by a width of four digits")
        return now().strftime(layout)

    return strftime_now


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON in which nothing is escaped for HTML."""
    if isinstance(indent, int) and indent > _INDENT_MAX:
        raise budget.BudgetError(f"it indents JSON by {indent}, more than {_INDENT_MAX}")
    return json.dumps(
        value,
        ensure_ascii=bool(ensure_ascii),
        indent=indent,
        separators=separators,
        sort_keys=bool(sort_keys),
    )


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise errors.RequestError(
            f"messages is {str(messages)[:80]!r}: expected a list of at least one message"
        )
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise errors.RequestError(
                f"messages[{number}] is {str(message)[:80]!r}: expected an object with a role and"
                " content"
            )


def _measure_given(values: list[Any]) -> int:
    """Size of what a template is given, all of it JSON. Raises RequestError."""
    try:
        size = budget.measure(values, most=_GIVEN_MAX)
    except budget.BudgetError as error:
        raise errors.RequestError(f"messages, tools or documents: {error}") from None
    if size > _GIVEN_MAX:
        raise errors.RequestError(
            f"messages, tools and documents have more than {_GIVEN_MAX} characters and items"
        )
    return size


def _line(template: jinja2.Template, error: BaseException) -> str:
    """Where in the template it was raised: "line 3: ", or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == template.filename]
    return f"line {lines[-1]}: " if lines else ""
