"""How leaves of our parameter trees are made of the tensors of a Hugging Face checkpoint.

Knows: names and shapes on both sides, numpy arrays of one layer. Does not know: files, devices.

Example: `blocks.qkv` of a Llama is, for each layer, three tensors joined by `join` into one
`[hidden, kv_heads * (group + 2) * head_dim]`:

    Leaf(
        names=("model.layers.{layer}.self_attn.q_proj.weight", ... k_proj ..., ... v_proj ...),
        shapes=((heads * head_dim, hidden), (kv_heads * head_dim, hidden), ...),
        join=...,
    )
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One of our leaves, or one layer's part of it.

    names: of the tensors, with `{layer}` where our leaf is stacked over layers. shapes: theirs, in
    the checkpoint. join: their values, in order, any dtype -> our leaf's (one layer's) value, of
    the same dtype; it may return a view. split: the inverse, for saving.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    join: Callable[[Sequence[np.ndarray]], np.ndarray]
    split: Callable[[np.ndarray], list[np.ndarray]]

    @property
    def is_stacked(self) -> bool:
        """True where our leaf has an axis of layers in front."""
        return "{layer}" in self.names[0]


# By the path of our leaf, keys joined by dots: "blocks.qkv".
Leaves = Mapping[str, Leaf]


def same(name: str, shape: tuple[int, ...]) -> Leaf:
    """A tensor that is our leaf as it stands."""
    return Leaf(names=(name,), shapes=(shape,), join=lambda got: got[0], split=lambda ours: [ours])


def transposed(name: str, shape: tuple[int, int]) -> Leaf:
    """A linear layer's weights: theirs are `[out, in]`, the `shape` given, ours `[in, out]`."""
    return Leaf(
        names=(name,),
        shapes=(shape,),
        join=lambda got: got[0].T,
        split=lambda ours: [ours.T],
    )


def experts(name: str, shape: tuple[int, int], count: int) -> Leaf:
    """Linear layers of so many experts, `{expert}` in `name`: ours are `[experts, in, out]`."""
    return Leaf(
        names=tuple(name.replace("{expert}", str(index)) for index in range(count)),
        shapes=(shape,) * count,
        join=lambda got: np.stack([one.T for one in got]),
        split=lambda ours: [one.T for one in ours],
    )


def qkv(
    name: str, *, heads: int, kv_heads: int, head_dim: int, hidden: int, bias: bool = False
) -> Leaf:
    """Queries, keys and values, `{one}` in `name`, joined to `[hidden, all]`; biases to `[all]`.

    For each KV head its queries, its key and its value stand together, so that shards by KV heads
    keep together what attends together.
    """
    rows = (heads * head_dim, kv_heads * head_dim, kv_heads * head_dim)
    ends = (slice(0, -2), slice(-2, -1), slice(-1, None))
    rest = () if bias else (hidden,)

    def join(got: Sequence[np.ndarray]) -> np.ndarray:
        parts = [part.reshape(kv_heads, -1, head_dim, *rest) for part in got]
        return np.concatenate(parts, axis=1).reshape(-1, *rest).T

    def split(ours: np.ndarray) -> list[np.ndarray]:
        parts = ours.T.reshape(kv_heads, -1, head_dim, *rest)
        return [parts[:, end].reshape(-1, *rest) for end in ends]

    return Leaf(
        names=tuple(name.replace("{one}", one) for one in "qkv"),
        shapes=tuple((count, *rest) for count in rows),
        join=join,
        split=split,
    )
