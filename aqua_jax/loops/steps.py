"""What one program of a slice computes: a chunk of prefill rows, or a run of decode steps.

Knows: lanes, rows, how the one becomes the other. Does not know: compilation
and devices (`programs.py`), sessions and tickets (`text.py`).

Both programs take (pool, params, state, packed) and return (pool, state,
outcome, scores); `packed` and `outcome` are int32 vectors, `scores` are log
probabilities, `[..., lanes, logprobs.WORDS]`. They run inside `shard_map`.
Lanes and rows that do not take part are masked: they write to the scratch page.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from aqua_jax.loops import attention, choosing, forward, lanes, logprobs, notes, packing

NO_ROW = -1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The static sizes that the programs of one runner are compiled for."""

    pages: int
    page_tokens: int
    table_pages: int  # a multiple of attention.block_pages
    lanes: int  # a multiple of decode_tile_rows
    chunk_rows: int  # a multiple of prefill_tile_rows
    steps_max: int
    prefill_tile_rows: int
    decode_tile_rows: int


class State(NamedTuple):
    """What the device carries from program to program. Donated to every one."""

    lanes: lanes.Lanes
    notes: notes.Notes


def empty_state(count: int, vocab: int) -> State:
    """`count` lanes of nobody."""
    return State(lanes.empty(count), notes.empty(count, vocab))


def prefill_operands(sizes: Sizes) -> packing.Packing:
    """Rows `[0, row_count)` are real; last_rows: a lane's last known unit, or NO_ROW."""
    return packing.Packing(
        {
            **_common_operands(sizes),
            "row_lanes": packing.int32(sizes.chunk_rows),
            "row_positions": packing.int32(sizes.chunk_rows),
            "row_tokens": packing.int32(sizes.chunk_rows),
            "row_count": packing.int32(),
            "last_rows": packing.int32(sizes.lanes),
        }
    )


def prefill_outcome(sizes: Sizes) -> packing.Packing:
    """tokens: of the lanes whose last known unit was among the rows, 0 for the others."""
    return packing.Packing(
        {"tokens": packing.int32(sizes.lanes), "finished": packing.int32(sizes.lanes)}
    )


def decode_operands(sizes: Sizes) -> packing.Packing:
    """step_limits: steps that each lane may run, 0 for lanes that take no part."""
    return packing.Packing({**_common_operands(sizes), "step_limits": packing.int32(sizes.lanes)})


def decode_outcome(sizes: Sizes) -> packing.Packing:
    """A lane's tokens are the first `counts` of its column."""
    return packing.Packing(
        {
            "tokens": packing.int32(sizes.steps_max, sizes.lanes),
            "counts": packing.int32(sizes.lanes),
            "finished": packing.int32(sizes.lanes),
        }
    )


def prefill(
    model: forward.CausalModel,
    sizes: Sizes,
    attend: attention.Attention,
    pool: jax.Array,
    params: Any,
    state: State,
    packed: jax.Array,
) -> tuple[jax.Array, State, jax.Array, jax.Array]:
    """A lane whose last known unit is among the rows emits the token after it."""
    given = prefill_operands(sizes).unpack(packed)
    state = _seat(state, given)
    rows = attention.Rows(
        tokens=given["row_tokens"],
        positions=given["row_positions"],
        tables=given["tables"][given["row_lanes"]],
    )
    rows = _mask(rows, jnp.arange(sizes.chunk_rows) < given["row_count"])
    pool, x = forward.run_rows(
        model,
        params,
        pool,
        rows,
        attend=attend.prefill,
        count=given["row_count"],
        tile_rows=sizes.prefill_tile_rows,
    )
    completes = given["last_rows"] >= 0
    last = jnp.where(completes, given["last_rows"], 0)
    positions = rows.positions[last] + 1
    state, chosen = _emit(model, params, sizes, x[last], positions, state, completes)
    return pool, state, jnp.concatenate([chosen.tokens, state.lanes.finished]), chosen.scores


def decode(
    model: forward.CausalModel,
    sizes: Sizes,
    attend: attention.Attention,
    pool: jax.Array,
    params: Any,
    state: State,
    packed: jax.Array,
) -> tuple[jax.Array, State, jax.Array, jax.Array]:
    """Steps all lanes until each has reached its limit or its end."""
    given = decode_operands(sizes).unpack(packed)
    limits, tables = given["step_limits"], given["tables"]

    def active(step: jax.Array, state: State) -> jax.Array:
        return (step < limits) & (state.lanes.finished == lanes.RUNNING)

    def go_on(carry: Any) -> jax.Array:
        step, _, state, *_ = carry
        return jnp.any(active(step, state))

    def run_step(carry: Any) -> Any:
        step, pool, state, made, counts = carry
        runs = active(step, state)
        rows = _mask(attention.Rows(state.lanes.token, state.lanes.position, tables), runs)
        pool, x = forward.run_rows(
            model,
            params,
            pool,
            rows,
            attend=attend.decode,
            count=_reach(runs),
            tile_rows=sizes.decode_tile_rows,
        )
        positions = state.lanes.position + 1
        state, chosen = _emit(model, params, sizes, x, positions, state, runs)
        made = choosing.Chosen(
            *(_put(whole, part, step) for whole, part in zip(made, chosen, strict=True))
        )
        return step + 1, pool, state, made, counts + runs.astype(jnp.int32)

    start = (
        jnp.int32(0),
        pool,
        _seat(state, given),
        choosing.Chosen(
            jnp.zeros((sizes.steps_max, sizes.lanes), jnp.int32),
            jnp.zeros((sizes.steps_max, sizes.lanes, logprobs.WORDS), jnp.int32),
        ),
        jnp.zeros(sizes.lanes, jnp.int32),
    )
    _, pool, state, made, counts = lax.while_loop(go_on, run_step, start)
    outcome = jnp.concatenate([made.tokens.reshape(-1), counts, state.lanes.finished])
    return pool, state, outcome, made.scores


def _common_operands(sizes: Sizes) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        "joins": packing.int32(sizes.lanes),
        **lanes.shapes(sizes.lanes)._asdict(),
        "tables": packing.int32(sizes.lanes, sizes.table_pages),
    }


def _seat(state: State, given: dict[str, jax.Array]) -> State:
    seats = lanes.Lanes(**{name: given[name] for name in lanes.Lanes._fields})
    return state._replace(lanes=lanes.seat(state.lanes, given["joins"] != 0, seats))


def _mask(rows: attention.Rows, runs: jax.Array) -> attention.Rows:
    """Rows that do not run write to the scratch page and read one position of it."""
    return attention.Rows(
        tokens=jnp.where(runs, rows.tokens, 0),
        positions=jnp.where(runs, rows.positions, 0),
        tables=jnp.where(runs[:, None], rows.tables, 0),
    )


def _emit(
    model: forward.CausalModel,
    params: Any,
    sizes: Sizes,
    x: jax.Array,
    positions: jax.Array,
    state: State,
    runs: jax.Array,
) -> tuple[State, choosing.Chosen]:
    """Lanes in `runs` emit a token each, which stands at `positions`; both `[lanes]`.

    The tokens of the others are 0.
    """
    asking = choosing.asks(positions, runs, state.lanes)

    def pick(logits: jax.Array, cut: Callable[[jax.Array], jax.Array]) -> choosing.Chosen:
        def rows() -> choosing.Rows:
            own = lanes.Lanes(*map(cut, state.lanes))
            return choosing.Rows(cut(positions), own, lambda: notes.Notes(*map(cut, state.notes)))

        return choosing.choose(logits, cut(asking), rows)

    chosen: choosing.Chosen = forward.choose(
        model,
        params,
        x,
        pick,
        start=choosing.nothing(sizes.lanes),
        count=_reach(runs),
        tile_rows=sizes.decode_tile_rows,
    )
    tokens = jnp.where(runs, chosen.tokens, 0)
    counted = runs & state.lanes.shaping.penalised
    state = State(
        lanes.emit(state.lanes, runs, tokens, positions), notes.count(state.notes, counted, tokens)
    )
    return state, chosen._replace(tokens=tokens)


def _reach(runs: jax.Array) -> jax.Array:
    """Lanes up to the last that runs: tiles past it are not computed."""
    return jnp.max(jnp.where(runs, jnp.arange(runs.shape[0], dtype=jnp.int32) + 1, 0))


def _put(whole: jax.Array, part: jax.Array, step: jax.Array) -> jax.Array:
    return lax.dynamic_update_index_in_dim(whole, part, step, axis=0)
