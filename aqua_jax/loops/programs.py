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
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec

from aqua_jax.loops import attention, forward, lanes, linear, notes, packed, packing, steps
from aqua_jax.memory import huge_pages

POOL_SPEC = PartitionSpec(None, None, None, None, forward.TENSOR_AXIS, None)
_WHOLE = PartitionSpec()


class Held(NamedTuple):
    """A `steps.State` between programs, to all of which it is donated.

    What a lane carries is one array here: each that a program takes and returns costs the host.
    """

    lanes: jax.Array  # `lanes.Lanes`, packed
    notes: notes.Notes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A compiled program: `run(pool, leaves, held, packed) -> (pool, held, outcome, scores)`.

    leaves: of the `Placed` that it was compiled for. That of `compile_note` is
    `run(notes, packed) -> notes` and has no outcome.
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
    placed: Placed,
) -> Program:
    """`steps.prefill`: a chunk of rows of several lanes."""
    body = functools.partial(steps.prefill, model, sizes, attend)
    operands, outcome = steps.prefill_operands(sizes), steps.prefill_outcome(sizes)
    run = _compile(body, model, sizes, mesh=mesh, operands=operands, placed=placed)
    return Program(name="prefill", run=run, operands=operands, outcome=outcome)


def compile_decode(
    model: forward.CausalModel,
    sizes: steps.Sizes,
    mesh: jax.sharding.Mesh,
    attend: attention.Attention,
    placed: Placed,
) -> Program:
    """`steps.decode`: up to `steps_max` steps of all lanes."""
    body = functools.partial(steps.decode, model, sizes, attend)
    operands, outcome = steps.decode_operands(sizes), steps.decode_outcome(sizes)
    run = _compile(body, model, sizes, mesh=mesh, operands=operands, placed=placed)
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


@dataclasses.dataclass(frozen=True)
class Placed:
    """A model's parameters on a mesh. specs: a tree of which `params` has the leaves or more."""

    leaves: tuple[jax.Array, ...]  # as programs take them, which then need not look for them
    tree: Any  # jax.tree_util.PyTreeDef, which jax declares as a variable
    specs: Any

    @classmethod
    def of(cls, params: Any, specs: Any) -> Placed:
        """Of parameters that are on the mesh."""
        leaves, tree = jax.tree.flatten(params)
        return cls(tuple(leaves), tree, specs)

    @property
    def params(self) -> Any:
        return self.tree.unflatten(self.leaves)


def place_params(
    model: forward.CausalModel,
    mesh: jax.sharding.Mesh,
    *,
    packs: bool = False,
    takes: bool = False,
) -> Placed:
    """The model's parameters on the mesh, sharded as the model says.

    Those that are there already are not copied. packs: linear weights in panels, each shard's for
    itself, as the native library takes them. takes: the model keeps none, so that memory never
    holds more than all of them and one leaf twice.
    """
    specs = model.specs(mesh.size)
    plain = model.take_params() if takes else model.params
    if not packs:
        return Placed.of(jax.device_put(plain, _shardings(specs, mesh)), specs)
    packed_specs = jax.tree.map(_packed_spec, model.linear, specs, plain)

    def place(use: str, spec: PartitionSpec, packed_spec: PartitionSpec, leaf: jax.Array) -> Any:
        placed = jax.device_put(leaf, NamedSharding(mesh, spec))
        if not use:
            return placed
        pack = packed.pack_transposed if use == linear.TABLE else packed.pack
        local = jax.shard_map(pack, mesh=mesh, in_specs=spec, out_specs=packed_spec)
        return jax.block_until_ready(jax.jit(local)(placed))

    leaves, tree = jax.tree.flatten(plain)
    uses, plain_specs, panel_specs = (
        tree.flatten_up_to(one) for one in (model.linear, specs, packed_specs)
    )
    del plain
    leaves.reverse()  # so that each is let go once it has been packed
    made = [place(*one, leaves.pop()) for one in zip(uses, plain_specs, panel_specs, strict=True)]
    huge_pages.advise(jax.tree.leaves(made))
    return Placed.of(tree.unflatten(made), packed_specs)


def empty_state(model: forward.CausalModel, sizes: steps.Sizes, mesh: jax.sharding.Mesh) -> Held:
    """Lanes of nobody."""
    make = jax.jit(functools.partial(_hold, sizes), out_shardings=NamedSharding(mesh, _WHOLE))
    return make(steps.empty_state(sizes.lanes, model.facts.vocab))


def _compile(
    body: Callable[..., Any],
    model: forward.CausalModel,
    sizes: steps.Sizes,
    *,
    mesh: jax.sharding.Mesh,
    operands: packing.Packing,
    placed: Placed,
) -> jax.stages.Compiled:
    in_specs = (POOL_SPEC, placed.specs, _WHOLE, _WHOLE)
    out_specs = (POOL_SPEC, _WHOLE, _WHOLE, _WHOLE)
    # Every shard chooses the same tokens from gathered logits; the check of replication cannot
    # see that.
    sharded = jax.shard_map(
        body, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
    tree = placed.tree

    def program(
        pool: jax.Array, leaves: tuple[jax.Array, ...], held: Held, packed: jax.Array
    ) -> tuple[jax.Array, Held, jax.Array, jax.Array]:
        state = steps.State(lanes.Lanes(**_lanes(sizes).unpack(held.lanes)), held.notes)
        pool, state, *made = sharded(pool, tree.unflatten(leaves), state, packed)
        return pool, _hold(sizes, state), *made

    whole, pool = NamedSharding(mesh, _WHOLE), NamedSharding(mesh, POOL_SPEC)
    jitted = jax.jit(
        program,
        donate_argnums=(0, 2),
        in_shardings=(pool, tuple(leaf.sharding for leaf in placed.leaves), whole, whole),
        out_shardings=(pool, whole, whole, whole),
    )
    return jitted.lower(
        jax.ShapeDtypeStruct(pool_shape(model, sizes), model.facts.dtype),
        tuple(map(_shape, placed.leaves)),
        jax.eval_shape(lambda: _hold(sizes, steps.empty_state(sizes.lanes, model.facts.vocab))),
        packing.int32(operands.size),
    ).compile()


def _lanes(sizes: steps.Sizes) -> packing.Packing:
    return packing.Packing(lanes.shapes(sizes.lanes)._asdict())


def _hold(sizes: steps.Sizes, state: steps.State) -> Held:
    return Held(_lanes(sizes).pack(state.lanes._asdict()), state.notes)


def _packed_spec(use: str, spec: PartitionSpec, leaf: jax.Array) -> PartitionSpec:
    """Of `[..., panels, steps, width]`: columns are the panels', rows the steps'."""
    if not use:
        return spec
    axes = (*spec, *(None,) * (leaf.ndim - len(spec)))
    rows, columns = axes[-2:] if use == linear.WEIGHTS else axes[:-3:-1]
    return PartitionSpec(*axes[:-2], columns, rows, None)


def _shape(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _shardings(specs: Any, mesh: jax.sharding.Mesh) -> Any:
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        specs,
        is_leaf=lambda leaf: isinstance(leaf, PartitionSpec),
    )
