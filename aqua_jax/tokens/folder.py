"""The JSON files beside a model's weights, field by field: what is wrong is named with its file.

Knows: files, JSON types. Does not know: what a field means.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from aqua_jax.control import errors

_BYTES_MAX = 1 << 28  # the largest tokenizer.json published is a tenth of it


class JsonFile:
    """One file of a folder. Every getter raises ConfigError with file, field and expectation."""

    def __init__(self, path: pathlib.Path, values: Mapping[str, Any]) -> None:
        self.path = path
        self.values = values

    def string(self, name: str) -> str | None:
        """A text; None where the field is absent or null."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, value, "a string")
        return value

    def flag(self, name: str) -> bool | None:
        """True or false; None where the field is absent or null."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def token(self, name: str) -> str | None:
        """A token's text, given as such or as an object with `content`; None where absent."""
        value = self.values.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        if value is not None and not isinstance(content, str):
            raise self.wrong(name, value, "a token's text, or an object with its content")
        return content

    def ids(self, name: str) -> tuple[int, ...]:
        """One token id or a list of them; none where the field is absent or null."""
        value = self.values.get(name)
        if value is None:
            return ()
        ids = value if isinstance(value, list) else [value]
        if not all(type(one) is int and one >= 0 for one in ids):
            raise self.wrong(name, value, "a token id or a list of token ids")
        return tuple(ids)

    def wrong(self, name: str, value: Any, expected: str) -> errors.ConfigError:
        """The error to raise for a field."""
        shown = json.dumps(value, default=str)[:80]
        return errors.ConfigError(f"{self.path}: {name} is {shown}: expected {expected}")


def read_json(path: pathlib.Path, *, what: str = "") -> JsonFile:
    """The object in the file. what: needed, and why; "": a file that is not there is empty.

    Raises ConfigError for what cannot be read, is no JSON or is no object.
    """
    if not what and not path.exists():
        return JsonFile(path, {})
    text = read_text(path, what=what or "a JSON object")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise errors.ConfigError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise errors.ConfigError(f"{path} holds a {type(values).__name__}: expected an object")
    return JsonFile(path, values)


def read_text(path: pathlib.Path, *, what: str) -> str:
    """The UTF-8 text of the file. what: the error says that it was expected."""
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise errors.ConfigError(
                f"{path} has {path.stat().st_size} bytes: expected {what} of at most {_BYTES_MAX}"
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise errors.ConfigError(f"{path} is not there: expected {what}") from None
    except OSError as error:
        raise errors.ConfigError(
            f"{path} cannot be read ({error.strerror}): expected {what}"
        ) from None
    except UnicodeDecodeError as error:
        raise errors.ConfigError(
            f"{path} is no UTF-8 at byte {error.start}: expected {what}"
        ) from None
