"""Arenas: memory away from the runner that holds pages in a fixed number of slots.

Knows: peer devices and pinned host memory. Does not know: who lends it and
under which lease, which slot is in use (`control/`).

Both kinds are one array of slots, allocated once and updated in place. For
pinned host memory the other way, one pinned array per slot moved by
`jax.device_put` of a list, was measured and left: 19 to 44 us a page of 64 KiB
in batches of 16 and 64, against 3 to 9 us in place (2-core CPU, jax 0.10.2),
and it allocates at every page-out.
"""

from __future__ import annotations

import jax

from aqua_jax.control import errors
from aqua_jax.memory import page_array, programs


class DeviceArena(page_array.PageArray):
    """Slots `[slots + 1, *page_shape]` in the memory of a peer device or peer mesh.

    The last row is scratch. Slots are numbered 0 to slots - 1.
    """

    def __init__(
        self,
        space: int,
        slots: int,
        page_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        sharding: jax.sharding.Sharding,
    ) -> None:
        if programs.in_host_memory(sharding):
            raise errors.ConfigError(
                f"device arena {space} got memory kind {sharding.memory_kind!r}: use HostArena"
            )
        super().__init__(
            f"device arena {space}",
            space,
            indices=range(slots),
            scratch=slots,
            page_shape=page_shape,
            dtype=dtype,
            sharding=sharding,
        )

    @property
    def slots(self) -> int:
        """Slots that can hold a page."""
        return self.indices.stop


class HostArena(page_array.PageArray):
    """Slots `[slots + 1, *page_shape]` in the pinned host memory of a device or mesh.

    sharding: any memory kind; the arena takes `pinned_host` of the same devices.
    """

    def __init__(
        self,
        space: int,
        slots: int,
        page_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        sharding: jax.sharding.Sharding,
    ) -> None:
        super().__init__(
            f"host arena {space}",
            space,
            indices=range(slots),
            scratch=slots,
            page_shape=page_shape,
            dtype=dtype,
            sharding=sharding.with_memory_kind("pinned_host"),
        )

    @property
    def slots(self) -> int:
        """Slots that can hold a page."""
        return self.indices.stop
