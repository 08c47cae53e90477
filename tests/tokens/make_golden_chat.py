"""Writes golden_chat.json: what transformers makes of the cases in chat_cases.py.

`python -m tests.tokens.make_golden_chat`, in an environment with the extra `parity`.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import jinja2

from tests.tokens import chat_cases

GOLDEN = pathlib.Path(__file__).with_name("golden_chat.json")


def main() -> None:
    import tokenizers  # noqa: PLC0415  # the extra `parity`: not there where tests run
    import transformers  # noqa: PLC0415  # as above

    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({"x": 0}, "x"))
    reference = transformers.PreTrainedTokenizerFast(
        tokenizer_object=library, **chat_cases.SPECIALS
    )

    def render(template: str, options: dict[str, Any]) -> str | None:
        given = {"add_generation_prompt": True} | options
        messages = given.pop("messages")
        variables = given.pop("variables", {})
        try:
            return reference.apply_chat_template(
                messages, chat_template=template, tokenize=False, **given, **variables
            )
        except jinja2.TemplateError:
            return None  # the template refuses such messages

    found = {
        f"{name}, {case}": render(template, options)
        for name, template in chat_cases.TEMPLATES.items()
        for case, options in chat_cases.CONVERSATIONS.items()
    }
    values = {"transformers": transformers.__version__, "prompts": found}
    GOLDEN.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
