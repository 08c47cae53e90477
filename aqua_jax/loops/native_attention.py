"""Attention by the native library: one call a layer writes keys and values and attends, in place.

Knows: the FFI targets' names and operands, what they can compute. Does not
know: how they do it (`xla_ext/attention`), sessions.

Beyond what `attention.GatherAttention` can, a page table may name pages of
arenas that are registered with the same library: they are attended where they
are. Nothing writes there.

XLA cannot undo a call that fails: the pool, which was donated, is lost with it. So
all that can be seen on the host is checked here and in `slices.check_batch`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.control import errors
from aqua_jax.loops import attention, forward
from aqua_jax.memory import native

HEAD_DIM_UNIT, HEAD_DIM_MAX = 8, 256
GROUP_MAX = 64
DTYPES = ("float32", "bfloat16")

_ENTRY_PAGE_BITS = 24
_STORE_SLOTS = 128
# jax's name of a device's platform -> the native library's
_PLATFORMS = {"cpu": "cpu", "gpu": "CUDA", "cuda": "CUDA"}


class Arena(NamedTuple):
    """Pages 0 to `pages` - 1 of a store of the native library, by its slot there.

    store: its handle. The slot goes to another store once it has retired, the handle never does.
    """

    store_slot: int
    pages: int
    store: int

    @classmethod
    def of(cls, library: native.Library, store: int, pages: int) -> Arena:
        """The arena of a live store. Raises NativeError for one that is not."""
        return cls(library.store_slot(store), pages, store)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NativeAttention:
    """An `attention.Attention`; made by `load`, which checks.

    window_most: of any layer, 0: one of them attends to all; a layer's own comes with it.
    scale, softcap: of scores, as of `attention.GatherAttention`.
    lanes: floats in a vector on CPU, 4, 8 or 16, for tests; 0: the machine's most.
    """

    window_most: int = 0
    scale: float = 0.0
    softcap: float = 0.0
    lanes: int = 0

    def prefill(
        self,
        pool: jax.Array,
        layer: attention.Layer,
        rows: attention.Rows,
        queries: jax.Array,
        keys: jax.Array,
        values: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        return self._call("aqua_attend_prefill", pool, layer, rows, (queries, keys, values))

    def decode(
        self,
        pool: jax.Array,
        layer: attention.Layer,
        rows: attention.Rows,
        queries: jax.Array,
        keys: jax.Array,
        values: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        return self._call("aqua_attend_decode", pool, layer, rows, (queries, keys, values))

    def _call(
        self,
        target: str,
        pool: jax.Array,
        layer: attention.Layer,
        rows: attention.Rows,
        vectors: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array]:
        queries = vectors[0]
        call = jax.ffi.ffi_call(
            target,
            (
                jax.ShapeDtypeStruct(pool.shape, pool.dtype),
                jax.ShapeDtypeStruct(queries.shape, queries.dtype),
            ),
            input_output_aliases={0: 0},
        )
        attributes = {
            "window_most": np.int64(self.window_most),
            "scale": np.float32(self.scale or queries.shape[-1] ** -0.5),
            "softcap": np.float32(self.softcap),
        }
        if self.lanes:
            attributes["lanes"] = np.int64(self.lanes)
        window = jnp.int32(0) if layer.window is None else layer.window
        which = jnp.stack([layer.number, window]).astype(jnp.int32)
        pool, attended = call(pool, which, rows.tables, rows.positions, *vectors, **attributes)
        return pool, attended


def load(facts: forward.ModelFacts, *, platform: str) -> NativeAttention:
    """Native attention for a model on devices of `platform` ("cpu", "gpu").

    Raises ConfigError for a model that it cannot compute, NativeError when the
    library is missing or unfit; both say what to do.
    """
    check(facts)
    if platform not in _PLATFORMS:
        raise errors.ConfigError(
            f"there is no native attention for {platform!r} devices, only for "
            f"{', '.join(sorted(_PLATFORMS))}: use attention='xla'"
        )
    native.load(_PLATFORMS[platform])
    return NativeAttention(
        window_most=facts.window, scale=facts.score_scale, softcap=facts.score_softcap
    )


def check(facts: forward.ModelFacts) -> None:
    """Raises ConfigError when the library's kernels cannot compute the model's attention."""
    dtype = jnp.dtype(facts.dtype).name
    for what, given, fits, expected in (
        ("dtype", dtype, dtype in DTYPES, " or ".join(DTYPES)),
        (
            "head_dim",
            facts.head_dim,
            facts.head_dim % HEAD_DIM_UNIT == 0 and 0 < facts.head_dim <= HEAD_DIM_MAX,
            f"a multiple of {HEAD_DIM_UNIT} up to {HEAD_DIM_MAX}",
        ),
        ("group", facts.group, facts.group <= GROUP_MAX, f"at most {GROUP_MAX}"),
    ):
        if not fits:
            raise errors.ConfigError(
                f"native attention cannot compute model {facts.name!r}, whose {what} is {given}: "
                f"expected {expected}; use attention='xla'"
            )


def check_registered(
    arenas: Iterable[Arena], pool_addresses: Sequence[int], *, platform: str
) -> None:
    """Raises InternalError unless all of them and the pool are live stores of the library.

    A page table names arenas by their slots, and the kernels find the parts of an arena by the
    pool's: they cannot tell an arena that has retired from the one that got its slot.
    """
    library = native.load(_PLATFORMS[platform])
    try:
        for address in pool_addresses:
            library.store_at(address)
        gone = [arena for arena in arenas if library.store_slot(arena.store) != arena.store_slot]
    except errors.NativeError as error:
        raise errors.InternalError(
            "pages cannot be attended in place: the pool or an arena given to `attend_in` is not "
            f"registered (any more): {error}"
        ) from error
    if gone:
        raise errors.InternalError(
            f"pages cannot be attended in place: {gone} are in other store slots than that: give "
            "`attend_in` what `Arena.of` makes"
        )


def arena_entry(arena: Arena, page: int) -> int:
    """The page table's entry, below 0, that stands for a page of an arena.

    >>> arena_entry(Arena(store_slot=2, pages=8, store=1), 5)
    -33554438
    """
    if not 0 <= arena.store_slot < _STORE_SLOTS or not 0 <= page < arena.pages:
        raise errors.InternalError(
            f"page {page} of {arena}: expected 0 to {arena.pages - 1} of a store in a slot below "
            f"{_STORE_SLOTS}"
        )
    return ~(arena.store_slot << _ENTRY_PAGE_BITS | page)
