"""Lines of a trace file, CSV or JSON, numbered, and the errors that name them.

Knows: UTF-8, CSV, JSON, and how to say which line is wrong. Does not know:
what the columns mean (`traces.py`). Streams: one line is in memory at a time.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from aqua_jax.control import errors

_LINE_BYTES_MAX = 1 << 20


def numbered(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """(line number, text) of every line that is not blank; text without its line end.

    Raises TraceError when the file cannot be read, is not UTF-8 or has an endless line.
    """
    try:
        with open(path, "rb") as file:
            line = 0
            while raw := file.readline(_LINE_BYTES_MAX + 1):
                line += 1
                if len(raw) > _LINE_BYTES_MAX:
                    raise wrong(path, line, "a longer line", f"at most {_LINE_BYTES_MAX} bytes")
                text = _decode(path, line, raw)
                if text.strip():
                    yield line, text.rstrip("\r\n")
    except OSError as error:
        raise errors.TraceError(
            f"{os.fspath(path)}: {error.strerror or type(error).__name__}: "
            "expected a trace file (CSV or JSON lines); check the path"
        ) from None


def csv_rows(
    path: str | os.PathLike[str], columns: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    """(line number, the fields of `columns` in that order) of every row below the header.

    Spaces around names and fields do not count. Raises TraceError.
    """
    lines = numbered(path)
    header = next(lines, None)
    if header is None:
        raise empty(path)
    found = csv_fields(path, *header)
    missing = [name for name in columns if name not in found]
    if missing:
        raise wrong(path, header[0], f"columns {', '.join(found)}", f"also {', '.join(missing)}")
    indices = [found.index(name) for name in columns]
    for line, text in lines:
        fields = csv_fields(path, line, text)
        if len(fields) != len(found):
            raise wrong(path, line, f"{len(fields)} fields", f"{len(found)} as in the header")
        yield line, [fields[index] for index in indices]


def csv_fields(path: str | os.PathLike[str], line: int, text: str) -> list[str]:
    """The fields of one line of CSV, without the spaces around them. Raises TraceError."""
    try:
        return [field.strip() for field in next(csv.reader([text], strict=True))]
    except csv.Error as error:
        raise wrong(path, line, str(error), "comma-separated fields") from None


def json_object(
    path: str | os.PathLike[str], line: int, text: str, keys: Sequence[str]
) -> dict[str, Any]:
    """The object that one line holds, with at least `keys`. Raises TraceError."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong(path, line, str(error), "one JSON object") from None
    if not isinstance(row, dict):
        raise wrong(path, line, f"a JSON {type(row).__name__}", "one JSON object")
    missing = [key for key in keys if key not in row]
    if missing:
        raise wrong(path, line, f"keys {', '.join(row)}", f"also {', '.join(missing)}")
    return row


def wrong(path: str | os.PathLike[str], line: int, found: str, expected: str) -> errors.TraceError:
    """The error of one line: what was found in it and what was expected."""
    return errors.TraceError(f"{os.fspath(path)}, line {line}: found {found}; expected {expected}")


def empty(path: str | os.PathLike[str]) -> errors.TraceError:
    """The error of a file without rows."""
    return errors.TraceError(f"{os.fspath(path)}: found no rows; expected at least one request")


def _decode(path: str | os.PathLike[str], line: int, raw: bytes) -> str:
    try:
        # A byte order mark, which spreadsheets write, is no part of the first column's name.
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise wrong(path, line, f"byte {raw[error.start]:#04x}", "UTF-8 text") from None
