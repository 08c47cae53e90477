"""The compiled programs: in place, at one address, compiled once."""

from __future__ import annotations

import functools
import gc
import random
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.loops import programs, steps, text
from models import llama, shapes
from tests.loops import attention_scene, harness
from tests.memory import parts

# Not the harness's number of pages, nor its lanes: the shape of the pool, and of what lanes have
# seen, must be found nowhere else in the program.
SIZES = steps.Sizes(
    pages=67, page_tokens=16, table_pages=16, lanes=48, chunk_rows=32, steps_max=4,
    prefill_tile_rows=16, decode_tile_rows=16,
)  # fmt: skip

SEEN = f"s32[{SIZES.lanes},{shapes.TINY.vocab}]"


@functools.cache
def compiled(
    compiling: Callable[..., programs.Program], shards: int, kind: str = "xla"
) -> programs.Program:
    """kind: of attention and of linear layers."""
    mesh = text.tensor_mesh(jax.devices()[:shards])
    attend = attention_scene.implementation(kind)
    placed = programs.place_params(harness.model(), mesh, packs=kind == "native")
    return compiling(harness.model(), SIZES, mesh, attend, placed)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("kind", ["xla", "native"])
@pytest.mark.parametrize("compiling", [programs.compile_prefill, programs.compile_decode])
def test_no_program_copies_the_pool_or_what_lanes_have_seen(compiling, kind, shards):
    program = compiled(compiling, shards, kind)
    pages, layers, *rest, kv_heads, head_dim = programs.pool_shape(harness.model(), SIZES)
    sides, page_tokens = rest
    pool = f"f32[{pages},{layers},{sides},{page_tokens},{kv_heads // shards},{head_dim}]"
    check_in_place(program, pool)
    check_in_place(program, SEEN)


def test_noting_copies_nothing_of_other_lanes():
    mesh = text.tensor_mesh(jax.devices()[:1])
    check_in_place(programs.compile_note(harness.model(), SIZES, mesh), SEEN)


@pytest.mark.parametrize("packs", [False, pytest.param(True, marks=parts.needs_native)])
def test_weights_that_are_taken_are_nowhere_else(packs):
    mesh = text.tensor_mesh(jax.devices()[:1])
    kept = programs.place_params(harness.model(), mesh, packs=packs)
    before = live_bytes()
    given = llama.causal(shapes.TINY, seed=1)
    taken = programs.place_params(given, mesh, packs=packs, takes=True)
    jax.tree.map(np.testing.assert_array_equal, kept.params, taken.params)
    of_the_taken = sum(leaf.nbytes for leaf in jax.tree.leaves(taken.params))
    assert live_bytes() - before == of_the_taken
    with pytest.raises(errors.InternalError, match="'tiny' were taken by a runner: build"):
        _ = given.params


def live_bytes() -> int:
    """Of all arrays that somebody still holds."""
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())


def check_in_place(program: programs.Program, shape: str) -> None:
    lines = program.run.as_text().splitlines()
    of_shape = [line for line in lines if shape in line.partition("=")[2][:80]]
    assert of_shape, "it is somewhere in the program"
    assert not [line for line in of_shape if re.search(r"\bcopy(-start)?\(", line)]


@pytest.mark.parametrize("compiling", [programs.compile_prefill, programs.compile_decode])
def test_no_program_copies_packed_weights(compiling):
    """A layer is chosen by its number: nothing of the panels' rank is made in the program."""
    lines = compiled(compiling, 1, "native").run.as_text().splitlines()
    facts = harness.model().facts
    panels = rf"f32\[{facts.layers},\d+,\d+,32\]|f32\[\d+,\d+,32\]"
    made = [
        line for line in lines if re.search(rf"= ({panels})\S* (copy|fusion|dynamic-slice)", line)
    ]
    assert any("aqua_linear" in line for line in lines)
    assert not [line for line in made if "parameter" not in line and "slice_bitcast" not in line]


def test_other_operands_are_refused_not_recompiled():
    program = compiled(programs.compile_decode, 1)
    pool = jnp.zeros(programs.pool_shape(harness.model(), SIZES))
    packed = np.zeros(program.operands.size + 1, np.int32)
    mesh = text.tensor_mesh(jax.devices()[:1])
    held = programs.empty_state(harness.model(), SIZES, mesh)
    leaves = tuple(jax.tree.leaves(harness.model().params))
    with pytest.raises(TypeError, match="differ from the types for which"):
        program.run(pool, leaves, held, packed)


def test_nothing_compiles_or_moves_after_warm_up():
    run = text.TextRunner(harness.model(), harness.LIMITS, space=5, clock=harness.CLOCK)
    run.warm_up()
    usage = run.usage()
    assert {name: (entry["compiled"], entry["calls"]) for name, entry in usage.items()} == {
        "prefill": (1, 0),
        "decode": (1, 0),
        "note": (1, 0),
    }
    assert all(entry["compile_seconds"] > 0 for entry in usage.values())
    addresses = run.pool.addresses
    events: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: events.append(event)
    )
    rng = random.Random(0)
    try:
        with jax.transfer_guard("disallow"):
            for _ in range(10):
                _varied_slice(run, rng)
        assert not [event for event in events if event.startswith("/jax/core/compile")]
        jax.jit(lambda x: x + 1)(jnp.ones(3))
        assert [event for event in events if event.startswith("/jax/core/compile")], "it listens"
    finally:
        jax.monitoring.clear_event_listeners()
    assert run.pool.addresses == addresses
    assert run.slices_dispatched == 10
    calls = {name: entry["calls"] for name, entry in run.usage().items()}
    assert calls["prefill"] > 10 > calls["decode"] - 1 > 0
    assert calls["note"] > 0
    run.close()


def _varied_slice(run: text.TextRunner, rng: random.Random) -> None:
    """A prefill of any length, alone or with others, and steps of any number."""
    count = rng.randint(1, run.lanes)
    chosen = rng.sample(range(run.lanes), count)
    seats = [
        harness.seat(rng.randint(2, 100), range(1 + 10 * lane, 11 + 10 * lane),
                     temperature=rng.choice([0.0, 1.0]), logprobs=rng.choice([None, 3]),
                     presence_penalty=rng.choice([0.0, 1.0]))
        for lane in chosen
    ]  # fmt: skip
    most = rng.randint(1, run.steps_max)
    plans = [
        who.plan(lane, prefill=who.session.known, steps=rng.randint(1, most))
        for who, lane in zip(seats, chosen, strict=True)
    ]
    harness.run_slice(run, seats, *plans)
