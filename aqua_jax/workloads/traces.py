"""Readers of recorded traces: Azure LLM inference, Mooncake and VTC files as `Arrival`s.

Knows: three file formats. Does not know: how long or how fast a run should be
(`shaping.py`), nor what tokens a prompt holds (`prompts.py`).

Times are the trace's own, in seconds from its first row, and the order is the
file's: `shaping.in_order` sorts what is not. A length of 0 is read as 0:
`shaping.scale` lifts it to 1.

Formats:
    Azure     CSV  TIMESTAMP, ContextTokens, GeneratedTokens
              (Splitwise, ISCA'24; github.com/Azure/AzurePublicDataset)
    Mooncake  JSON lines  timestamp (ms), input_length, output_length, hash_ids
              (FAST'25; one hash id per 512-token block, equal ids are equal tokens)
    VTC       CSV  req_time_s, client, prompt_len, output_len
              (OSDI'24; the client is the tenant)
"""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from aqua_jax.workloads import lines, records

MOONCAKE_BLOCK_TOKENS = 512

_T = TypeVar("_T")
_AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_VTC_COLUMNS = ("req_time_s", "client", "prompt_len", "output_len")
_MOONCAKE_KEYS = ("timestamp", "input_length", "output_length")
_LENGTH_MAX = (1 << 31) - 1


def read(path: str | os.PathLike[str]) -> list[records.Arrival]:
    """Reads a trace of any known format, told by its first line.

    Raises TraceError as the readers do, and when the first line is none of theirs.
    """
    first = next(lines.numbered(path), None)
    if first is None:
        raise lines.empty(path)
    line, text = first
    if text.lstrip().startswith("{"):
        return read_mooncake(path)
    columns = lines.csv_fields(path, line, text)
    if _AZURE_COLUMNS[0] in columns:
        return read_azure(path)
    if _VTC_COLUMNS[0] in columns:
        return read_vtc(path)
    expected = (
        f"a CSV header with {', '.join(_AZURE_COLUMNS)} (Azure) or {', '.join(_VTC_COLUMNS)} "
        f"(VTC), or a JSON object with {', '.join(_MOONCAKE_KEYS)} (Mooncake)"
    )
    raise lines.wrong(path, line, repr(text.strip()[:80]), expected)


def read_azure(path: str | os.PathLike[str]) -> list[records.Arrival]:
    """Reads an Azure LLM inference trace (CSV). Raises TraceError."""
    arrivals = _Arrivals(path)
    start: datetime.datetime | None = None
    for line, (stamp, prompt, output) in lines.csv_rows(path, _AZURE_COLUMNS):
        at = arrivals.parse(line, "TIMESTAMP", stamp, datetime.datetime.fromisoformat)
        start = start or at
        if (at.tzinfo is None) != (start.tzinfo is None):
            expected = "a time zone in all rows or in none"
            raise lines.wrong(path, line, f"TIMESTAMP {stamp!r}", expected)
        arrivals.add(line, (at - start).total_seconds(), prompt, output)
    return arrivals.finish()


def read_vtc(path: str | os.PathLike[str]) -> list[records.Arrival]:
    """Reads a VTC trace (CSV); the client becomes the tenant. Raises TraceError."""
    arrivals = _Arrivals(path)
    start: float | None = None
    for line, (time, client, prompt, output) in lines.csv_rows(path, _VTC_COLUMNS):
        at = arrivals.parse(line, "req_time_s", time, _finite)
        start = at if start is None else start
        arrivals.add(line, at - start, prompt, output, tenant=client)
    return arrivals.finish()


def read_mooncake(path: str | os.PathLike[str]) -> list[records.Arrival]:
    """Reads a Mooncake trace (JSON lines); hash ids become prefix ids. Raises TraceError."""
    arrivals = _Arrivals(path)
    start: float | None = None
    for line, text in lines.numbered(path):
        row = lines.json_object(path, line, text, _MOONCAKE_KEYS)
        at = arrivals.parse(line, "timestamp", row["timestamp"], _finite) / 1000
        start = at if start is None else start
        hash_ids = arrivals.parse(line, "hash_ids", row.get("hash_ids", []), _ids)
        arrivals.add(
            line, at - start, row["input_length"], row["output_length"], prefix_ids=hash_ids
        )
    return arrivals.finish()


class _Arrivals:
    """Arrivals in file order; every field is checked."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._arrivals: list[records.Arrival] = []

    def add(
        self,
        line: int,
        at_seconds: float,
        prompt: object,
        output: object,
        *,
        tenant: str = "",
        prefix_ids: tuple[int, ...] = (),
    ) -> None:
        self._arrivals.append(
            records.Arrival(
                at_seconds=at_seconds,
                prompt_tokens=self.parse(line, "prompt length", prompt, _length),
                output_tokens=self.parse(line, "output length", output, _length),
                tenant=tenant,
                prefix_ids=prefix_ids,
                prefix_block_tokens=MOONCAKE_BLOCK_TOKENS if prefix_ids else 0,
            )
        )

    def parse(self, line: int, name: str, value: Any, parser: Callable[[Any], _T]) -> _T:
        """`parser(value)`, or a TraceError that names the line and what was expected."""
        try:
            return parser(value)
        except (ValueError, TypeError, OverflowError):
            found = f"{name} {str(value)[:80]!r}"
            raise lines.wrong(self._path, line, found, _EXPECTED[parser]) from None

    def finish(self) -> list[records.Arrival]:
        if not self._arrivals:
            raise lines.empty(self._path)
        return self._arrivals


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(seconds := float(value)):
        raise ValueError(value)
    return seconds


def _length(value: Any) -> int:
    if isinstance(value, bool | float) or not 0 <= (tokens := int(value)) <= _LENGTH_MAX:
        raise ValueError(value)
    return tokens


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(item) is not int for item in value):
        raise ValueError(value)
    return tuple(value)


_EXPECTED: Mapping[Callable[[Any], Any], str] = {
    _finite: "a finite number",
    _length: f"a whole number of tokens from 0 to {_LENGTH_MAX}",
    _ids: "a list of whole numbers",
    datetime.datetime.fromisoformat: "an ISO 8601 time such as 2023-11-16 18:15:46.680590",
}
