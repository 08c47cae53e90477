"""Devices as data: memory, arithmetic, links, each figure with its source.

Knows: `hardware.json` beside this file, and files of the same form that a
calibration has saved. Does not know: models, what a slice costs, time.
Rates are what the vendor states (nominal); the efficiencies are the part of it
that kernels reach. Links are what was reached: fits of copies.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources

from aqua_jax.control import errors
from aqua_jax.simulation import strict_json

_CATALOGUE = "hardware.json"


@dataclasses.dataclass(frozen=True, slots=True)
class LinkFit:
    """A link of one device: t = latency + bytes / rate.

    bytes_per_second: in one direction while the other rests. duplex_bytes_per_second: of both
    directions together while both are busy, at most twice the former.
    """

    latency_ns: int
    bytes_per_second: int
    duplex_bytes_per_second: int

    def __post_init__(self) -> None:
        strict_json.above(self, "latency_ns", open_end=False)
        strict_json.above(self, "bytes_per_second", "duplex_bytes_per_second")
        lowest, highest = self.bytes_per_second, 2 * self.bytes_per_second
        if not lowest <= self.duplex_bytes_per_second <= highest:
            raise errors.ConfigError(
                f"duplex_bytes_per_second is {self.duplex_bytes_per_second}; expected once to twice"
                f" bytes_per_second, {lowest} to {highest}"
            )

    def nanoseconds(self, nbytes: int) -> int:
        """One copy alone on the link, rounded up.

        >>> LinkFit(8_900, 370_000_000_000, 740_000_000_000).nanoseconds(3 << 20)
        17402
        """
        return self.latency_ns - -nbytes * 1_000_000_000 // self.bytes_per_second


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One device.

    memory_bytes: its main memory, of which engines may use a part. memory_efficiency,
    compute_efficiency: of memory_bytes_per_second and flops_per_second (dense, bf16 where the
    device has it), the part that large kernels reach. dispatch_ns: what one dispatch adds to a
    slice on the device while the next is already queued behind it. nvlink: None: the device has
    none. pcie: to and from pinned host memory. sources: field -> where its figure is from.
    """

    name: str
    memory_bytes: int
    memory_bytes_per_second: int
    memory_efficiency: float
    flops_per_second: int
    compute_efficiency: float
    dispatch_ns: int
    nvlink: LinkFit | None
    pcie: LinkFit
    sources: dict[str, str] = dataclasses.field(compare=False)

    def __post_init__(self) -> None:
        strict_json.above(self, "memory_bytes", "memory_bytes_per_second", "flops_per_second")
        strict_json.above(self, "memory_efficiency", "compute_efficiency")
        strict_json.above(self, "dispatch_ns", open_end=False)
        for name in ("memory_efficiency", "compute_efficiency"):
            if getattr(self, name) > 1:
                raise errors.ConfigError(
                    f"{name} is {getattr(self, name)}; expected a part of 1, as what is reached"
                    " cannot exceed what is nominal"
                )


def load(name: str) -> Hardware:
    """A device of the catalogue by its name, or of a JSON file by its path (`*.json`).

    Raises ConfigError in one line for an unknown name and for a file that is wrong.
    """
    if name.endswith(".json"):
        return strict_json.build(Hardware, strict_json.read(name), where=name)
    found = _catalogue().get(name)
    if found is None:
        hint = errors.close_match(name, _catalogue())
        raise errors.ConfigError(
            f"unknown hardware {name!r}{hint}; or give a JSON file, as configs/calibrate.py saves"
        )
    return found


def names() -> list[str]:
    """The devices of the catalogue."""
    return list(_catalogue())


@functools.cache
def _catalogue() -> dict[str, Hardware]:
    file = importlib.resources.files("aqua_jax.simulation").joinpath(_CATALOGUE)
    entries = strict_json.parse(file.read_text("utf-8"), where=_CATALOGUE)
    devices = [strict_json.build(Hardware, entry, where=_CATALOGUE) for entry in entries]
    return {device.name: device for device in devices}
