"""This project's answer to a case: the text runner's programs on pages, compared with a golden.

Knows: families, runners, goldens. Does not know: the reference.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from aqua_jax.loops import attention, forward, native_attention, programs, prompt, text
from models import config_json, decoder, families
from tests.loops import harness
from tests.parity import cases, golden

# Of the row's largest magnitude.
RELATIVE_ERROR_MAX = 1e-4
PIECES = (16, 37, 64, cases.PROMPT_TOKENS)

_LIMITS = text.TextLimits(
    pages=48, page_tokens=harness.PAGE_TOKENS, units_max=256, lanes=2, chunk_units=96,
    steps_max=32, tile_rows=16,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How far the two answers agree.

    error: the largest difference of logits at any position, over the largest magnitude that the
    reference has there. tokens: greedy ones that are equal before the first that is not. same_bits:
    the prompt's keys and values, prefilled in `PIECES`, are the same to the bit.
    """

    error: float
    tokens: int
    near_tie: int
    same_bits: bool

    @property
    def agrees(self) -> bool:
        return self.error <= RELATIVE_ERROR_MAX and self.tokens >= self.near_tie and self.same_bits


def compare(model: decoder.CausalDecoder, wanted: golden.Golden, attention_name: str) -> Verdict:
    """Runs the case's model. Raises ConfigError where this attention cannot compute it."""
    limits = dataclasses.replace(_LIMITS, attention=attention_name)
    run = text.TextRunner(model, limits, space=0, clock=harness.CLOCK)
    try:
        who = _generate(run, wanted)
        same_bits = _same_bits(run, wanted)
    finally:
        run.close()
    found = _logits(model, attention_name, np.concatenate([wanted.prompt, wanted.tokens[:-1]]))
    wrong = np.abs(found - wanted.logits).max(-1) / np.abs(wanted.logits).max(-1)
    differ = np.flatnonzero(np.asarray(who.tokens) != wanted.tokens)
    return Verdict(
        error=float(wrong.max()),
        tokens=int(differ[0]) if differ.size else len(wanted.tokens),
        near_tie=wanted.near_tie,
        same_bits=same_bits,
    )


def load(name: str, config: str) -> decoder.CausalDecoder:
    """The model that the text of a `config.json` describes, with the case's weights."""
    fields = config_json.Fields(json.loads(config), f"{name}/config.json")
    family = families.of(fields)
    shape = family.shape(fields)
    model = family.causal(shape, params={})
    leaves = family.leaves(shape)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        made = leaves[jax.tree_util.keystr(path, simple=True, separator=".")]
        layers = range(leaf.shape[0]) if made.is_stacked else (0,)
        each = [
            made.join(
                [
                    golden.weights(name, theirs.format(layer=layer), sizes)
                    for theirs, sizes in zip(made.names, made.shapes, strict=True)
                ]
            )
            for layer in layers
        ]
        value = np.stack(each) if made.is_stacked else each[0]
        assert value.shape == leaf.shape, path
        return jnp.asarray(value, leaf.dtype)

    model.params = jax.tree.map_with_path(draw, model.abstract_params)
    return model


def _seat(wanted: golden.Golden, first_page: int) -> harness.Seat:
    request = prompt.text_request(wanted.prompt.tolist(), max_tokens=len(wanted.tokens))
    pages = -(-(len(wanted.prompt) + len(wanted.tokens)) // harness.PAGE_TOKENS)
    return harness.Seat(request, range(first_page, first_page + pages))


def _generate(run: text.TextRunner, wanted: golden.Golden) -> harness.Seat:
    who = _seat(wanted, 1)
    harness.prefill(run, who, 0, run.chunk_units)
    harness.decode(run, who, 0, run.steps_max)
    return who


def _same_bits(run: text.TextRunner, wanted: golden.Golden) -> bool:
    found = []
    for rows in PIECES:
        who = _seat(wanted, 20)
        run.pool.write(who.pages, np.full((len(who.pages), *run.pool.page_shape), rows, np.float32))
        harness.prefill(run, who, 1, rows)
        found.append(harness.kv(run, who))
    return all(np.array_equal(one, found[0]) for one in found)


def _logits(model: decoder.CausalDecoder, attention_name: str, ids: np.ndarray) -> np.ndarray:
    """All of `ids` at once through the loop's forward pass, on pages: `[ids, vocab]`."""
    facts, page_tokens = model.facts, harness.PAGE_TOKENS
    attend: attention.Attention = attention.GatherAttention(facts.score_scale, facts.score_softcap)
    if attention_name == "native":
        attend = native_attention.load(facts, platform="cpu")
    count = jnp.int32(len(ids))

    def body(pool: jax.Array, params: Any, rows: attention.Rows) -> jax.Array:
        pool, x = forward.run_rows(
            model, params, pool, rows, count=count, attend=attend.prefill, tile_rows=16
        )
        return model.logits(params, x, forward.Span(rows.positions, count))

    whole = PartitionSpec()
    mesh = text.tensor_mesh(jax.devices()[:1])
    specs = (programs.POOL_SPEC, model.specs(1), whole)
    program = jax.jit(
        jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)
    )
    live = np.arange(-(-len(ids) // page_tokens) * page_tokens) < len(ids)
    width = attention.block_pages(page_tokens)
    table = np.arange(1, 1 + -(-len(live) // (page_tokens * width)) * width, dtype=np.int32)
    rows = attention.Rows(
        tokens=jnp.asarray(np.where(live, np.resize(ids, live.size), 0), jnp.int32),
        positions=jnp.asarray(np.where(live, np.arange(live.size), 0), jnp.int32),
        tables=jnp.asarray(np.where(live[:, None], table[None], 0)),
    )
    shape = (table.size + 1, facts.layers, 2, page_tokens, facts.kv_heads, facts.head_dim)
    pool = jnp.zeros(shape, facts.dtype)
    return np.asarray(program(pool, model.params, rows))[: len(ids)]
