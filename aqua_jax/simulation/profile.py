"""A machine as it was measured: what a slice, a copy and the host cost there, as one JSON file.

Knows: the fields and their units, files. Does not know: who measured and how
(`experiments/profile_bench.py`), who runs on it. A catalogue's device says what its
vendor states (`hardware.py`); a profile says what one engine on one machine reached,
model, lanes and programs included, and foretells that engine alone.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib

from aqua_jax.control import errors
from aqua_jax.simulation import cost, strict_json
from aqua_jax.workloads import files


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction of a tier's link: t = latency + bytes / rate. error_median: relative."""

    latency_ns: int
    bytes_per_second: int
    error_median: float

    def __post_init__(self) -> None:
        strict_json.above(self, "latency_ns", "error_median", open_end=False)
        strict_json.above(self, "bytes_per_second")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A tier's link. out: off the device. into: back."""

    out: Direction
    into: Direction


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """The host's own time.

    dispatch_ns: from the beginning of a decision until its slice is dispatched. copy_ns: for
    submitting one copy. read_ns: from the end of a slice until its tokens are read.
    """

    dispatch_ns: int
    copy_ns: int
    read_ns: int

    def __post_init__(self) -> None:
        strict_json.above(self, "dispatch_ns", "copy_ns", "read_ns", open_end=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How well the cost meets the slices it is of; as in `fits.CostEstimate`."""

    slices: int
    outliers: int
    error_median: float
    error_p90: float
    error_total: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """See the module's text.

    ahead_ns: a slice was dispatched this long before the one in flight should end, beyond what
    the host needs. page_bytes: of a page of its pool. peer, host: links; None: not measured.
    measured_on: what it is of, in words.
    """

    cost: cost.SliceCost
    fit: Fit
    overhead: Overhead
    ahead_ns: int
    page_bytes: int
    peer: Link | None
    host: Link | None
    measured_on: dict[str, str] = dataclasses.field(compare=False)

    def __post_init__(self) -> None:
        strict_json.above(self, "ahead_ns", open_end=False)
        strict_json.above(self, "page_bytes")

    def link(self, kind: str) -> Link:
        """That of a tier of this kind. Raises ConfigError where it was not measured."""
        found = {"peer": self.peer, "host": self.host}[kind]
        if found is None:
            raise errors.ConfigError(
                f"the profile has no link of kind {kind!r}: calibrate an arm with such a tier"
            )
        return found


def load(path: str | pathlib.Path) -> Profile:
    """The profile in a file. Raises ConfigError in one line that names what is wrong with it."""
    return strict_json.build(Profile, strict_json.read(path), where=str(path))


def save(profile: Profile, path: pathlib.Path) -> None:
    """Writes it, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(strict_json.dump(profile), indent=2, allow_nan=False)
    files.write_whole(path, text + "\n")
