"""Models as data: what their weights and their paged state weigh, and whether they fit.

Knows: `shapes.json` beside this file, each figure with its source; bytes.
Does not know: time, save as seconds that the data state for a named device.
The figures of image and audio models are assumptions, and their sources say so.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
from typing import Any, TypeVar

from aqua_jax.control import errors, types
from aqua_jax.simulation import hardware as hardwares
from aqua_jax.simulation import strict_json

Shape = TypeVar("Shape", "TextShape", "ItemShape")

MEMORY_FRACTION = 0.9  # of a device's memory for weights and KV; the rest is for activations
_CATALOGUE = "shapes.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextShape:
    """A decoder. shards: devices it usually runs on, each with a part of every layer."""

    name: str
    parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    dtype_bytes: int
    shards: int
    source: str

    def __post_init__(self) -> None:
        strict_json.above(self, "parameters", "layers", "hidden", "heads", "kv_heads", "head_dim")
        strict_json.above(self, "dtype_bytes", "shards")
        if self.heads % self.kv_heads:
            raise errors.ConfigError(
                f"kv_heads is {self.kv_heads}; expected a divisor of heads, {self.heads}"
            )

    @property
    def weight_bytes(self) -> int:
        """Of all shards together."""
        return self.parameters * self.dtype_bytes

    @property
    def kv_token_bytes(self) -> int:
        """K and V of one token over all layers and shards."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype_bytes

    def page_bytes(self, page_tokens: int) -> int:
        """A page of that many tokens, over all layers and shards."""
        return page_tokens * self.kv_token_bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ItemShape:
    """A model that makes images or clips in batches, each in `steps` steps.

    batch: its usual size. At batch size b it holds base_bytes + b * item_bytes (weights and
    runtime; activations), and a batch takes latency_ns + b * item_ns on the device `measured_on`.
    """

    name: str
    kind: str
    steps: int
    batch: int
    base_bytes: int
    item_bytes: int
    latency_ns: int
    item_ns: int
    measured_on: str
    source: str

    def __post_init__(self) -> None:
        strict_json.above(self, "steps", "batch", "base_bytes", "item_bytes", "item_ns")
        strict_json.above(self, "latency_ns", open_end=False)

    def memory_bytes(self, batch: int) -> int:
        """What it holds while it makes a batch of that size."""
        return self.base_bytes + batch * self.item_bytes


def text(name: str) -> TextShape:
    """The language model of that name; ConfigError with a close match for an unknown one."""
    return _named(name, _catalogue()[0], "text model")


def items(name: str) -> ItemShape:
    """The image or audio model of that name; likewise."""
    return _named(name, _catalogue()[1], "image or audio model")


def text_names() -> list[str]:
    """The language models of the catalogue."""
    return list(_catalogue()[0])


def item_names() -> list[str]:
    """The image and audio models of the catalogue."""
    return list(_catalogue()[1])


def kv_bytes(
    hardware: hardwares.Hardware,
    shape: TextShape,
    shards: int,
    memory_fraction: float = MEMORY_FRACTION,
) -> int:
    """Bytes left for KV on `shards` devices together, beside the weights.

    Raises ConfigError when the weights do not fit, or leave no room for a token, by how much.
    """
    if shards < 1 or shape.heads % shards:
        raise errors.ConfigError(
            f"{shape.name} on {shards} devices; expected a divisor of its {shape.heads} heads"
        )
    if not 0 < memory_fraction <= 1:
        raise errors.ConfigError(f"memory_fraction is {memory_fraction}; expected above 0, up to 1")
    left = _left(hardware, shape, shards, memory_fraction)
    if left >= shape.kv_token_bytes:
        return left
    devices = "1 device" if shards == 1 else f"{shards} devices"
    raise errors.ConfigError(
        f"{shape.name} needs {_gib(shape.weight_bytes)} GiB of weights, {devices} of"
        f" {hardware.name} give {_gib(shards * hardware.memory_bytes)} x {memory_fraction:g} GiB:"
        f" short by {_gib(shape.kv_token_bytes - left, up=True)} GiB;"
        f" {_advice(hardware, shape, memory_fraction)}"
    )


def spare_bytes(hardware: hardwares.Hardware, shape: ItemShape, batch: int) -> int:
    """Bytes that the model leaves free on a device at that batch size.

    Raises ConfigError when it does not fit, by how much.
    """
    if batch < 1:
        raise errors.ConfigError(f"batch is {batch}; expected at least 1")
    spare = hardware.memory_bytes - shape.memory_bytes(batch)
    if spare >= 0:
        return spare
    fits = (hardware.memory_bytes - shape.base_bytes) // shape.item_bytes
    advice = f"use a batch of {fits} at most" if fits > 0 else "no batch fits: use another device"
    raise errors.ConfigError(
        f"{shape.name} at batch {batch} needs {_gib(shape.memory_bytes(batch))} GiB,"
        f" {hardware.name} gives {_gib(hardware.memory_bytes)}:"
        f" short by {_gib(-spare, up=True)} GiB; {advice}"
    )


def _named(name: str, known: dict[str, Shape], what: str) -> Shape:
    if name not in known:
        raise errors.ConfigError(f"unknown {what} {name!r}{errors.close_match(name, known)}")
    return known[name]


@functools.cache
def _catalogue() -> tuple[dict[str, TextShape], dict[str, ItemShape]]:
    file = importlib.resources.files("aqua_jax.simulation").joinpath(_CATALOGUE)
    value: Any = strict_json.parse(file.read_text("utf-8"), where=_CATALOGUE)
    texts = [strict_json.build(TextShape, entry, where=_CATALOGUE) for entry in value["text"]]
    others = [strict_json.build(ItemShape, entry, where=_CATALOGUE) for entry in value["items"]]
    return {shape.name: shape for shape in texts}, {shape.name: shape for shape in others}


def _left(
    hardware: hardwares.Hardware, shape: TextShape, shards: int, memory_fraction: float
) -> int:
    return int(shards * hardware.memory_bytes * memory_fraction) - shape.weight_bytes


def _advice(hardware: hardwares.Hardware, shape: TextShape, memory_fraction: float) -> str:
    for shards in range(1, shape.heads + 1):
        enough = _left(hardware, shape, shards, memory_fraction) >= shape.kv_token_bytes
        if enough and shape.heads % shards == 0:
            return f"use {shards} devices"
    return "no number of these devices holds it"


def _gib(nbytes: int, *, up: bool = False) -> str:
    """With one decimal; `up`: rounded up, so that what is short is never 0.0."""
    tenths = -(-nbytes * 10 // types.GIB) if up else round(nbytes * 10 / types.GIB)
    return f"{tenths / 10:.1f}"
