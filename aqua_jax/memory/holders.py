"""Who holds a view of this memory? Asked when a pool has moved, to name the culprit.

Knows: frames, modules, objects the collector tracks, numpy and jax arrays.
Does not know: pools. Slow (every tracked object is looked at), so for errors
only. Numpy arrays are not tracked by the collector: they are found as locals
of live frames and as referents of tracked objects.
"""

from __future__ import annotations

import gc
import inspect
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

_NAMED_MAX = 8


def find(ranges: Sequence[tuple[int, int]], *, ignored: jax.Array) -> list[str]:
    """Names of what holds an array in one of the half-open address ranges, at most eight.

    ignored: the handle whose memory it is; holding that one is no offence.

    E.g. "local `view` of test_moves (test_paged.py:31): numpy array float32[8, 4]".
    """
    search = _Search(ranges, ignored)
    named = dict.fromkeys(f"{place}: {_describe(array)}" for place, array in search.all())
    return list(named)[:_NAMED_MAX]


class _Search:
    """One look at the process."""

    def __init__(self, ranges: Sequence[tuple[int, int]], ignored: jax.Array) -> None:
        self._ranges = ranges
        # With its shards: jax keeps those in a list, from 0.11 on in one that the collector tracks.
        shards = [] if ignored.is_deleted() else _shards(ignored)
        self._ignored = {id(array) for array in (ignored, *shards)}
        self._concrete_array = type(ignored)  # jax.Array is also the type of tracers
        self._locals: list[Any] = []  # what frames gave of their locals: no holders themselves

    def all(self) -> list[tuple[str, Any]]:
        """(place, array) of everything found."""
        found = [*self._frames(), *self._objects()]
        self._locals.clear()  # else this search would keep alive what it found
        return found

    def _frames(self) -> Iterator[tuple[str, Any]]:
        """Locals of every thread's frames; those at module level are found as globals."""
        stacks = list(sys._current_frames().values())
        while stacks:  # without a name for this very frame, which would keep all of them alive
            frame = stacks.pop()
            if frame.f_code.co_name != "<module>" and frame.f_code.co_filename != __file__:
                given = frame.f_locals
                # From Python 3.13 on a view, which refers to nothing by itself.
                local = given if isinstance(given, dict) else dict(given)
                self._locals.append(local)
                for name, value in list(local.items()):
                    if self._inside(value):
                        yield f"local `{name}` of {_where(frame)}", value
            if frame.f_back is not None:
                stacks.append(frame.f_back)

    def _objects(self) -> Iterator[tuple[str, Any]]:
        """Attributes, globals and elements of everything the collector tracks."""
        skipped = {id(local) for local in self._locals}
        for owner in gc.get_objects():
            if id(owner) not in skipped and not inspect.isframe(owner):
                for holder, value in _values(owner):
                    if self._inside(value):
                        yield _place(holder, value), value

    def _inside(self, value: Any) -> bool:
        if isinstance(value, np.ndarray):
            spans = [np.lib.array_utils.byte_bounds(value)]
        elif isinstance(value, self._concrete_array):
            live = id(value) not in self._ignored and not value.is_deleted()
            spans = _spans(value) if live else []
        else:
            return False
        return any(low < end and start < high for low, high in spans for start, end in self._ranges)


def _values(owner: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, value) of what an object refers to.

    Dictionaries and tuples of plain values and arrays are not tracked by the
    collector, so they are looked into where they hang.
    """
    for value in gc.get_referents(owner):
        yield owner, value
        if isinstance(value, dict | tuple) and not gc.is_tracked(value):
            yield from _values(value)


def _spans(array: jax.Array) -> list[tuple[int, int]]:
    starts = [(shard.unsafe_buffer_pointer(), shard.nbytes) for shard in _shards(array)]
    return [(start, start + nbytes) for start, nbytes in starts]


def _shards(array: jax.Array) -> list[Any]:
    return [array.addressable_data(i) for i in range(len(array.sharding.addressable_devices))]


def _place(owner: Any, value: Any) -> str:
    if isinstance(owner, dict):
        names = [key for key, held in list(owner.items()) if held is value]
        return f"{_dict_name(owner)} at {names[0]!r}" if names else _dict_name(owner)
    if isinstance(owner, list | tuple):
        return f"element of a {type(owner).__name__} of {len(owner)}{_held_by(owner)}"
    if isinstance(owner, types.CellType):
        return "variable of a closure"
    attributes = getattr(owner, "__dict__", {})
    names = [key for key, held in list(attributes.items()) if held is value]
    what = f"attribute `{names[0]}` of" if names else "inside"
    return f"{what} a {type(owner).__qualname__}"


def _dict_name(owner: dict[Any, Any]) -> str:
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", None) is owner:
            return f"globals of {module.__name__}"
    for referrer in gc.get_referrers(owner):
        if getattr(referrer, "__dict__", None) is owner:
            return f"attributes of a {type(referrer).__qualname__}"
    return f"a dict{_held_by(owner)}"


def _held_by(container: Any) -> str:
    """Where a list, tuple or dict hangs, one level up; empty when nothing tells."""
    for referrer in gc.get_referrers(container):
        attributes = referrer if isinstance(referrer, dict) else getattr(referrer, "__dict__", {})
        for key, held in list(attributes.items()):
            if held is container and isinstance(key, str):
                return f" held as `{key}`"
    return ""


def _describe(array: Any) -> str:
    kind = "numpy array" if isinstance(array, np.ndarray) else "jax array"
    return f"{kind} {array.dtype}{list(array.shape)}"


def _where(frame: types.FrameType) -> str:
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno})"
