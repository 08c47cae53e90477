"""One device array that stays where it is: donated to every program, at one address for life.

Knows: donation, addresses, who may hold a view of a buffer. Does not know:
pages, moves, sessions. Invariants 8 and 9 (ARCHITECTURE.md) are kept here, and
no caller ever sees the array itself: a numpy view of it would make the next
donated program write elsewhere without a word.

        LIVE --run()-----> LIVE    same address, old handle deleted
        LIVE --run()-----> LOST    it moved, or the program failed and took the array
        LOST --rebuild()-> LIVE    zeros, perhaps at another address
        any  --close()---> CLOSED  for good

One thread calls it, the engine's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aqua_jax.control import errors
from aqua_jax.memory import holders, huge_pages, programs


class ResidentArray:
    """An array of zeros that programs update in place.

    label: how errors name it ("pool 0", "host arena 2").
    """

    def __init__(
        self,
        label: str,
        shape: tuple[int, ...],
        *,
        dtype: jax.typing.DTypeLike,
        sharding: jax.sharding.Sharding,
    ) -> None:
        self.label = label
        self.shape = shape
        self.dtype = jnp.dtype(dtype)
        self.sharding = sharding
        self._array: jax.Array | None = None
        self._lost_because = ""
        self._closed = False
        self._addresses: tuple[int, ...] = ()
        self._before_release: list[Callable[[], None]] = []
        self.rebuild()

    @property
    def nbytes(self) -> int:
        """Bytes over all shards."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def addresses(self) -> tuple[int, ...]:
        """Where each shard lies, in the order of the sharding's devices. Fixed until `rebuild`."""
        return self._addresses

    def run(self, program: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
        """Calls `program(array, *args)` and installs the first of its results; returns the rest.

        The program must donate its first argument and return it first, updated.
        Returns as soon as the program is enqueued.

        A program that XLA runs inside this call (on CPU, one of less than a
        thousand operations) and that fails frees the memory before anyone can
        be told, `before_release` included: what may fail, a foreign call, must
        not be run so while native copies are under way. A failure later on
        keeps the memory until `rebuild`.

        Raises PoolLostError when the array was lost or moved, InternalError when
        the program did not donate (then nothing has changed).
        """
        old = self._live()
        try:
            new, *rest = program(old, *args)
        except Exception as error:
            if not old.is_deleted():
                self._name_holders(program, old, error)
                raise
            self._lose(f"program {_name(program)} failed after it was given the array")
            raise errors.PoolLostError(
                f"{self.label} is lost: {self._lost_because} ({error}); rebuild() it and recompute "
                "its sessions"
            ) from error
        if not old.is_deleted() or _addresses(new) != self._addresses:
            raise self._not_in_place(program, old, new)
        self._array = new
        return tuple(rest)

    def read(self, program: Callable[..., Any], *args: Any) -> Any:
        """Calls `program(array, *args)`, which only gathers, and returns its result.

        The read is ordered before every later `run`: XLA holds the buffer until
        it has been read, and the donated program then still writes in place.
        """
        array = self._live()
        result = program(array, *args)
        if array.is_deleted():
            self._lose(f"program {_name(program)} donated it in a read")
            raise errors.PoolLostError(
                f"{self.label} is lost: {self._lost_because}; use run() for programs that update it"
            )
        return result

    def before_release(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` before `rebuild` or `close` gives the memory back.

        For native code that knows the addresses: it must let go of them there.
        Returns what takes the callback back.
        """
        self._before_release.append(callback)
        return lambda: self._before_release.remove(callback)

    def rebuild(self) -> None:
        """A fresh array of zeros, whatever became of the old one. Everything in it is lost."""
        self._check_open()
        self._release()
        self._array = None  # first, so that both never need room at once
        self._array = self._allocate()
        huge_pages.advise([self._array])
        self._addresses = _addresses(self._array)
        self._lost_because = ""

    def close(self) -> None:
        """Waits for the last program that updates it, then gives the memory back. Idempotent."""
        self._release()
        array, self._array, self._closed = self._array, None, True
        if array is not None:
            jax.block_until_ready(array)

    def check_integrity(self) -> None:
        """Raises unless the array is live, where it was registered, and nobody else took it."""
        array = self._live()
        if array.is_deleted() or _addresses(array) != self._addresses:
            raise errors.InternalError(
                f"{self.label} should lie at {self._addresses}, but its handle is "
                f"{'deleted' if array.is_deleted() else _addresses(array)}"
            )

    def _live(self) -> jax.Array:
        self._check_open()
        if self._array is None:
            raise errors.PoolLostError(
                f"{self.label} is lost: {self._lost_because}; call rebuild() for a fresh one"
            )
        return self._array

    def _check_open(self) -> None:
        if self._closed:
            raise errors.InternalError(
                f"{self.label} was closed and its memory given back: nothing may use it any more"
            )

    def _release(self) -> None:
        for callback in list(self._before_release):
            callback()

    def _lose(self, why: str) -> None:
        self._array = None
        self._lost_because = why

    def _allocate(self) -> jax.Array:
        if not programs.in_host_memory(self.sharding):
            return jax.block_until_ready(programs.zeros(self.shape, self.dtype, self.sharding)())
        # Host to host: a jitted zeros would pass through a device buffer of the same size. The
        # CPU backend may keep numpy's memory instead of copying it, whatever may_alias says, and
        # such a buffer is never updated in place; so one donated program settles it.
        zeros = np.zeros(self.shape, self.dtype)
        array = jax.device_put(zeros, self.sharding, may_alias=False)
        return jax.block_until_ready(programs.settle(self.sharding)(array))

    def _name_holders(
        self, program: Callable[..., Any], array: jax.Array, error: Exception
    ) -> None:
        """Raises when a view kept `program` from being given the array: native code refuses copies.

        Nothing has changed: the copy that the program was given is gone.
        """
        shard_bytes = array.addressable_data(0).nbytes
        ranges = [(start, start + shard_bytes) for start in self._addresses]
        if found := holders.find(ranges, ignored=array):
            raise errors.InternalError(
                f"{self.label} could not be donated to {_name(program)}: its memory is held by "
                f"{'; '.join(found)}. Drop that and read through snapshot(), which copies "
                f"({error})"
            ) from error

    def _not_in_place(
        self, program: Callable[..., Any], old: jax.Array, new: jax.Array
    ) -> errors.AquaError:
        """The error for a program whose result lies elsewhere: who is to blame?"""
        shard_bytes = new.addressable_data(0).nbytes
        moved = set(self._addresses).difference(_addresses(new))
        found = holders.find([(start, start + shard_bytes) for start in moved], ignored=old)
        if not found and not old.is_deleted():
            return errors.InternalError(
                f"program {_name(program)} did not donate {self.label}, so XLA copied all "
                f"{self.nbytes} bytes of it: jit it with donate_argnums=0 and return the array "
                "first, with the same shape, dtype and sharding; nothing has changed"
            )
        self._lose(f"it moved while {_name(program)} ran")
        blame = "; ".join(found) or "no numpy or jax array in sight: a dlpack consumer?"
        return errors.PoolLostError(
            f"{self.label} moved while {_name(program)} ran: XLA copied all {self.nbytes} bytes of "
            f"it and its registered address is void. Its memory is held by {blame}. Drop that and "
            "read through snapshot(), which copies; then rebuild() and recompute its sessions"
        )


def _addresses(array: jax.Array) -> tuple[int, ...]:
    # Does not wait for the program that computes `array`.
    count = len(array.sharding.addressable_devices)
    return tuple(array.addressable_data(i).unsafe_buffer_pointer() for i in range(count))


def _name(program: Callable[..., Any]) -> str:
    return getattr(program, "__name__", None) or repr(program)
