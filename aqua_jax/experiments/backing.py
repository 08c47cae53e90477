"""What stands behind the pool: an arena for every tier, and a mover for every arm.

Knows: kinds of arenas and movers, which fit together, devices. Does not know:
models, policies, who pages. The ffi mover copies part by part, so its arenas
are cut as the pool is; where arms have it and others, each kind gets its own.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jax.sharding import NamedSharding, Sharding, SingleDeviceSharding

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors
from aqua_jax.experiments import data_path, link_cache, link_checks, settings
from aqua_jax.loops import native_attention, programs, text
from aqua_jax.memory import arenas, native_arenas, page_store, paged, probe
from aqua_jax.memory.movers import base, faults, ffi, links, reference, verified, xla
from aqua_jax.workloads import environment

_DEVICE = "device"  # the pool's name beside those of the tiers


def check_devices(
    arms: Sequence[settings.Experiment], path: data_path.DataPath, devices: Sequence[Any]
) -> None:
    """Raises ConfigError where there are too few devices for the shards and a peer.

    Native memory that stands for a peer of a CPU needs no device.
    """
    shards = arms[0].model.shards
    peers = any(
        tier.kind == "peer"
        and not (path.mover(arm.memory) == "ffi" and devices[0].platform == "cpu")
        for arm in arms
        for tier in arm.memory.tiers.values()
    )
    if len(devices) < shards + peers:
        raise errors.ConfigError(
            f"{len(devices)} devices for {shards} shards{' and a peer' if peers else ''}:"
            f" set devices to at least {shards + peers}"
        )


class ArmMover(NamedTuple):
    """The mover of an arm with its decorators, and that of its emulated links, if any."""

    mover: base.PageMover
    links: links.LinkedMover | None


class _Key(NamedTuple):
    """An arena: of a tier, in native memory for the ffi mover or in an array."""

    tier: str
    native: bool


class Backing:
    """The arenas of all arms, each of the largest size that one asks for. `close` frees them.

    devices: those of the pool, then its peers. Raises ConfigError for tiers that cannot be.
    """

    def __init__(
        self,
        pool: paged.PagedPool,
        arms: Sequence[settings.Experiment],
        path: data_path.DataPath,
        *,
        clock: clocks.Clock,
        devices: Sequence[Any],
    ) -> None:
        self._pool = pool
        self._path = path
        self._clock = clock
        shards = pool.sharding.num_devices
        self._peers = devices[shards : 2 * shards]
        self._peers_match = len(self._peers) == shards
        self._tiers = _largest_tiers(arms)
        self._verifies = any(arm.memory.verify for arm in arms)
        self._left_out: frozenset[str] = frozenset()
        self._arenas: dict[_Key, page_store.PageStore] = {}
        self._attends = any(arm.memory.attends.is_on for arm in arms)
        self._by_mover: dict[str, settings.MemorySettings] = {}  # of the first arm that has it
        self._tiers_by_mover: dict[str, list[str]] = {}
        for arm in arms:
            self._add(arm.memory)

    def tiers(self, memory: settings.MemorySettings) -> dict[str, tuple[int, int]]:
        """Tier -> (space, slots) of an arm, nearest first, without those left out."""
        mover = self._path.mover(memory)
        return {
            name: (self._arena(name, mover).space, self._slots(tier))
            for name, tier in memory.nearest_first
            if name not in self._left_out
        }

    def attendable(self, memory: settings.MemorySettings) -> dict[int, native_attention.Arena]:
        """By space, the arenas of an arm in which native attention can read pages."""
        mover, found = self._path.mover(memory), {}
        for name in self.tiers(memory):
            arena = self._arena(name, mover)
            assert isinstance(arena, native_arenas.NativeArena), "made so where an arm attends"
            found[arena.space] = native_attention.Arena.of(
                self._path.native_library, arena.handle, arena.slots
            )
        return found

    def warm_up(self) -> None:
        """Compiles what the movers of all arms run."""
        for name, memory in self._by_mover.items():
            stores = self._stores(self._tiers_by_mover[name], name)
            mover = self._plain_mover(memory, stores)
            if isinstance(mover, xla.XlaMover | ffi.FfiMover):
                mover.warm_up()
            checking = verified.VerifiedMover(mover, self._clock, stores)
            if self._verifies:
                checking.warm_up()
            checking.close()

    def check_links(self, memory: settings.MemorySettings) -> link_checks.Report:
        """Probes every link of every mover, with nothing in flight; bad ones leave their tier out.

        Empty when `memory.probe` is off. Overwrites pool and arenas.
        """
        checked = link_checks.Report([], "")
        if memory.probe != "off":
            parts = [self._check_links(name, memory) for name in self._by_mover]
            notes = dict.fromkeys(part.note for part in parts if part.note)
            checked = link_checks.Report(
                [link for part in parts for link in part.links], "; ".join(notes)
            )
        self._left_out = frozenset(checked.refused_tiers)
        return checked

    def mover(self, arm: settings.Experiment) -> ArmMover:
        """A mover over the arm's tiers, decorated as its settings say."""
        tiers = self.tiers(arm.memory)
        stores = self._stores(tiers, self._path.mover(arm.memory))
        mover: base.PageMover = self._plain_mover(arm.memory, stores)
        rates = arm.memory.faults
        if rates.fail or rates.delay or rates.reorder or rates.corrupt:
            mover = faults.FaultyMover(
                mover,
                self._clock,
                _faults(rates),
                corrupt=faults.byte_flipper(stores) if rates.corrupt else None,
            )
        if arm.memory.verify:
            mover = verified.VerifiedMover(mover, self._clock, stores)
        linked = self._links(arm, tiers)
        if not linked:
            return ArmMover(mover, None)
        names = {self._pool.space: _DEVICE} | {space: name for name, (space, _) in tiers.items()}
        wrapped = links.LinkedMover(
            mover, self._clock, links=linked, tiers=names, dilation=arm.emulate.dilation
        )
        return ArmMover(wrapped, wrapped)

    def close(self) -> None:
        """Gives the arenas' memory back."""
        for arena in self._arenas.values():
            arena.close()

    # -- arenas ------------------------------------------------------------------------------

    def _add(self, memory: settings.MemorySettings) -> None:
        """The mover of an arm and the arenas that it still lacks."""
        mover = self._path.mover(memory)
        self._by_mover.setdefault(mover, memory)
        names = self._tiers_by_mover.setdefault(mover, [])
        for name, _ in memory.nearest_first:
            key = self._key(name, mover)
            if key not in self._arenas:
                self._arenas[key] = self._make_arena(key)
            if name not in names:
                names.append(name)

    def _arena(self, tier: str, mover: str) -> page_store.PageStore:
        return self._arenas[self._key(tier, mover)]

    def _key(self, tier: str, mover: str) -> _Key:
        # An array is registered anew when it was rebuilt: page tables could not name it for long.
        in_array = self._tiers[tier].kind == "peer" and self._peers_match and not self._attends
        return _Key(tier, native=mover == "ffi" and not in_array)

    def _make_arena(self, key: _Key) -> page_store.PageStore:
        pool, tier = self._pool, self._tiers[key.tier]
        space = pool.space + 1 + len(self._arenas)
        slots, page_shape, dtype = self._slots(tier), pool.page_shape, pool.dtype
        if key.native:
            return native_arenas.NativeArena(
                space,
                slots,
                page_shape,
                dtype,
                pool_sharding=pool.sharding,
                library=self._path.native_library,
                kind="host" if tier.kind == "host" else "device",
                device=_ordinal(self._peers),
            )
        if tier.kind == "host":
            return arenas.HostArena(space, slots, page_shape, dtype, sharding=pool.sharding)
        sharding: Sharding = SingleDeviceSharding(self._peers[0])
        if self._peers_match and len(self._peers) > 1:
            sharding = NamedSharding(text.tensor_mesh(self._peers), programs.POOL_SPEC)
        return arenas.DeviceArena(space, slots, page_shape, dtype, sharding=sharding)

    def _slots(self, tier: settings.TierSettings) -> int:
        slots = tier.bytes // self._pool.page_bytes
        if not slots:
            raise errors.ConfigError(
                f"a {tier.kind} tier of {tier.bytes} bytes holds no page of"
                f" {self._pool.page_bytes} bytes: make it larger"
            )
        return slots

    # -- movers ------------------------------------------------------------------------------

    def _stores(self, tiers: Iterable[str], mover: str) -> dict[int, Any]:
        """The pool and the arenas of these tiers, by space."""
        stores = (self._pool, *(self._arena(name, mover) for name in tiers))
        return {store.space: store for store in stores}

    def _plain_mover(
        self, memory: settings.MemorySettings, stores: Mapping[int, Any]
    ) -> reference.ReferenceMover | xla.XlaMover | ffi.FfiMover:
        name = self._path.mover(memory)
        if name == "reference":
            return reference.ReferenceMover(stores, self._clock)
        if name == "xla":
            return xla.XlaMover(stores, self._clock)
        return ffi.FfiMover(
            stores,
            self._clock,
            library=self._path.native_library,
            threads=memory.transfer_threads,
            cores=memory.cores,
        )

    def _links(
        self, arm: settings.Experiment, tiers: Mapping[str, tuple[int, int]]
    ) -> dict[tuple[int, int], links.Link]:
        """Emulated links by (source, target) space; a page's bytes count as what they stand for."""
        pairs: dict[tuple[int, int], links.Link] = {}
        scale = 1.0
        if arm.emulate.page_bytes:
            scale = self._pool.page_bytes / arm.emulate.page_bytes
        for name, (space, _) in tiers.items():
            wanted = arm.memory.tiers[name].link
            if not wanted:
                continue
            link = arm.emulate.links[wanted]
            timed = links.Link(link.latency_seconds, link.bytes_per_second * scale)
            pairs[self._pool.space, space] = pairs[space, self._pool.space] = timed
        return pairs

    def _check_links(self, name: str, shared: settings.MemorySettings) -> link_checks.Report:
        """Those of one mover."""
        tiers = self._tiers_by_mover[name]
        stores = self._stores(tiers, name)
        directions = [
            link_checks.Direction(*ends, tier=tier, source=source, target=target)
            for tier in tiers
            for ends, (source, target) in self._ways(tier, name).items()
        ]
        mover = self._plain_mover(self._by_mover[name], stores)
        try:
            return link_checks.check(
                probe.Probe(mover, stores, self._clock),
                directions,
                shared,
                mover=name,
                cache=link_cache.LinkCache(self._cache_key(name, stores)),
            )
        finally:
            mover.close()

    def _ways(self, tier: str, mover: str) -> dict[tuple[str, str], tuple[int, int]]:
        """Both directions of a tier's link: names and spaces of their ends."""
        pool, arena = self._pool.space, self._arena(tier, mover).space
        return {(_DEVICE, tier): (pool, arena), (tier, _DEVICE): (arena, pool)}

    def _cache_key(self, name: str, stores: Mapping[int, page_store.PageStore]) -> dict[str, Any]:
        """All that the speed of a link may depend on."""
        memory = self._by_mover[name]
        # A set of devices has another order in every process.
        own = sorted(self._pool.sharding.device_set, key=lambda device: device.id)
        devices = [*own, *self._peers]
        return {
            "host": platform.node(),
            "hardware": environment.hardware([f"{d}: {d.device_kind}" for d in devices]),
            "versions": environment.versions(),
            "mover": name,
            "transfer": [memory.transfer_threads, list(memory.cores)] if name == "ffi" else [],
            "library": self._path.library_digest if name == "ffi" else "",
            "stores": [
                [s.space, type(s).__name__, str(s.sharding), len(s.indices), s.page_bytes]
                for s in stores.values()
            ],
        }


def _ordinal(peers: Sequence[Any]) -> int:
    """The CUDA ordinal of the first peer; any number where there is none, on CPU."""
    return (peers[0].local_hardware_id or 0) if peers else 0


def _faults(rates: settings.MoverFaults) -> faults.Faults:
    kinds = {
        faults.Fault.FAIL: rates.fail,
        faults.Fault.DELAY: rates.delay,
        faults.Fault.REORDER: rates.reorder,
        faults.Fault.CORRUPT: rates.corrupt,
    }
    return faults.Faults(
        seed=rates.seed,
        rates={kind: rate for kind, rate in kinds.items() if rate},
        delay_seconds=rates.delay_seconds,
    )


def _largest_tiers(arms: Sequence[settings.Experiment]) -> dict[str, settings.TierSettings]:
    """Every tier that some arm has, at the largest size asked for."""
    largest: dict[str, settings.TierSettings] = {}
    for arm in arms:
        for name, tier in arm.memory.tiers.items():
            known = largest.get(name)
            if known is not None and known.kind != tier.kind:
                raise errors.ConfigError(
                    f"tier {name!r} is {known.kind} in one arm, {tier.kind} in another"
                )
            if known is None or tier.bytes > known.bytes:
                largest[name] = tier
    return largest
