"""The programs of a text slice, compiled once, ahead of time, for one mesh.

Knows: compilation, shardings, donation. Does not know: what the programs
compute (`steps.py`), sessions, tickets.

The pool and the state of the lanes are donated. A compiled program refuses operands of
other shapes: nothing can recompile while it serves.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from aqua_jax.loops import attention, forward, notes, packing, steps

POOL_SPEC = PartitionSpec(None, None, None, None, forward.TENSOR_AXIS, None)
_WHOLE = PartitionSpec()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A compiled program: `run(pool, params, state, packed) -> (pool, state, outcome, scores)`.

    That of `compile_note` is `run(notes, packed) -> notes` and has no outcome.
    """

    name: str
    run: jax.stages.Compiled
    operands: packing.Packing
    outcome: packing.Packing


def compile_prefill(
    model: forward.CausalModel,
    sizes: steps.Sizes,
    mesh: jax.sharding.Mesh,
    attend: attention.Attention,
) -> Program:
    """`steps.prefill`: a chunk of rows of several lanes."""
    body = functools.partial(steps.prefill, model, sizes, attend)
    operands, outcome = steps.prefill_operands(sizes), steps.prefill_outcome(sizes)
    run = _compile(body, model, sizes, mesh=mesh, operands=operands)
    return Program(name="prefill", run=run, operands=operands, outcome=outcome)


def compile_decode(
    model: forward.CausalModel,
    sizes: steps.Sizes,
    mesh: jax.sharding.Mesh,
    attend: attention.Attention,
) -> Program:
    """`steps.decode`: up to `steps_max` steps of all lanes."""
    body = functools.partial(steps.decode, model, sizes, attend)
    operands, outcome = steps.decode_operands(sizes), steps.decode_outcome(sizes)
    run = _compile(body, model, sizes, mesh=mesh, operands=operands)
    return Program(name="decode", run=run, operands=operands, outcome=outcome)


def compile_note(
    model: forward.CausalModel, sizes: steps.Sizes, mesh: jax.sharding.Mesh
) -> Program:
    """`notes.note`: what a session that joins a lane has seen and wants biased."""
    whole, operands = NamedSharding(mesh, _WHOLE), notes.operands()
    jitted = jax.jit(notes.note, donate_argnums=0, in_shardings=(whole, whole), out_shardings=whole)
    noted = notes.shapes(sizes.lanes, model.facts.vocab)
    run = jitted.lower(noted, packing.int32(operands.size)).compile()
    return Program(name="note", run=run, operands=operands, outcome=packing.Packing({}))


def pool_shape(model: forward.CausalModel, sizes: steps.Sizes) -> tuple[int, ...]:
    """`[pages, layers, 2, page_tokens, kv_heads, head_dim]`, over all shards."""
    facts = model.facts
    return (sizes.pages, facts.layers, 2, sizes.page_tokens, facts.kv_heads, facts.head_dim)


def place_params(model: forward.CausalModel, mesh: jax.sharding.Mesh) -> Any:
    """The model's parameters on the mesh, sharded as the model says.

    Those that are there already are not copied.
    """
    return jax.device_put(model.params, _shardings(model.specs(mesh.size), mesh))


def empty_state(
    model: forward.CausalModel, sizes: steps.Sizes, mesh: jax.sharding.Mesh
) -> steps.State:
    """Lanes of nobody."""
    state = steps.empty_state(sizes.lanes, model.facts.vocab)
    return jax.device_put(state, NamedSharding(mesh, _WHOLE))


def _compile(
    body: Callable[..., Any],
    model: forward.CausalModel,
    sizes: steps.Sizes,
    *,
    mesh: jax.sharding.Mesh,
    operands: packing.Packing,
) -> jax.stages.Compiled:
    in_specs = (POOL_SPEC, model.specs(mesh.size), _WHOLE, _WHOLE)
    out_specs = (POOL_SPEC, _WHOLE, _WHOLE, _WHOLE)
    # Every shard chooses the same tokens from gathered logits; the check of replication cannot
    # see that.
    sharded = jax.shard_map(
        body, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
    jitted = jax.jit(
        sharded,
        donate_argnums=(0, 2),
        in_shardings=_shardings(in_specs, mesh),
        out_shardings=_shardings(out_specs, mesh),
    )
    return jitted.lower(
        jax.ShapeDtypeStruct(pool_shape(model, sizes), model.facts.dtype),
        jax.eval_shape(lambda: model.params),
        jax.eval_shape(lambda: steps.empty_state(sizes.lanes, model.facts.vocab)),
        packing.int32(operands.size),
    ).compile()


def _shardings(specs: Any, mesh: jax.sharding.Mesh) -> Any:
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        specs,
        is_leaf=lambda leaf: isinstance(leaf, PartitionSpec),
    )
