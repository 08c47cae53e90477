"""Which links of a machine may be used: every byte must arrive, and not below a floor.

Knows: a probe, the speeds kept from earlier runs, the floor. Does not know:
devices, arms, how a table is drawn. A direction of a tier is checked by its
data pattern at every start; its speed is measured, or taken from what was
kept. A kept speed never refuses a link: it may have been taken at a bad moment,
so one below the floor is measured again. The reference mover has no floor: it
is slow on purpose, and says nothing of the link.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from aqua_jax.control import errors, types
from aqua_jax.experiments import link_cache, settings
from aqua_jax.memory import probe

SECONDS = 1.5  # for the speeds of all links of a mover
# A smaller plan takes the time of its start, whatever the link: it says nothing of a floor.
FLOOR_BYTES_MIN = types.MIB


class Direction(NamedTuple):
    """One way of a tier's link. origin, goal: names of its ends; source, target: their spaces."""

    origin: str
    goal: str
    tier: str
    source: int
    target: int

    @property
    def name(self) -> str:
        """E.g. "device->host"."""
        return f"{self.origin}->{self.goal}"


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """A direction that was checked. refused: why it must not be used; "" for a good one."""

    direction: Direction
    mover: str
    comparison: probe.Comparison | None
    speed: probe.Speed | None
    kept: bool  # the speed is of an earlier run
    refused: str

    @property
    def row(self) -> dict[str, Any]:
        """As in the report's table `links`."""
        row: dict[str, Any] = {
            "source": self.direction.origin,
            "target": self.direction.goal,
            "mover": self.mover,
        }
        if self.speed is not None:
            row |= {
                "latency_seconds": self.speed.latency_seconds,
                "bytes_per_second": self.speed.fastest.bytes_per_second,
                "plan_bytes_per_second": {
                    _size(rate.bytes): rate.bytes_per_second for rate in self.speed.rates
                },
            }
        if self.comparison is not None:
            row |= {
                "compared_bytes": self.comparison.bytes,
                "wrong_bytes": self.comparison.wrong_bytes,
            }
        return row | {"kept": self.kept, "refused": self.refused or None}


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """The links that were checked. note: what else there is to say, "" as a rule."""

    links: Sequence[Link]
    note: str

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The report's table `links`; names say the mover where there are several."""
        several = len({link.mover for link in self.links}) > 1
        return {
            f"{link.direction.name} ({link.mover})" if several else link.direction.name: link.row
            for link in self.links
        }

    @property
    def refused_tiers(self) -> dict[str, str]:
        """Tier -> why it is to be left out, for every tier of which a direction is refused."""
        refused: dict[str, str] = {}
        for link in self.links:
            if link.refused:
                why = f"{link.direction.name} by the {link.mover} mover: {link.refused}"
                before = refused.get(link.direction.tier)
                refused[link.direction.tier] = f"{before}; {why}" if before else why
        return refused


def check(
    probing: probe.Probe,
    directions: Sequence[Direction],
    memory: settings.MemorySettings,
    *,
    mover: str,
    cache: link_cache.LinkCache,
) -> Report:
    """Checks every direction; speeds that were measured are kept for later runs."""
    kept = cache.load() if memory.probe == "cached" else {}
    seconds = SECONDS / max(1, len(directions))
    floor = 0.0 if mover == "reference" else memory.link_floor_gbps * 1e9
    links = [_check(probing, direction, floor, mover, kept, seconds) for direction in directions]
    note = ""
    if any(link.speed is not None and not link.kept for link in links):
        note = cache.keep([link.speed for link in links if link.speed is not None])
    return Report(links, note)


def _check(
    probing: probe.Probe,
    direction: Direction,
    floor: float,
    mover: str,
    kept: dict[tuple[int, int], probe.Speed],
    seconds: float,
) -> Link:
    pair = direction.source, direction.target
    try:
        comparison = probing.compare(*pair)
        if comparison.wrong_bytes:
            refused = (
                f"{comparison.wrong_bytes} of {comparison.bytes} bytes arrived wrong, the first is"
                f" {comparison.first_wrong}"
            )
            return Link(direction, mover, comparison, None, kept=False, refused=refused)
        speed = kept.get(pair)
        if speed is not None and not _too_slow(speed, floor):
            return Link(direction, mover, comparison, speed, kept=True, refused="")
        speed = probing.measure(*pair, seconds=seconds)
    except errors.MoveError as error:
        return Link(direction, mover, None, None, kept=False, refused=str(error))
    return Link(direction, mover, comparison, speed, kept=False, refused=_too_slow(speed, floor))


def _too_slow(speed: probe.Speed, floor: float) -> str:
    """Why the speed is refused; "" when it is not."""
    fastest = speed.fastest
    if speed.rates[-1].bytes < FLOOR_BYTES_MIN or fastest.bytes_per_second >= floor:
        return ""
    return (
        f"{fastest.bytes_per_second / 1e9:.3g} GB/s at best, in copies of {_size(fastest.bytes)},"
        f" below memory.link_floor_gbps={floor / 1e9:g}"
    )


def _size(nbytes: int) -> str:
    """A number of bytes as a name without a dot: `64KiB`, `16MiB`, `1536KiB`."""
    whole = nbytes >= types.MIB and nbytes % types.MIB == 0
    return f"{nbytes // types.MIB}MiB" if whole else f"{nbytes // probe.KIB}KiB"
