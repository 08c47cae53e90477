"""The pool: the pages of one runner on its own devices, in one donated array.

Knows: page 0 is scratch. Does not know: which page belongs to whom
(`control/pages.py`), what a page holds (the runner).
"""

from __future__ import annotations

import jax

from aqua_jax.control import errors
from aqua_jax.memory import page_array, programs


class PagedPool(page_array.PageArray):
    """Device pages `[pages, *page_shape]`; page 0 is scratch, where masked writes go.

    Text: page_shape = `[layers, 2, page_tokens, kv_heads, head_dim]`, sharded
    by kv_heads when the model is. Programs update it through `run`, which
    donates the array to them; nothing else sees it. Reading from outside a
    program is `snapshot`, a copy.

    Used by one thread, the engine's. Outlives every ticket on it.
    """

    def __init__(
        self,
        space: int,
        pages: int,
        page_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        *,
        sharding: jax.sharding.Sharding,
    ) -> None:
        if programs.in_host_memory(sharding):
            raise errors.ConfigError(
                f"pool {space} got memory kind {sharding.memory_kind!r}: runners compute on pools, "
                "so it must be 'device'; use arenas.HostArena for host memory"
            )
        super().__init__(
            f"pool {space}",
            space,
            indices=range(1, pages),
            scratch=0,
            page_shape=page_shape,
            dtype=dtype,
            sharding=sharding,
        )

    @property
    def pages(self) -> int:
        """Pages of the array, scratch included."""
        return self.indices.stop
