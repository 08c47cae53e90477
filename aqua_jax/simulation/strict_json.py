"""Frozen dataclasses from JSON, and what is wrong with it in one line.

Knows: JSON, the annotations of dataclasses. Does not know: what a field means;
a class says that in its `__post_init__`, by an error of `errors.ConfigError`
that begins with the field.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import types
import typing
from typing import Any, NoReturn, TypeVar

from aqua_jax.control import errors

T = TypeVar("T")


def read(path: str | pathlib.Path) -> Any:
    """The file's value. Raises ConfigError: no such file, not JSON, NaN, a key given twice."""
    try:
        return parse(pathlib.Path(path).read_text("utf-8"), where=str(path))
    except OSError as error:
        raise errors.ConfigError(f"{path}: {error.strerror}; expected a JSON file") from None
    except UnicodeDecodeError:
        raise errors.ConfigError(f"{path}: not UTF-8; expected a JSON file") from None


def parse(text: str, *, where: str) -> Any:
    """The text's value; `where` begins the error."""

    def refuse(constant: str) -> NoReturn:
        raise errors.ConfigError(f"{where}: {constant} is not JSON; expected finite numbers")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise errors.ConfigError(f"{where}: {twice!r} is given twice; expected it once")
        return value

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise errors.ConfigError(
            f"{where}, line {error.lineno}: not JSON: {error.msg.lower()}"
        ) from None
    except RecursionError:
        raise errors.ConfigError(f"{where}: not nested this deep; expected an object") from None


def build(cls: type[T], value: Any, *, where: str) -> T:
    """`cls(**value)` once every field is there, none is unknown and each is of its type.

    Types: str, int, float (an int will do), bool, dataclasses, dict[str, str], and any `| None`.
    A field with a default may be left out. Raises ConfigError that names `where` and the field.
    """
    if not isinstance(value, dict):
        raise errors.ConfigError(f"{where}: {_shown(value)}; expected an object")
    hints = typing.get_type_hints(cls)
    # A type variable cannot be bound to dataclasses: what they share has no name in typing.
    known = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    for name in value:
        if name not in known:
            hint = errors.close_match(name, known)
            raise errors.ConfigError(f"{where}: unknown field {name!r}{hint}")
    for name, field in known.items():
        if name not in value and field.default is field.default_factory is dataclasses.MISSING:
            raise errors.ConfigError(f"{where}: lacks {name!r}; expected {_described(hints[name])}")
    given = {name: _of_type(hints[name], value[name], where, name) for name in value}
    try:
        return cls(**given)
    except errors.ConfigError as error:
        raise errors.ConfigError(f"{where}: {error}") from None


def dump(value: Any) -> dict[str, Any]:
    """What `build` takes to make the dataclass again."""
    return dataclasses.asdict(value)


def above(value: object, *names: str, least: float = 0, open_end: bool = True) -> None:
    """Raises ConfigError for a field that is not above `least` (or, not `open_end`, is below)."""
    for name in names:
        given = getattr(value, name)
        if not math.isfinite(given) or given < least or (open_end and given == least):
            wanted = f"above {least}" if open_end else f"at least {least}"
            raise errors.ConfigError(f"{name} is {given}; expected a number {wanted}")


def _of_type(hint: Any, value: Any, where: str, name: str) -> Any:
    if isinstance(hint, types.UnionType):  # X | None
        if value is None:
            return None
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where=f"{where}: {name}")
    if hint == dict[str, str]:
        fits = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    elif hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = type(value) is hint  # True is an int to isinstance
    if not fits:
        raise errors.ConfigError(f"{where}: {name} is {_shown(value)}; expected {_described(hint)}")
    return float(value) if isinstance(value, int) and hint is float else value


def _described(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or null".join([_described(typing.get_args(hint)[0]), ""])
    if dataclasses.is_dataclass(hint) or hint == dict[str, str]:
        return "an object"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
