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
closed waits for what is open on it: no copy outlives the memory that it touches,
and no program finds its pool retired.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

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
_LOOK_SECONDS = 1e-3  # between two looks at a program, on closing
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
        self._tokens: dict[int, Any] = {}  # of the last program on each pool; jax.Array
        self._programs: dict[tuple[str, int], _Program] = {}  # by target and pool
        self._closed = False
        self._transfers = native_transfers.share(library, threads=threads, cores=cores)
        self._sharing = True
        self._unguard: dict[page_array.PageArray, Callable[[], None]] = {}
        try:
            for array in self._arrays():
                self._register(array)
                forget = functools.partial(self._forget, array, "its memory is given back")
                self._unguard[array] = array.before_release(forget)
        except BaseException:
            self._let_go()
            raise

    def warm_up(self) -> None:
        """Compiles the programs of every pool."""
        for store in self._stores.values():
            if isinstance(store, paged.PagedPool):
                for target in ("aqua_page_out", "aqua_page_in", "aqua_fence"):
                    self._program(target, store)

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
        pool, run = _pool_of(plan), None
        if pool is not None:  # compiled, if need be, while no ticket waits for it
            target = "aqua_page_out" if plan.source is pool else "aqua_page_in"
            run = functools.partial(self._enqueue, self._program(target, pool), pool)
        copy = _Copy(base.new_ticket(self._clock, moves), plan)
        try:
            copy.native = self._transfers.submit(
                functools.partial(self._open_copy, plan), functools.partial(self._deliver, copy)
            )
        except errors.AquaError as error:  # a closed arena, a lost pool, too many tickets
            raise errors.MoveError(f"refused: {error}") from error
        self._open.append(copy)
        if run is not None:
            try:
                run(copy.native)
            except Exception as error:  # a lost pool: as a completion, like any failed copy
                copy.lost_because = error
        return copy.ticket

    def fence(self, space: int) -> tickets.Ticket:
        """Holds back programs enqueued on the pool from now on until its copies are complete.

        Enqueues one program, if copies are open. If they take longer than
        FENCE_SECONDS the programs run all the same: the ticket fails, and the
        log has an error.
        """
        self._stores.check_pool(space)
        pool = self._stores.of(space)
        assert isinstance(pool, paged.PagedPool), "checked just now"
        awaited = [copy.native for copy in self._open if copy.touches(pool)]
        if not awaited:
            return base.passed_fence(self._clock, space)
        program = self._program("aqua_fence", pool)
        ticket = base.new_fence(self._clock, space)
        native = self._transfers.submit(
            lambda: self._library.fence_open(self._handle(pool), awaited, seconds=FENCE_SECONDS),
            functools.partial(self._deliver_fence, ticket, pool.label),
        )
        self._enqueue(program, pool, native)
        return ticket

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
        """Waits (bounded) for copies in flight; their completions can still be polled.

        Raises InternalError when something stays under way on an array: its
        memory is guarded until a later `close`, or the array's own, finds it done.
        """
        self._closed = True
        self._settle(self._arrays())
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

    def _program(self, target: str, pool: paged.PagedPool) -> _Program:
        program = self._programs.get((target, pool.space))
        if program is None:
            program = self._programs[target, pool.space] = _program(target, pool)
        return program

    def _enqueue(self, program: _Program, pool: paged.PagedPool, native: int) -> None:
        """Enqueues the program that the ticket waits for; abandons the ticket if it cannot."""
        try:
            (token,) = pool.run(program.run, program.any_ticket)
        except BaseException as error:  # Ctrl-C too: the next program would take its place
            self._transfers.abandon(native, str(error) or type(error).__name__)
            raise
        self._tokens[pool.space] = token
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

    def _deliver_fence(
        self, ticket: tickets.Ticket, label: str, completion: native_abi.Completion
    ) -> None:
        """On the waiting thread: passed, or the pool goes on without."""
        error = completion.error
        if error is not None:
            _log.error("a fence on %s did not hold: %s", label, error)
            error = errors.MoveError(f"a fence on {label} did not hold: {error}")
            error.__cause__ = completion.error
        base.settle(ticket, 0, at=self._clock.now(), error=error)
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

    def _settle(self, arrays: Sequence[page_array.PageArray]) -> int:
        """Waits (bounded) for copies that touch an array and for its programs; how many stay."""
        seconds = native_transfers.CLOSE_SECONDS
        deadline = time.monotonic() + seconds
        copies = {copy.native for copy in self._open for a in arrays if copy.touches(a)}
        left = len(self._transfers.settle(copies, seconds))
        # A program may be on its way to a ticket that has failed, or be a fence.
        tokens = [self._tokens[a.space] for a in arrays if a.space in self._tokens]
        while waiting := [token for token in tokens if not token.is_ready()]:
            if time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_SECONDS)
        return left + len(waiting)

    def _forget(self, array: page_array.PageArray, why: str) -> None:
        """Retires an array; returns when nothing is open on it. InternalError if something stays.

        An arena at once: copies that have not begun fail. A pool in the end: a
        program that finds its pool retired fails, and takes the pool along.
        """
        if not isinstance(array, paged.PagedPool):
            self._retire(array, why)
        if left := self._settle([array]):
            raise errors.InternalError(
                f"{left} copies or programs are under way on {array.label} after "
                f"{native_transfers.CLOSE_SECONDS} s, and {why}: close it again when they are over"
            )
        self._retire(array, why)

    def _retire(self, array: page_array.PageArray, why: str) -> None:
        handle = self._handles.pop(array.space, None)
        if handle is not None:
            self._library.store_retire(handle, why)

    def _let_go(self) -> None:
        """Lets go of every array on which nothing is open. Idempotent once all are."""
        stuck: list[errors.InternalError] = []
        for array in self._arrays():
            try:
                self._forget(array, "the mover was closed")
            except errors.InternalError as error:
                stuck.append(error)
            else:
                self._unguard.pop(array, lambda: None)()
        if stuck:
            raise stuck[0]
        if self._sharing:
            self._sharing = False
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
