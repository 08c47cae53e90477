"""The mover of one-sided copies: native code moves the pages beside the programs that run.

Knows: stores and their native registration, tickets. Does not know: how bytes
move (xla_ext/), policy, links. Every check is made before the donated call.

    submit:  plan checked -> ticket opened (native checks) -> program enqueued on the pool
             .. the pool's array reaches the program: the copy starts, the program is over ..
             .. later programs run; the last byte arrives: the ticket is done

So a copy is ordered after the programs enqueued on its pool before it, and not
before those enqueued later, unless a `fence` is put between them. Copies that
touch the same pages run in the order of submission. Copies between arenas
start at once and need no program.

A store is registered while this mover lives. A jax array that is rebuilt or
closed is retired first: no copy outlives the memory that it touches.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aqua_jax.control import clock as clocks
from aqua_jax.control import errors, tickets, types
from aqua_jax.memory import (
    native_abi,
    native_arenas,
    native_library,
    native_transfers,
    page_array,
    page_store,
    paged,
    partition,
    programs,
)
from aqua_jax.memory.movers import base

FENCE_SECONDS = 30.0  # counted from where the pool's array reaches the fence

_PLATFORMS = {"cpu": "cpu", "gpu": "cuda"}  # of jax devices -> of the library
_DEAR = 2048  # operations; XLA's bound is a thousand
_Plan: TypeAlias = base.Plan[page_store.PageStore]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True, eq=False)
class _Copy:
    """A submitted plan. `lost_because`: why its program was not enqueued."""

    ticket: tickets.Ticket
    plan: _Plan
    native: int = 0
    lost_because: BaseException | None = None

    def touches(self, store: page_store.PageStore) -> bool:
        return self.plan.source is store or self.plan.target is store


class FfiMover:
    """Copies pages between pools and arenas of equal partition, beside running programs.

    stores: space -> pool or arena. They must outlive the mover, arenas that are
    closed early excepted. threads, cores: of the transfer threads on CPU, which
    all movers over `library` share.

    Raises ConfigError for stores that cannot be copied part by part, NativeError
    for one that another living mover has registered.
    """

    def __init__(
        self,
        stores: Mapping[int, page_store.PageStore],
        clock: clocks.Clock,
        *,
        library: native_library.Library,
        threads: int = 1,
        cores: Sequence[int] = (),
    ) -> None:
        self._stores = base.Stores(stores)
        _check_stores(self._stores.values(), library)
        self._clock = clock
        self._library = library
        self._open: list[_Copy] = []
        self._handles: dict[int, int] = {}  # of jax arrays, by space
        self._programs: dict[tuple[str, int], _Program] = {}  # by target and pool
        self._closed = False
        self._transfers = native_transfers.share(library, threads=threads, cores=cores)
        self._unguard: list[Callable[[], None]] = []
        try:
            for array in self._arrays():
                self._register(array)
                forget = functools.partial(self._forget, array, "its memory is given back")
                self._unguard.append(array.before_release(forget))
        except BaseException:
            self._let_go()
            raise

    def warm_up(self) -> None:
        """Compiles the programs of every pool."""
        for store in self._stores.values():
            if isinstance(store, paged.PagedPool):
                for target in ("aqua_page_out", "aqua_page_in", "aqua_fence"):
                    _program(target, store)

    def handle(self, space: int) -> int:
        """The native handle of a store, for attention's page tables. Void after a rebuild."""
        return self._handle(self._stores.of(space))

    def check(self, moves: Sequence[types.Move]) -> int:
        """Bytes that the plan moves. Raises MoveError for a plan that cannot be."""
        return self._plan(moves).bytes

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """Opens the copy and returns. `after` was dispatched before, which orders it."""
        del after  # the pool's array comes out of `after`, or of a program behind it
        if self._closed:
            raise errors.MoveError("refused: the mover is closed")
        plan = self._plan(moves)
        copy = _Copy(base.new_ticket(self._clock, moves), plan)
        try:
            copy.native = self._transfers.submit(
                functools.partial(self._open_copy, plan), functools.partial(self._deliver, copy)
            )
        except errors.AquaError as error:  # a closed arena, a lost pool, too many tickets
            raise errors.MoveError(f"refused: {error}") from error
        self._open.append(copy)
        if (pool := _pool_of(plan)) is not None:
            target = "aqua_page_out" if plan.source is pool else "aqua_page_in"
            try:
                self._enqueue(target, pool, copy.native)
            except Exception as error:  # a lost pool: as a completion, like any failed copy
                copy.lost_because = error
                self._transfers.abandon(copy.native, str(error))
        return copy.ticket

    def fence(self, space: int) -> None:
        """Holds back programs enqueued on the pool from now on until its copies are complete.

        Enqueues one program, if copies are open. If they take longer than
        FENCE_SECONDS the programs run all the same, and the log has an error.
        """
        self._stores.check_pool(space)
        pool = self._stores.of(space)
        awaited = [copy.native for copy in self._open if copy.touches(pool)]
        if not awaited or not isinstance(pool, paged.PagedPool):
            return
        fence = self._transfers.submit(
            lambda: self._library.fence_open(self._handle(pool), awaited, seconds=FENCE_SECONDS),
            functools.partial(_report_fence, pool.label),
        )
        try:
            self._enqueue("aqua_fence", pool, fence)
        except Exception as error:
            self._transfers.abandon(fence, str(error))
            raise

    def poll(self) -> list[types.Completion]:
        """Completions since the last call, in order of completion. Never blocks."""
        done = [copy for copy in self._open if copy.ticket.done()]
        if done:
            self._open = [copy for copy in self._open if copy not in done]
            done.sort(key=lambda copy: copy.ticket.finished_at or 0.0)
        return [base.completion_of(copy.ticket, copy.plan.bytes) for copy in done]

    def rebuild(self) -> None:
        """Fresh arenas, zeroed; the pool is its runner's, and registered anew when next used."""
        self._stores.rebuild_arenas()

    def close(self) -> None:
        """Waits (bounded) for copies in flight; their completions can still be polled."""
        if self._closed:
            return
        self._closed = True
        self._transfers.settle((copy.native for copy in self._open), native_transfers.CLOSE_SECONDS)
        self._let_go()

    # -- plans -------------------------------------------------------------------------------

    def _plan(self, moves: Sequence[types.Move]) -> _Plan:
        plan = self._stores.plan(moves)
        ends = (plan.source, plan.target)
        if plan.source is not plan.target and all(isinstance(e, paged.PagedPool) for e in ends):
            raise errors.MoveError(
                f"refused: {plan.source.label} and {plan.target.label} are two pools, and one "
                "program cannot order a copy on both: move the pages through an arena"
            )
        return plan

    def _open_copy(self, plan: _Plan) -> int:
        pool = _pool_of(plan)
        return self._library.copy_open(
            self._handle(plan.source),
            self._handle(plan.target),
            sources=plan.sources,
            targets=plan.targets,
            pool=0 if pool is None else self._handle(pool),
        )

    def _enqueue(self, target: str, pool: paged.PagedPool, native: int) -> None:
        """Enqueues the program that the ticket waits for."""
        program = self._programs.get((target, pool.space))
        if program is None:
            program = self._programs[target, pool.space] = _program(target, pool)
        (token,) = pool.run(program.run, program.any_ticket)
        self._transfers.watch(native, token)

    def _deliver(self, copy: _Copy, completion: native_abi.Completion) -> None:
        """On the waiting thread: DONE or FAILED."""
        error = copy.lost_because
        if error is None and completion.error is not None:
            error = errors.MoveError(
                f"the copy of pages {copy.plan.sources} of {copy.plan.source.label} to "
                f"{copy.plan.targets} of {copy.plan.target.label} failed: {completion.error}"
            )
            error.__cause__ = completion.error
        base.settle(copy.ticket, copy.plan.bytes, at=self._clock.now(), error=error)
        self._clock.wake()

    # -- registration ------------------------------------------------------------------------

    def _arrays(self) -> list[page_array.PageArray]:
        return [s for s in self._stores.values() if isinstance(s, page_array.PageArray)]

    def _handle(self, store: page_store.PageStore) -> int:
        if isinstance(store, native_arenas.NativeArena):
            return store.handle
        assert isinstance(store, page_array.PageArray), "checked when the mover was made"
        if store.space not in self._handles:  # it was rebuilt, or closed
            self._register(store)
        return self._handles[store.space]

    def _register(self, array: page_array.PageArray) -> None:
        array.check_integrity()
        cut = partition.of(array.sharding, array.page_shape)
        self._handles[array.space] = self._library.store_register(
            array.label,
            array.addresses,
            devices=_ordinals(array),
            pages=len(array.indices) + 1,
            page_bytes=array.page_bytes // cut.parts,
        )

    def _forget(self, array: page_array.PageArray, why: str) -> None:
        """Retires an array; returns when no copy touches it. Raises InternalError if one stays."""
        handle = self._handles.pop(array.space, None)
        if handle is None:
            return
        self._library.store_retire(handle, why)
        touching = [copy.native for copy in self._open if copy.touches(array)]
        if left := self._transfers.settle(touching, native_transfers.CLOSE_SECONDS):
            raise errors.InternalError(
                f"{len(left)} copies are under way on {array.label} after "
                f"{native_transfers.CLOSE_SECONDS} s, and {why}"
            )

    def _let_go(self) -> None:
        try:
            for array in self._arrays():
                self._forget(array, "the mover was closed")
        finally:
            for unguard in self._unguard:
                unguard()
            self._unguard.clear()
            self._transfers.release()


def _check_stores(stores: Sequence[page_store.PageStore], library: native_library.Library) -> None:
    for store in stores:
        if not isinstance(store, page_array.PageArray | native_arenas.NativeArena):
            raise errors.ConfigError(
                f"{store.label} is a {type(store).__name__}: the ffi mover copies between jax "
                "arrays (pools, DeviceArena, HostArena) and NativeArena"
            )
        platforms = {device.platform for device in store.sharding.device_set}
        if {_PLATFORMS.get(platform) for platform in platforms} != {library.build.platform}:
            raise errors.ConfigError(
                f"{store.label} is on {sorted(platforms)} devices, but {library.path} is for "
                f"{library.build.platform}: load the library of its platform"
            )
    for one, other in itertools.combinations(stores, 2):
        if (one.page_shape, one.dtype) != (other.page_shape, other.dtype):
            continue  # of two kinds: no plan joins them
        cuts = [partition.of(store.sharding, store.page_shape) for store in (one, other)]
        if cuts[0] != cuts[1]:
            raise errors.ConfigError(
                f"pages of {one.label} lie in {cuts[0].parts} parts of {cuts[0].part_shape}, of "
                f"{other.label} in {cuts[1].parts} of {cuts[1].part_shape}: native code copies "
                "part by part, so give the arena the pool's mesh shape and partition, or make it "
                "a NativeArena with the pool's sharding"
            )


def _pool_of(plan: _Plan) -> paged.PagedPool | None:
    """The pool whose array starts the copy; None between arenas."""
    for store in (plan.source, plan.target):
        if isinstance(store, paged.PagedPool):
            return store
    return None


def _ordinals(array: page_array.PageArray) -> list[int]:
    """The CUDA ordinal of each part's device, -1 for host memory."""
    devices = array.sharding.devices_indices_map((1, *array.page_shape))
    on_host = programs.in_host_memory(array.sharding)
    return [-1 if on_host or d.platform == "cpu" else d.local_hardware_id for d in devices]


def _report_fence(label: str, completion: native_abi.Completion) -> None:
    if completion.error is not None:
        _log.error("a fence on %s did not hold: %s", label, completion.error)


class _Program(NamedTuple):
    """A compiled program of one pool, and its operand.

    any_ticket: -1, the ticket whose turn it is. Tickets of a pool queue up in
    the order of opening, which is that of these programs. Sending the number
    along was measured: 36 to 170 us of the caller's time for each plan.
    """

    run: jax.stages.Compiled
    any_ticket: jax.Array  # int32[1]


def _program(target: str, pool: paged.PagedPool) -> _Program:
    shape = (pool.pages, *pool.page_shape)
    run = _compiled(target, shape, pool.dtype, pool.sharding)
    everywhere = programs.replicated_sharding(pool.sharding)
    return _Program(run, jax.device_put(np.array([-1], np.int32), everywhere))


@functools.cache
def _compiled(
    target: str, shape: tuple[int, ...], dtype: np.dtype, sharding: jax.sharding.Sharding
) -> jax.stages.Compiled:
    """`(pool, ticket int32[1]) -> (pool, token int32[1])`, donating the pool.

    The token is ready when the program is over, and fails with it.

    XLA's CPU client runs a program of less than a thousand operations on the
    calling thread. That suits a page program, which returns at once, but a
    fence would hold up who enqueues it: its token is made dear enough.
    """

    def reach(pool: jax.Array, ticket: jax.Array) -> tuple[jax.Array, jax.Array]:
        result = jax.ShapeDtypeStruct(pool.shape, pool.dtype)
        call = jax.ffi.ffi_call(target, result, input_output_aliases={0: 0})
        dear = jnp.sum(lax.iota(jnp.int32, _DEAR) * ticket, keepdims=True)
        return call(pool, ticket), dear if target == "aqua_fence" else -ticket

    whole = programs.replicated_sharding(sharding)
    body = reach
    if isinstance(sharding, jax.sharding.NamedSharding):
        spec, everywhere = sharding.spec, jax.sharding.PartitionSpec()
        body = jax.shard_map(
            reach,
            mesh=sharding.mesh,
            in_specs=(spec, everywhere),
            out_specs=(spec, everywhere),
            check_vma=False,
        )
    jitted = jax.jit(
        body,
        donate_argnums=0,
        in_shardings=(sharding, whole),
        out_shardings=(sharding, whole),
    )
    return jitted.lower(
        jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct((1,), np.int32)
    ).compile()
