"""Attention by XLA against native attention, and against the speed at which memory can be read.

Knows: both implementations, one layer's call of each, a text runner's decode step. Does not
know: requests, sessions' lives, reports.

Everything in a row is measured in turn, again and again, and medians are reported:
neighbours and clocks then touch all alike. Decode rows read more than the caches hold
(`working_set_bytes`), spread over as many layers as that takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, types
from aqua_jax.experiments import ceilings, settings, turns
from aqua_jax.loops import attention, native_attention, prompt, text
from aqua_jax.memory import native

_PREFILL_LAYERS = 4
_STEP_LANES, _STEPS = 32, 8
_POSITIVE = (
    "prefill_rows", "kv_heads", "group", "head_dim", "page_tokens", "working_set_bytes",
    "step_context", "repeats",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionBenchmark:
    """The settings.

    contexts, batches: comma-separated; a row of the report for each pair of them, decoding.
    prefill_contexts: the same for a chunk of `prefill_rows` rows of one session.
    kv_heads, group, head_dim, page_tokens, dtype: of the calls. working_set_bytes: keys and
    values that decoding reads before it reads any again: four times the last-level cache.
    step_context: of 32 sessions whose decode step of the whole `model` is measured too.
    """

    model: settings.ModelSettings
    contexts: str = "128,512,1024,4096"
    batches: str = "1,32"
    prefill_contexts: str = "1024,4096"
    prefill_rows: int = 64
    kv_heads: int = 4
    group: int = 2
    head_dim: int = 32
    page_tokens: int = 16
    dtype: str = "float32"
    working_set_bytes: int = 128 * types.MIB
    step_context: int = 1024
    repeats: int = 5

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise errors.ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.dtype not in native_attention.DTYPES:
            raise errors.ConfigError(
                f"unknown dtype {self.dtype!r}"
                f"{errors.close_match(self.dtype, native_attention.DTYPES)}"
            )
        for name in ("contexts", "batches", "prefill_contexts"):
            _numbers(name, getattr(self, name))

    @property
    def title(self) -> str:
        """What the rows are."""
        return (
            f"Attention, {self.kv_heads} KV heads of {self.head_dim} for {self.group} query heads "
            f"each, {self.dtype}, pages of {self.page_tokens} tokens"
        )

    @property
    def devices(self) -> list[str]:
        """The first, which computes."""
        return [str(jax.devices()[0])]

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(what was computed, its figures as `metrics.BENCHMARK` names them), as measured."""
        native.load()
        with ceilings.MemoryReader(self.working_set_bytes) as reader:
            for context in _numbers("contexts", self.contexts):
                for batch in _numbers("batches", self.batches):
                    yield f"decode {context} x {batch}", self._decode(reader, context, batch)
        for context in _numbers("prefill_contexts", self.prefill_contexts):
            yield f"prefill {context} + {self.prefill_rows}", self._prefill(context)
        yield f"step {self.step_context} x {_STEP_LANES}", self._step()

    def _decode(self, reader: ceilings.MemoryReader, context: int, batch: int) -> dict[str, Any]:
        token_bytes = 2 * self.kv_heads * self.head_dim * jnp.dtype(self.dtype).itemsize
        call_bytes = batch * context * token_bytes
        layers = -(-self.working_set_bytes // call_bytes)
        positions = np.full(batch, context - 1, np.int32)
        calls = _Calls(self, layers, positions, one_session=False, mode="decode")
        seconds = turns.medians([calls.xla, calls.native, reader.read], self.repeats)
        figures = _compared(seconds, layers)
        rate = layers * call_bytes / seconds[1]
        read_rate = reader.nbytes / seconds[2]
        return figures | {
            "kv_bytes": layers * call_bytes,
            "native_bytes_per_second": rate,
            "read_bytes_per_second": read_rate,
            "read_share": rate / read_rate,
        }

    def _prefill(self, context: int) -> dict[str, Any]:
        rows = self.prefill_rows
        positions = np.arange(context, context + rows, dtype=np.int32)
        calls = _Calls(self, _PREFILL_LAYERS, positions, one_session=True, mode="prefill")
        return _compared(turns.medians([calls.xla, calls.native], self.repeats), _PREFILL_LAYERS)

    def _step(self) -> dict[str, Any]:
        steppers = [_Stepper(self, kind) for kind in text.ATTENTIONS]
        try:
            return _compared(turns.medians([each.run for each in steppers], self.repeats), _STEPS)
        finally:
            for each in steppers:
                each.close()


class _Calls:
    """The same call of every layer of a pool, by XLA and native. The pool stays where it is."""

    def __init__(
        self,
        benchmark: AttentionBenchmark,
        layers: int,
        positions: np.ndarray,
        *,
        one_session: bool,
        mode: str,
    ) -> None:
        tokens, kv_heads, head_dim = benchmark.page_tokens, benchmark.kv_heads, benchmark.head_dim
        dtype, rows = jnp.dtype(benchmark.dtype), len(positions)
        tables = _tables(positions, tokens, one_session=one_session)
        pages = int(tables.max()) + 1
        shape = (pages, layers, 2, tokens, kv_heads, head_dim)
        self._pool = jnp.full(shape, 0.25, dtype)
        queries = (rows, kv_heads, benchmark.group, head_dim)
        vectors = [queries, (rows, kv_heads, head_dim), (rows, kv_heads, head_dim)]
        keys = jax.random.split(jax.random.key(0), 3)
        self._operands = (
            attention.Rows(jnp.zeros(rows, jnp.int32), jnp.asarray(positions), jnp.asarray(tables)),
            *(jax.random.normal(key, size, dtype) for key, size in zip(keys, vectors, strict=True)),
        )
        self._programs = {
            "xla": _program(getattr(attention.GatherAttention(), mode), layers),
            "native": _program(getattr(native_attention.NativeAttention(), mode), layers),
        }

    def xla(self) -> None:
        self._run("xla")

    def native(self) -> None:
        self._run("native")

    def _run(self, kind: str) -> None:
        self._pool, attended = self._programs[kind](self._pool, *self._operands)
        attended.block_until_ready()


class _Stepper:
    """A text runner in the middle of decoding, 32 sessions of one length."""

    def __init__(self, benchmark: AttentionBenchmark, kind: str) -> None:
        wanted, tokens = benchmark.model, benchmark.page_tokens
        model = wanted.build(wanted.name, seed=wanted.seed, path=wanted.path, dtype=wanted.dtype)
        each = -(-(benchmark.step_context + _STEPS + 1) // tokens)  # pages of a session
        self._clock = clocks.MonotonicClock()
        limits = text.TextLimits(
            pages=_STEP_LANES * each + 1,
            page_tokens=tokens,
            units_max=each * tokens,
            lanes=_STEP_LANES,
            steps_max=_STEPS,
            attention=kind,
        )
        self._runner = text.TextRunner(model, limits, space=0, clock=self._clock)
        request = prompt.text_request([1] * benchmark.step_context, max_tokens=_STEPS + 1)
        plans = [
            types.LanePlan(
                lane,
                types.Session(id=lane, request=request, arrived_at=0.0),
                range(1 + lane * each, 1 + (lane + 1) * each),
                benchmark.step_context - 1,
                0,
                _STEPS,
                True,
            )
            for lane in range(_STEP_LANES)
        ]
        self._batch = types.Batch(tuple(plans), _STEPS)

    def run(self) -> None:
        ticket = self._runner.dispatch(self._batch)
        while not ticket.done():
            self._clock.wait([ticket], self._clock.now() + 1.0)
        outcomes = self._runner.collect(ticket)
        if any(outcome.step_units != _STEPS for outcome in outcomes):
            raise errors.InternalError(f"a slice ended before its {_STEPS} steps")

    def close(self) -> None:
        self._runner.close()


def _numbers(name: str, text_of: str) -> list[int]:
    """The whole numbers of a comma-separated setting."""
    parts = [part.strip() for part in text_of.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise errors.ConfigError(
            f"{name} is {text_of!r}; give whole numbers, comma-separated, e.g. 128,1024"
        )
    return [int(part) for part in parts]


def _tables(positions: np.ndarray, page_tokens: int, *, one_session: bool) -> np.ndarray:
    """Page tables of rows with pages of their own, or all of one session: in no order."""
    needed = int(positions.max()) // page_tokens + 1
    sessions = 1 if one_session else len(positions)
    block = attention.block_pages(page_tokens)
    tables = np.zeros((sessions, -(-needed // block) * block), np.int32)
    pages = np.random.default_rng(0).permutation(np.arange(1, sessions * needed + 1))
    tables[:, :needed] = pages.reshape(sessions, needed)
    return np.broadcast_to(tables, (len(positions), tables.shape[1]))


def _program(step: attention.Step, layers: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(pool, rows, queries, keys, values) -> (pool, attended of the last layer)."""

    def run(
        pool: jax.Array,
        rows: attention.Rows,
        queries: jax.Array,
        keys: jax.Array,
        values: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        def visit(layer: jax.Array, carry: tuple[jax.Array, jax.Array]) -> Any:
            return step(carry[0], attention.Layer(layer), rows, queries, keys, values)

        return lax.fori_loop(0, layers, visit, (pool, queries))

    return jax.jit(run, donate_argnums=0)


def _compared(seconds: Sequence[float], count: int) -> dict[str, float]:
    """Of `count` calls by XLA and as many native."""
    xla, own = seconds[:2]
    return {"xla_seconds": xla / count, "native_seconds": own / count, "native_speedup": xla / own}
