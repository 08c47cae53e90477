"""The settings in words, for the door's `--help`.

Knows: the docstrings and defaults of `settings.py`, `simulated_settings.py` and
`completion_settings.py`. Does not know: flags.
"""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
import typing

from aqua_jax.experiments import completion_settings, settings, simulated_settings

_COLUMNS = 96


def text() -> str:
    """Every head of an experiment with its names, their meaning and their defaults.

    Of a simulated one and of completions, those that they have to themselves.
    """
    real = _heads(settings.Experiment)
    sections = [_section(name, cls, leave_out=set(real)) for name, cls in real.items()]
    for title, whole in (
        ("Of simulated experiments, configs/sim_*.py", simulated_settings.SimulatedExperiment),
        ("Of completions, configs/complete.py", completion_settings.CompletionSettings),
    ):
        own = {name: cls for name, cls in _heads(whole).items() if cls is not real.get(name)}
        sections.append(f"{title}; other heads as above:")
        left_out = set(real) | set(own)
        sections += [_section(name, cls, leave_out=left_out) for name, cls in own.items()]
    return "\n\n".join(sections)


def _heads(cls: typing.Any) -> dict[str, typing.Any]:
    """The experiment's class under "", and those of its heads by name."""
    hints = typing.get_type_hints(cls)
    return {"": cls} | {n: hint for n, hint in hints.items() if dataclasses.is_dataclass(hint)}


def _section(head: str, cls: typing.Any, *, leave_out: set[str]) -> str:
    """leave_out: the names of heads, which are no settings of the whole."""
    title = f"--config.{head}.NAME=VALUE" if head else "--config.NAME=VALUE"
    words = inspect.getdoc(cls) or ""
    left_out = leave_out if not head else set()
    fields = [field for field in dataclasses.fields(cls) if field.name not in left_out]
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
