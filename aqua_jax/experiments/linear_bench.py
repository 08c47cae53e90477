"""Linear layers: the native library against XLA's product, memory's rate and the products' rate.

Knows: both products, layers of a model's shape. Does not know: models, requests, reports.

Everything in a row is measured in turn, again and again, and medians are reported. The layers are
more than the caches hold, so that each call finds its weights in memory, as a decode step does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aqua_jax.control import errors, types
from aqua_jax.experiments import ceilings, checks, turns
from aqua_jax.loops import linear, packed
from aqua_jax.memory import huge_pages, native


class _Size(NamedTuple):
    rows: int
    columns: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LinearBenchmark:
    """The settings.

    sizes: of weights, INxOUT, comma-separated. rows: of x, comma-separated. dtypes: likewise.
    working_set_bytes: weights that are read before any is read again: several times the caches.
    """

    sizes: str = "768x1280,768x2048,2048x768,1280x1792,1280x3456,3456x1280"
    rows_of_x: str = "1,16,128"
    dtypes: str = "float32,bfloat16"
    working_set_bytes: int = 128 * types.MIB
    repeats: int = 5

    def __post_init__(self) -> None:
        checks.at_least("config", self, 1, "working_set_bytes", "repeats")
        for dtype in checks.names(self.dtypes):
            checks.one_of("dtypes", dtype, packed.DTYPES)
        _sizes(self.sizes)
        if not all(one.isdecimal() and int(one) for one in checks.names(self.rows_of_x)):
            raise errors.ConfigError(
                f"rows_of_x is {self.rows_of_x!r}; give whole numbers, comma-separated, e.g. 1,16"
            )

    @property
    def title(self) -> str:
        """What the rows are."""
        return "Rows by weights INxOUT, weights in memory"

    @property
    def devices(self) -> list[str]:
        """The first, which computes."""
        return [str(jax.devices()[0])]

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(product, its figures as `metrics.BENCHMARK` names them), each as it is measured."""
        native.load()
        for dtype in checks.names(self.dtypes):
            products = ceilings.product_rate(dtype, repeats=self.repeats)
            for size in _sizes(self.sizes):
                with ceilings.MemoryReader(self.working_set_bytes) as reader:
                    for count in map(int, checks.names(self.rows_of_x)):
                        name = f"{count} x {size.rows}x{size.columns} {dtype}"
                        yield name, self._measure(size, count, dtype, reader, products)

    def _measure(
        self, size: _Size, count: int, dtype: str, reader: ceilings.MemoryReader, products: float
    ) -> dict[str, Any]:
        nbytes = size.rows * size.columns * jnp.dtype(dtype).itemsize
        layers = -(-self.working_set_bytes // nbytes)
        random = np.random.default_rng(0)
        weights = jnp.asarray(
            random.standard_normal((layers, size.rows, size.columns), np.float32), dtype
        )
        x = jnp.asarray(random.standard_normal((count, size.rows), np.float32), dtype)
        packs = jax.jit(packed.pack)(weights)
        huge_pages.advise([packs.panels])
        plain, own = _program(layers), _program(layers)
        calls = [
            lambda: jax.block_until_ready(plain(x, weights)),
            lambda: jax.block_until_ready(own(x, packs)),
            reader.read,
        ]
        xla, native_seconds, read = turns.medians(calls, self.repeats)
        flops = 2 * count * size.rows * size.columns * layers / native_seconds
        read_rate = reader.nbytes / read
        return {
            "xla_seconds": xla / layers,
            "native_seconds": native_seconds / layers,
            "native_speedup": xla / native_seconds,
            "native_bytes_per_second": layers * nbytes / native_seconds,
            "read_bytes_per_second": read_rate,
            "read_share": layers * nbytes / native_seconds / read_rate,
            "native_products_per_second": flops,
            "products_per_second": products,
        }


def _sizes(text: str) -> list[_Size]:
    """Of INxOUT, comma-separated. Raises ConfigError."""
    sizes = []
    for one in checks.names(text):
        rows, _, columns = one.partition("x")
        if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
            raise errors.ConfigError(f"sizes names {one!r}; give INxOUT, e.g. 768x2048")
        sizes.append(_Size(int(rows), int(columns)))
    return sizes


def _program(layers: int) -> Callable[..., jax.Array]:
    """(x, weights of all layers) -> the sum of all products, so that none is left out."""

    def run(x: jax.Array, weights: Any) -> jax.Array:
        def visit(layer: jax.Array, total: jax.Array) -> jax.Array:
            return total + linear.apply(x, weights[layer], jnp.int32(x.shape[0]))[0, 0]

        return lax.fori_loop(0, layers, visit, jnp.zeros((), x.dtype))

    return jax.jit(run)
