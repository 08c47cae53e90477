"""The text runner: slices of prefill chunks and decode steps, dispatched without waiting.

Knows: how a batch becomes programs, what their outcomes mean for each session.
Does not know: who is scheduled and why, whose pages they are, tokenization.

A slice is as many prefill programs as its rows need, then one decode program
if it has steps; before them, notes of what its newcomers have seen, if they
have penalties or biases. The host reads a slice's tokens while the next one runs; a lane
that has reached its end is masked on the device, so none runs past it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.loops import (
    attention,
    forward,
    lanes,
    logprobs,
    native_attention,
    notes,
    packed,
    packing,
    programs,
    prompt,
    slices,
    steps,
)
from aqua_jax.memory import paged, watch

ATTENTIONS = ("xla", "native")
LINEARS = ("xla", "native")

_CHUNK_UNITS_MIN = 32
_ROWS_UNIT = 16  # what XLA computes of a row should not depend on a vector's remainder


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextLimits:
    """What one runner can hold and do at once.

    units_max: tokens of one session, prompt and output; a multiple of page_tokens.
    chunk_units: rows of one prefill program; a multiple of tile_rows, at least 32.
    tile_rows: rows computed together, a multiple of 16 (`forward.py`). On CPU 32 costs least a
      row; 16 wastes less where lanes are few.
    exact: bits do not depend on chunking and company, in float32. Without it each program is one
      tile, for devices that like many rows; a session recomputed may then go on differently.
    attention: "xla", which runs everywhere, or "native", by the native library, which must be
      built. It attends pages in place too (`TextRunner.attend_in`).
    linear: likewise; "native" on CPU alone. Bits are then those of `exact`, in bfloat16 too,
      without tiles: tile_rows and exact change nothing.
    """

    pages: int
    page_tokens: int = 16
    units_max: int = 1024
    lanes: int = 32
    chunk_units: int = 64
    steps_max: int = 32
    tile_rows: int = 32
    exact: bool = True
    attention: str = "xla"
    linear: str = "xla"


class TextRunner:
    """`engine.protocols.Runner` for one causal model on a mesh of one axis, "tensor".

    Used by one thread, the engine's; a thread of its own completes the tickets.
    mesh: default the first device alone. takes_weights: the model keeps none, for where nobody
    else needs them; else packed ones are beside its own.

    Raises ConfigError for limits that cannot be, NativeError when native
    attention is asked for and its library is not there.
    """

    kind = "text"

    def __init__(
        self,
        model: forward.CausalModel,
        limits: TextLimits,
        *,
        space: int,
        clock: clocks.Clock,
        mesh: jax.sharding.Mesh | None = None,
        takes_weights: bool = False,
    ) -> None:
        self._mesh = mesh if mesh is not None else tensor_mesh(jax.devices()[:1])
        _check(limits, self._mesh)
        self._model = model
        self._limits = limits
        self._clock = clock
        self._sizes = _sizes(limits)
        self._attention = _attention(limits, model.facts, self._mesh)
        self._arenas: dict[int, native_attention.Arena] = {}
        self._placed = programs.place_params(
            model, self._mesh, packs=limits.linear == "native", takes=takes_weights
        )
        self.pool = paged.PagedPool(
            space,
            limits.pages,
            programs.pool_shape(model, self._sizes)[1:],
            model.facts.dtype,
            sharding=NamedSharding(self._mesh, programs.POOL_SPEC),
        )
        self._held = programs.empty_state(model, self._sizes, self._mesh)
        self._whole = NamedSharding(self._mesh, PartitionSpec())
        self._programs: dict[str, programs.Program] = {}
        self._usage: dict[str, dict[str, float]] = {}
        self._watcher = watch.ReadyWatcher(clock, f"text runner {space}")
        self._flights: dict[int, _Flight] = {}
        self.slices_dispatched = 0

    @property
    def space(self) -> int:
        return self.pool.space

    @property
    def pages(self) -> int:
        return self.pool.pages

    @property
    def page_bytes(self) -> int:
        return self.pool.page_bytes

    @property
    def lanes(self) -> int:
        return self._limits.lanes

    @property
    def chunk_units(self) -> int:
        return self._limits.chunk_units

    @property
    def steps_max(self) -> int:
        return self._limits.steps_max

    @property
    def units_max(self) -> int:
        return self._limits.units_max

    def check(self, request: types.Request) -> None:
        prompt.check(request, vocab=self._model.facts.vocab, units_max=self.units_max)

    def pages_needed(self, request: types.Request, units: int) -> int:
        return -(-units // self._limits.page_tokens)

    def units_in_page(self, request: types.Request, index: int, units: int) -> int:
        page_tokens = self._limits.page_tokens
        return min(max(units - index * page_tokens, 0), page_tokens)

    def page_keys(self, session: types.Session, first: int, end: int) -> Sequence[int]:
        return prompt.page_keys(session, first, end, page_tokens=self._limits.page_tokens)

    def attend_in(self, space: int, arena: native_attention.Arena) -> None:
        """From now on page tables may name slots of `space`, where pages are attended in place.

        Needs native attention, and the pool registered with the same library as
        the arena, as `FfiMover` does. Given again, it replaces what was given.
        Raises ConfigError for a space or an arena that page tables cannot name.
        """
        if self._limits.attention != "native":
            raise errors.ConfigError(
                f"pages of space {space} cannot be attended in place with attention="
                f"{self._limits.attention!r}: use 'native'"
            )
        for what, given, most in (
            ("space", space, types.ENTRY_SPACES - 1),
            (f"pages of space {space}", arena.pages, types.ENTRY_SLOTS),
        ):
            if not 0 <= given <= most:
                raise errors.ConfigError(
                    f"{what}: {given}, which page tables cannot name: expected 0 to {most}"
                )
        self._arenas[space] = arena

    def warm_up(self) -> None:
        """Compiles the programs and runs each once on nothing. Afterwards nothing compiles.

        The first dispatch does it otherwise.
        """
        if self._programs:
            return
        model, sizes, mesh = self._model, self._sizes, self._mesh
        around = (self._attention, self._placed)
        for name, compiling in (
            ("prefill", lambda: programs.compile_prefill(model, sizes, mesh, *around)),
            ("decode", lambda: programs.compile_decode(model, sizes, mesh, *around)),
            ("note", lambda: programs.compile_note(model, sizes, mesh)),
        ):
            started = self._clock.now()
            self._programs[name] = compiling()
            seconds = self._clock.now() - started
            self._usage[name] = {"compiled": 1, "compile_seconds": seconds, "calls": 0}
        self._note(notes.pack_nothing(vocab=model.facts.vocab))
        tables = slices.page_tables(())
        nothing = slices.pack_prefill(self._operands("prefill"), (), (), tables=tables, seats=False)
        self._launch("prefill", nothing)
        nothing = slices.pack_decode(self._operands("decode"), (), tables=tables, seats=False)
        outcome = self._launch("decode", nothing)
        jax.block_until_ready(outcome)

    def usage(self) -> dict[str, dict[str, float]]:
        """By program: how often it was compiled, seconds that took, calls in slices since."""
        return {name: dict(usage) for name, usage in self._usage.items()}

    def dispatch(self, batch: types.Batch) -> tickets.Ticket:
        tables = slices.page_tables(batch.lanes)
        slices.check_batch(
            batch,
            tables,
            lanes=self.lanes,
            pages=self.pages,
            page_tokens=self._limits.page_tokens,
            steps_max=self.steps_max,
            arenas=self._arenas,
        )
        if self._arenas and (spaces := slices.spaces_away(tables)):
            native_attention.check_registered(
                [self._arenas[space] for space in spaces],
                self.pool.addresses,
                platform=self._mesh.devices.flat[0].platform,
            )
            tables = slices.name_away(tables, self._arenas)
        self.warm_up()
        ticket = tickets.Ticket("slice", started_at=self._clock.now())
        flight = _Flight(batch, [], [], _scored(batch))
        try:
            self._note_newcomers(batch)
            outcomes = self._launch_slice(batch, tables, flight)
        except (errors.PoolLostError, jax.errors.JaxRuntimeError) as error:
            # `collect` raises it, as it does what the device reports later.
            ticket.fail(error, at=self._clock.now())
        else:
            self._watcher.watch(outcomes, ticket, lambda: _fetch(outcomes, flight.scored))
        self._flights[ticket.id] = flight
        self.slices_dispatched += 1
        for name in flight.programs:
            self._usage[name]["calls"] += 1
        return ticket

    def collect(self, ticket: tickets.Ticket) -> list[types.Outcome]:
        flight = self._flights.pop(ticket.id, None)
        if flight is None:
            raise errors.InternalError(f"{ticket!r} is no slice in flight of this runner")
        readings = [
            {**_by_lane(self._programs[name].outcome.views(vector)), "scores": scores}
            for name, (vector, scores) in zip(flight.programs, ticket.result(), strict=True)
        ]
        return [_outcome(plan, flight, readings) for plan in flight.batch.lanes]

    def rebuild(self) -> None:
        self.pool.rebuild()
        self._held = programs.empty_state(self._model, self._sizes, self._mesh)

    def close(self) -> None:
        self._watcher.close()
        self.pool.close()

    def _note_newcomers(self, batch: types.Batch) -> None:
        """Enqueues what the lanes have to know of the tokens of sessions that join them."""
        for plan in batch.lanes:
            if plan.joins:
                for packed in notes.pack(plan.lane, plan.session, vocab=self._model.facts.vocab):
                    self._note(packed)
                    self._usage["note"]["calls"] += 1

    def _note(self, packed: np.ndarray) -> None:
        program = self._programs["note"]
        noted = packing.hand(
            lambda operands: program.run(self._held.notes, operands), packed, self._whole
        )
        self._held = self._held._replace(notes=noted)

    def _launch_slice(
        self, batch: types.Batch, tables: slices.Tables, flight: _Flight
    ) -> list[_Made]:
        """Enqueues the programs of a slice, telling `flight` what each is; what they make."""
        outcomes: list[_Made] = []
        for pieces in slices.chunks(batch.lanes, self.chunk_units):
            packed = slices.pack_prefill(
                self._operands("prefill"),
                batch.lanes,
                pieces,
                tables=tables,
                seats=not outcomes,
            )
            flight.programs.append("prefill")
            flight.emitting.append({piece.plan.lane for piece in pieces if piece.completes})
            outcomes.append(self._launch("prefill", packed))
        if batch.steps:
            packed = slices.pack_decode(
                self._operands("decode"), batch.lanes, tables=tables, seats=not outcomes
            )
            flight.programs.append("decode")
            flight.emitting.append({plan.lane for plan in batch.lanes if plan.steps})
            outcomes.append(self._launch("decode", packed))
        return outcomes

    def _launch(self, name: str, packed: np.ndarray) -> _Made:
        """Enqueues a program on the pool and the lanes; its outcome and scores."""
        program, weights = self._programs[name], self._placed.leaves
        self._held, outcome, scores = packing.hand(
            lambda operands: self.pool.run(program.run, weights, self._held, operands),
            packed,
            self._whole,
        )
        return outcome, scores

    def _operands(self, name: str) -> packing.Packing:
        return self._programs[name].operands


def tensor_mesh(devices: Sequence[Any]) -> jax.sharding.Mesh:
    """A mesh over which a runner shards one model: one shard a device."""
    return jax.sharding.Mesh(np.array(devices), (forward.TENSOR_AXIS,))


_Made = tuple[jax.Array, jax.Array]  # by a program: its outcome and scores


class _Flight(NamedTuple):
    """A dispatched slice: its programs in order, and the lanes that may emit in each."""

    batch: types.Batch
    programs: list[str]
    emitting: list[set[int]]
    scored: bool  # whether anyone asked for log probabilities


def _check(limits: TextLimits, mesh: jax.sharding.Mesh) -> None:
    if mesh.axis_names != (forward.TENSOR_AXIS,):
        raise errors.ConfigError(
            f"a mesh with axes {mesh.axis_names}: expected one axis, {forward.TENSOR_AXIS!r}; "
            "make it with tensor_mesh(devices)"
        )
    for what, chosen, names in (
        ("attention", limits.attention, ATTENTIONS),
        ("linear", limits.linear, LINEARS),
    ):
        if chosen not in names:
            raise errors.ConfigError(
                f"unknown {what} {chosen!r}{errors.close_match(chosen, names)}"
            )
    if limits.linear == "native":
        packed.check_platform(mesh.devices.flat[0].platform)
    for name in ("page_tokens", "lanes", "steps_max", "tile_rows", "units_max"):
        if getattr(limits, name) < 1:
            raise errors.ConfigError(f"{name} is {getattr(limits, name)}: expected at least 1")
    for name, unit, least in (
        ("tile_rows", 16, 16),
        ("chunk_units", limits.tile_rows, _CHUNK_UNITS_MIN),
        ("units_max", limits.page_tokens, limits.page_tokens),
    ):
        value = getattr(limits, name)
        if value % unit or value < least:
            raise errors.ConfigError(
                f"{name} is {value}: expected a multiple of {unit}, at least {least}"
            )


def _attention(
    limits: TextLimits, facts: forward.ModelFacts, mesh: jax.sharding.Mesh
) -> attention.Attention:
    if limits.attention == "native":
        return native_attention.load(facts, platform=mesh.devices.flat[0].platform)
    return attention.GatherAttention(facts.score_scale, facts.score_softcap)


def _sizes(limits: TextLimits) -> steps.Sizes:
    block = attention.block_pages(limits.page_tokens)
    is_tiled = limits.exact and limits.linear == "xla"
    unit = limits.tile_rows if limits.linear == "xla" else _ROWS_UNIT
    lanes_rows = _round_up(limits.lanes, unit)
    return steps.Sizes(
        pages=limits.pages,
        page_tokens=limits.page_tokens,
        table_pages=_round_up(limits.units_max // limits.page_tokens, block),
        lanes=lanes_rows,
        chunk_rows=limits.chunk_units,
        steps_max=limits.steps_max,
        prefill_tile_rows=limits.tile_rows if is_tiled else limits.chunk_units,
        decode_tile_rows=limits.tile_rows if is_tiled else lanes_rows,
    )


def _round_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _scored(batch: types.Batch) -> bool:
    return any(plan.session.request.payload.logprobs is not None for plan in batch.lanes)


def _fetch(outcomes: Sequence[_Made], scored: bool) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """What a slice's programs made, on the host; scores only where anyone asked."""
    return [
        (np.array(outcome), np.array(scores) if scored else None) for outcome, scores in outcomes
    ]


def _by_lane(views: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    """Lists with an entry a lane, so that nothing of numpy is done for each."""
    return {name: view.T.tolist() for name, view in views.items()}


def _outcome(
    plan: types.LanePlan, flight: _Flight, readings: Sequence[Mapping[str, Any]]
) -> types.Outcome:
    lane = plan.lane
    tokens: list[int] = []
    words: list[np.ndarray] = []
    count = 0
    top = plan.session.request.payload.logprobs
    for name, emitting, reading in zip(flight.programs, flight.emitting, readings, strict=True):
        if lane not in emitting:
            continue
        if name == "prefill":
            tokens.append(reading["tokens"][lane])
        else:
            count = reading["counts"][lane]
            tokens += reading["tokens"][lane][:count]
        if top is not None:
            scores = reading["scores"]
            words += [scores[lane]] if name == "prefill" else list(scores[:count, lane])
    if top is not None:
        tokens = [logprobs.read(*pair, top) for pair in zip(words, tokens, strict=True)]
    return types.Outcome(
        session=plan.session.id,
        tokens=tokens,
        finished=lanes.REASONS[readings[-1]["finished"][lane]],
        prefill_units=plan.prefill,
        step_units=count,
    )
