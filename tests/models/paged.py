"""Logits of any model by the loop's forward pass, on pages, over as many devices as wanted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from aqua_jax.loops import attention, forward, programs, text
from models import decoder

PAGE_TOKENS = 16


def program(model: decoder.CausalDecoder, *, shards: int = 1) -> jax.stages.Wrapped:
    """Of `operands`: logits `[rows, vocab]`, of which `live` rows count."""
    facts = model.facts
    attend = attention.GatherAttention(facts.score_scale, facts.score_softcap).prefill

    def body(pool: jax.Array, params: Any, rows: attention.Rows, live: jax.Array) -> jax.Array:
        pool, x = forward.run_rows(
            model, params, pool, rows, attend=attend, count=live, tile_rows=16
        )
        return model.logits(params, x, forward.Span(rows.positions, live))

    whole = PartitionSpec()
    return jax.jit(
        jax.shard_map(
            body,
            mesh=text.tensor_mesh(jax.devices()[:shards]),
            in_specs=(programs.POOL_SPEC, model.specs(shards), whole, whole),
            out_specs=whole,
            check_vma=False,
        )
    )


def operands(model: decoder.CausalDecoder, ids: np.ndarray) -> tuple[Any, ...]:
    """One session of `ids`, a multiple of 16, in an empty pool."""
    facts = model.facts
    # A table is as wide as a multiple of `attention.block_pages`.
    width = attention.block_pages(PAGE_TOKENS)
    pages = -(-len(ids) // (PAGE_TOKENS * width)) * width
    shape = (pages + 1, facts.layers, 2, PAGE_TOKENS, facts.kv_heads, facts.head_dim)
    table = jnp.arange(1, pages + 1, dtype=jnp.int32)
    rows = attention.Rows(
        tokens=jnp.asarray(ids, jnp.int32),
        positions=jnp.arange(len(ids), dtype=jnp.int32),
        tables=jnp.broadcast_to(table[None], (len(ids), pages)),
    )
    return jnp.zeros(shape, facts.dtype), model.params, rows, jnp.int32(len(ids))


def logits(model: decoder.CausalDecoder, ids: np.ndarray, *, shards: int = 1) -> np.ndarray:
    """All of `ids` at once: float32 `[ids, vocab]`."""
    return np.asarray(program(model, shards=shards)(*operands(model, ids)), np.float32)
