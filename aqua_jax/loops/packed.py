"""Weights of linear layers in panels, and their product by the native library on CPU.

Knows: the layout of panels, the FFI target and its operands. Does not know: how it is computed
(`xla_ext/linear`), models, meshes.

A panel is so many columns of the weights, contiguous, so that a core streams it: `[panels, steps,
width]`, a step being an input (float32) or a pair of them side by side (bfloat16). An element of
the product is one chain of multiply-adds over the inputs in order, so a row's bits do not depend
on how many rows there are.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from aqua_jax.control import errors
from aqua_jax.memory import native

COLUMNS = 32  # of a panel
DTYPES = ("float32", "bfloat16")
_INNER_AXES = 3  # panels, steps, width


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
    """Weights `[..., in, out]`, or one matrix of them.

    Indexing takes matrices out of the leading axes without copying them; `[...]` is the whole, so
    that a flax variable may hold one.
    """

    panels: jax.Array  # [..., panels, steps, width]
    index: jax.Array | None  # int32, along the leading axes that are chosen; None: none is
    rows: int = dataclasses.field(metadata={"static": True})  # in
    columns: int = dataclasses.field(metadata={"static": True})  # out
    chosen: int = dataclasses.field(default=0, metadata={"static": True})  # leading axes

    def __getitem__(self, key: Any) -> Packed:
        if key is Ellipsis:
            return self
        index, chosen = self.index, self.chosen
        for one in key if isinstance(key, tuple) else (key,):
            before = 0 if index is None else index * self.panels.shape[chosen]
            index, chosen = jnp.asarray(before + one, jnp.int32), chosen + 1
        return dataclasses.replace(self, index=index, chosen=chosen)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weights that are not chosen among: `[in, out]` of one matrix."""
        return (*self.panels.shape[self.chosen : -_INNER_AXES], self.rows, self.columns)

    @property
    def dtype(self) -> Any:
        return self.panels.dtype


def check_platform(platform: str) -> None:
    """Raises ConfigError unless packed weights can be applied on devices of jax's `platform`.

    Raises NativeError when the library is missing or unfit; both say what to do.
    """
    if platform != "cpu":
        raise errors.ConfigError(
            f"there are no native linear layers for {platform!r} devices, only for cpu: use "
            "linear='xla'"
        )
    native.load()


def pack(weights: jax.Array) -> Packed:
    """`[..., in, out]` weights of float32 or bfloat16, zeros beside what fills no panel."""
    rows, columns = weights.shape[-2:]
    pair = _pair(weights.dtype)
    lead = weights.shape[:-2]
    panels, steps = -(-columns // COLUMNS), -(-rows // pair)
    room = [(0, 0)] * len(lead) + [(0, steps * pair - rows), (0, panels * COLUMNS - columns)]
    cut = jnp.pad(weights, room).reshape(*lead, steps, pair, panels, COLUMNS)
    axes = (*range(len(lead)), *(len(lead) + axis for axis in (2, 0, 3, 1)))
    made = cut.transpose(axes).reshape(*lead, panels, steps, COLUMNS * pair)
    return Packed(made, None, rows, columns)


def pack_transposed(table: jax.Array) -> Packed:
    """A table `[out, in]` as the weights `[in, out]`."""
    return pack(jnp.swapaxes(table, -1, -2))


def column(weights: Packed, ids: jax.Array) -> jax.Array:
    """Columns `[ids]` of a matrix, as rows: `[ids, in]`. For tables that are applied too."""
    assert weights.panels.ndim == _INNER_AXES, "of a single matrix"
    pair = _pair(weights.dtype)
    panels, steps, _ = weights.panels.shape
    cut = weights.panels.reshape(panels, steps, COLUMNS, pair)
    found = cut[ids // COLUMNS, :, ids % COLUMNS]
    return found.reshape(ids.shape[0], steps * pair)[:, : weights.rows]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What is computed in the same call, before the product and after it.

    norm: `[in]` factors of an RMSNorm of the rows, with `epsilon`; from_one: they are what the
    factor has above 1. factors: weights like the first; the result is `activation` of the one
    product times the other. bias: `[out]`. added: `[rows, out]`.
    """

    norm: jax.Array | None = None
    epsilon: float = 0.0
    from_one: bool = False
    factors: Packed | None = None
    activation: str = ""
    bias: jax.Array | None = None
    added: jax.Array | None = None


def multiply(
    x: jax.Array,
    weights: Packed,
    live: jax.Array,
    *,
    dtype: DTypeLike,
    around: Around | None = None,
    lanes: int = 0,
) -> jax.Array:
    """`[rows, in]` by one matrix: `[rows, out]` as `dtype`, float32 or that of x.

    live: int32; rows from there on come out as zeros. lanes: floats in a vector, 4, 8 or 16, for
    tests; 0: the machine's most. Shapes that do not fit are refused by the handler.
    """
    around = around or Around()
    factors = around.factors
    optional = {
        "factors": None if factors is None else factors.panels,
        "norm": around.norm,
        "bias": around.bias,
        "added": around.added,
    }
    given = {name: operand for name, operand in optional.items() if operand is not None}
    call = jax.ffi.ffi_call(
        "aqua_linear", jax.ShapeDtypeStruct((x.shape[0], weights.columns), dtype)
    )
    index = jnp.int32(0) if weights.index is None else weights.index
    return call(
        x,
        jnp.asarray(live, jnp.int32),
        index,
        weights.panels,
        *given.values(),
        parts=",".join(given),
        activation=around.activation,
        epsilon=np.float32(around.epsilon),
        from_one=np.int64(around.from_one),
        lanes=np.int64(lanes),
    )


def _pair(dtype: DTypeLike) -> int:
    return 1 if jnp.dtype(dtype).itemsize == 4 else 2
