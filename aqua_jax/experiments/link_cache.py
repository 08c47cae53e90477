"""The speeds of a machine's links, kept between runs.

Knows: a folder of the user's, JSON, what the figures depend on. Does not know:
how links are measured, which are good. One file for each key; a file that is
broken or of another key counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from aqua_jax.memory import probe
from aqua_jax.workloads import files


def folder() -> pathlib.Path:
    """Where the files are: `aqua_jax/links` in $XDG_CACHE_HOME, else in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "aqua_jax" / "links"


class LinkCache:
    """The speeds under one key: all that they depend on, as JSON values."""

    def __init__(self, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True)
        self._key = json.loads(text)
        self._name = f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"

    def load(self) -> dict[tuple[int, int], probe.Speed]:
        """(source, target) -> speed; empty when nothing is kept."""
        try:
            kept = json.loads((folder() / self._name).read_text("utf-8"))
            if kept["key"] != self._key:
                return {}
            speeds = [_speed(entry) for entry in kept["links"]]
        except (OSError, RuntimeError, ValueError, LookupError, TypeError):
            return {}
        return {(speed.source, speed.target): speed for speed in speeds}

    def keep(self, speeds: Sequence[probe.Speed]) -> str:
        """Writes them in place of what was kept; why it could not, "" when it could."""
        links = [
            {
                "source": speed.source,
                "target": speed.target,
                "latency_seconds": speed.latency_seconds,
                "rates": [[rate.bytes, rate.seconds] for rate in speed.rates],
            }
            for speed in speeds
        ]
        text = json.dumps({"key": self._key, "links": links}, indent=2) + "\n"
        try:
            folder().mkdir(parents=True, exist_ok=True)
            files.write_whole(folder() / self._name, text)
        except (OSError, RuntimeError) as error:  # read-only, or a user without a home
            return f"link speeds are not kept for the next run: {error}; set XDG_CACHE_HOME"
        return ""


def _speed(entry: Mapping[str, Any]) -> probe.Speed:
    rates = tuple(probe.Rate(int(nbytes), float(seconds)) for nbytes, seconds in entry["rates"])
    if not rates or not all(rate.bytes > 0 and rate.seconds > 0 for rate in rates):
        raise ValueError("rates are of plans that took time")
    latency_seconds = float(entry["latency_seconds"])
    return probe.Speed(int(entry["source"]), int(entry["target"]), latency_seconds, rates)
