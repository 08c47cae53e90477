"""The settings in words, for the door's `--help`.

Knows: the docstrings and defaults of `settings.py`. Does not know: flags.
"""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
import typing

from aqua_jax.experiments import settings

_COLUMNS = 96


def text() -> str:
    """Every head of an experiment with its names, their meaning and their defaults."""
    hints = typing.get_type_hints(settings.Experiment)
    heads = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    sections = [_section("", settings.Experiment, leave_out=set(heads))]
    sections += [_section(f"{name}.", hint, leave_out=set()) for name, hint in heads.items()]
    return "\n\n".join(sections)


def _section(prefix: str, cls: typing.Any, *, leave_out: set[str]) -> str:
    title = f"--config.{prefix}NAME=VALUE"
    words = inspect.getdoc(cls) or ""
    fields = [field for field in dataclasses.fields(cls) if field.name not in leave_out]
    defaults = textwrap.fill(
        "Defaults: " + ", ".join(f"{f.name} {_default(f)}" for f in fields if _default(f)),
        _COLUMNS,
        break_on_hyphens=False,
    )
    return "\n".join([title, textwrap.indent(words, "    "), textwrap.indent(defaults, "    ")])


def _default(field: dataclasses.Field[typing.Any]) -> str:
    """The default as a flag would say it; "" where a config gives it."""
    if field.default is dataclasses.MISSING:
        return ""
    return "''" if field.default == "" else str(field.default)
