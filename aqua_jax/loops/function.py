"""A runner for a decode loop of somebody else's, given as one function of arrays.

Knows: how a batch becomes operands of the loop, what its tokens mean for each
session. Does not know: the model, what the loop keeps in its pages, tokenization.

    loop(pool, work) -> (pool, made)

`pool` is `[pages, *page_shape]`, donated: the loop updates it in place and
returns it. `made` is int32 `[units, lanes]`: the token that the loop makes of
each unit and all before it. Whatever else the loop needs (weights, say) it
closes over. What a session leaves behind must be in its pages and its token ids: pages
move away and come back at other numbers, lanes change hands.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.loops import packing, prompt, slices
from aqua_jax.memory import paged, watch
from aqua_jax.memory import programs as memory_programs

UNKNOWN = -1
# Of a request: what a loop that chooses for itself leaves room for.
_OPTIONS = ("prompt_ids", "stop_ids", "seed", "group", "sample")


class Units(NamedTuple):
    """A unit of every lane, `[units, lanes]` int32; time first, as `lax.scan` takes it.

    A lane without a unit at some time has its page 0, which is scratch, and its position 0.
    """

    tokens: jax.Array  # UNKNOWN: the one made of the unit before, or `Work.last` for the first
    positions: jax.Array
    pages: jax.Array  # where the unit's state goes; its place there is position % page_tokens


class Work(NamedTuple):
    """What one call of the loop computes. A lane's units are consecutive and come first."""

    units: Units
    counts: jax.Array  # [lanes] int32, units of each lane; 0: it takes no part
    tables: jax.Array  # [lanes, units_max / page_tokens] int32, a session's pages, then scratch
    last: jax.Array  # [lanes] int32, the token that each lane made last


Loop = Callable[[jax.Array, Work], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoopSizes:
    """Static sizes of the loop.

    pages: of the pool, scratch page 0 included. units_max: tokens of one session,
    a multiple of page_tokens. chunk_units: units of a lane in one call, prefill or
    decode. steps_max: decode steps in a slice. vocab: token ids are below it.
    """

    pages: int
    page_tokens: int
    units_max: int
    vocab: int
    lanes: int = 8
    chunk_units: int = 16
    steps_max: int = 8


class FunctionRunner:
    """`engine.protocols.Runner` around `loop`. Takes the requests of `prompt.text_request`.

    The loop chooses the tokens: requests that ask for sampling are refused.
    Stop ids end a session on the host, a slice late; the surplus is dropped and counted.
    sharding: of the pool, over any axes but the first; default the first device alone.
    """

    kind = "text"

    def __init__(
        self,
        loop: Loop,
        sizes: LoopSizes,
        *,
        page_shape: tuple[int, ...],
        dtype: jax.typing.DTypeLike,
        clock: clocks.Clock,
        space: int = 0,
        sharding: jax.sharding.Sharding | None = None,
    ) -> None:
        _check(sizes)
        sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
        self.pool = paged.PagedPool(space, sizes.pages, page_shape, dtype, sharding=sharding)
        self.space = space
        self.pages = sizes.pages
        self.page_bytes = self.pool.page_bytes
        self.lanes = sizes.lanes
        self.chunk_units = sizes.chunk_units
        self.steps_max = sizes.steps_max
        self.units_max = sizes.units_max
        self._sizes = sizes
        self._clock = clock
        self._operands = _operands(sizes)
        self._whole = memory_programs.replicated_sharding(sharding)
        self._program = jax.jit(
            functools.partial(_call, loop, self._operands),
            donate_argnums=0,
            out_shardings=(sharding, self._whole, self._whole),
        )
        self._last = self._no_last()
        self._watcher = watch.ReadyWatcher(clock, f"function runner {space}")
        self._flights: dict[int, list[_Share]] = {}

    def check(self, request: types.Request) -> None:
        prompt.check(request, vocab=self._sizes.vocab, units_max=self.units_max)
        for field in dataclasses.fields(prompt.TextPayload):
            value = getattr(request.payload, field.name)
            if field.name not in _OPTIONS and value != field.default:
                raise errors.RequestError(
                    f"{field.name} is {value}: this runner's loop chooses the tokens itself and "
                    f"takes no such option; leave it at {field.default}"
                )

    def pages_needed(self, request: types.Request, units: int) -> int:
        return -(-units // self._sizes.page_tokens)

    def units_in_page(self, request: types.Request, index: int, units: int) -> int:
        page_tokens = self._sizes.page_tokens
        return min(max(units - index * page_tokens, 0), page_tokens)

    def page_keys(self, session: types.Session, first: int, end: int) -> Sequence[int]:
        """None: what else a page of the loop depends on is not known here."""
        return ()

    def warm_up(self) -> None:
        """Compiles the loop and runs it once on nothing. The first dispatch does it otherwise."""
        jax.block_until_ready(self._launch(self._operands.host()[0]))

    def dispatch(self, batch: types.Batch) -> tickets.Ticket:
        slices.check_batch(
            batch,
            slices.page_tables(batch.lanes),
            lanes=self.lanes,
            pages=self.pages,
            page_tokens=self._sizes.page_tokens,
            steps_max=self.steps_max,
        )
        ticket = tickets.Ticket("slice", started_at=self._clock.now())
        shares = [_share(plan) for plan in batch.lanes]
        try:
            made = [self._launch(packed) for packed in _pack(self._operands, self._sizes, shares)]
        except (errors.PoolLostError, jax.errors.JaxRuntimeError) as error:
            ticket.fail(error, at=self._clock.now())  # `collect` raises it
        else:
            self._watcher.watch(made, ticket, lambda: np.concatenate([np.array(m) for m in made]))
        self._flights[ticket.id] = shares
        return ticket

    def collect(self, ticket: tickets.Ticket) -> list[types.Outcome]:
        shares = self._flights.pop(ticket.id, None)
        if shares is None:
            raise errors.InternalError(f"{ticket!r} is no slice in flight of this runner")
        made = ticket.result()
        return [_outcome(share, made[:, share.plan.lane].tolist()) for share in shares]

    def rebuild(self) -> None:
        self.pool.rebuild()
        self._last = self._no_last()

    def close(self) -> None:
        self._watcher.close()
        self.pool.close()

    def _launch(self, packed: np.ndarray) -> jax.Array:
        self._last, made = packing.hand(
            lambda operands: self.pool.run(self._program, self._last, operands), packed, self._whole
        )
        return made

    def _no_last(self) -> jax.Array:
        return jax.device_put(np.zeros(self.lanes, np.int32), self._whole)


class _Share(NamedTuple):
    """A plan's part of a slice. emits: how many of its last tokens are new to the session."""

    plan: types.LanePlan
    tokens: list[int]  # of its units, as far as the host knows them
    units: int
    emits: int


def _check(sizes: LoopSizes) -> None:
    for field in dataclasses.fields(sizes):
        value = getattr(sizes, field.name)
        if value < 1:
            raise errors.ConfigError(f"{field.name} is {value}: expected at least 1")
    if sizes.units_max % sizes.page_tokens:
        raise errors.ConfigError(
            f"units_max is {sizes.units_max}: expected a multiple of page_tokens, "
            f"{sizes.page_tokens}"
        )


def _operands(sizes: LoopSizes) -> packing.Packing:
    units = packing.int32(sizes.chunk_units, sizes.lanes)
    return packing.Packing(
        {
            "tokens": units,
            "positions": units,
            "pages": units,
            "counts": packing.int32(sizes.lanes),
            "tables": packing.int32(sizes.lanes, sizes.units_max // sizes.page_tokens),
        }
    )


def _call(
    loop: Loop, operands: packing.Packing, pool: jax.Array, last: jax.Array, packed: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One call of the loop, and the tokens that its lanes go on from."""
    given = operands.unpack(packed)
    units = Units(given["tokens"], given["positions"], given["pages"])
    counts = given["counts"]
    pool, made = loop(pool, Work(units, counts, given["tables"], last))
    if made.shape != units.tokens.shape or made.dtype != jnp.int32:
        raise errors.ConfigError(
            f"the loop made {made.dtype}{list(made.shape)}: expected "
            f"int32{list(units.tokens.shape)}, a token for every unit of every lane"
        )
    ends = jnp.take_along_axis(made, jnp.maximum(counts - 1, 0)[None], axis=0)[0]
    return pool, jnp.where(counts > 0, ends, last), made


def _share(plan: types.LanePlan) -> _Share:
    session = plan.session
    units = plan.prefill + plan.steps
    known = min(units, session.known - plan.first)
    tokens = prompt.unit_ids(session, plan.first, known).tolist() if known > 0 else []
    completes = plan.prefill > 0 and plan.first + plan.prefill == session.known
    return _Share(plan, tokens, units, plan.steps + completes)


def _pack(
    operands: packing.Packing, sizes: LoopSizes, shares: list[_Share]
) -> Iterator[np.ndarray]:
    """Operands of as many calls as the longest share needs."""
    for start in range(0, max(share.units for share in shares), sizes.chunk_units):
        vector, views = operands.host()
        for share in shares:
            _pack_share(views, sizes, share, start)
        yield vector


def _pack_share(views: dict[str, np.ndarray], sizes: LoopSizes, share: _Share, start: int) -> None:
    """Units [start, start + chunk_units) of the share, into its lane."""
    count = min(max(share.units - start, 0), sizes.chunk_units)
    lane, pages = share.plan.lane, np.asarray(share.plan.pages, np.int32)
    tokens = share.tokens[start : start + count]
    positions = share.plan.first + start + np.arange(count)
    views["tokens"][:count, lane] = UNKNOWN
    views["tokens"][: len(tokens), lane] = tokens
    views["positions"][:count, lane] = positions
    views["pages"][:count, lane] = pages[positions // sizes.page_tokens]
    views["counts"][lane] = count
    views["tables"][lane, : len(pages)] = pages


def _outcome(share: _Share, made: list[int]) -> types.Outcome:
    plan, request = share.plan, share.plan.session.request
    tokens = made[share.units - share.emits : share.units]
    finished = ""
    stops = [i for i, token in enumerate(tokens) if token in request.payload.stop_ids]
    if stops:
        finished = "stop"
    elif tokens and len(plan.session.emitted) + len(tokens) >= request.steps_max:
        finished = "length"
    overrun = len(tokens) - 1 - stops[0] if stops else 0
    return types.Outcome(
        session=plan.session.id,
        tokens=tokens[: len(tokens) - overrun],
        finished=finished,
        prefill_units=plan.prefill,
        step_units=plan.steps - overrun,
        overrun=overrun,
    )
