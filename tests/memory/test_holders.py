"""The search for holders of a range of memory names where each hangs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import jax
import numpy as np
import pytest

from aqua_jax.memory import holders
from tests.memory import parts

KEPT: dict[str, np.ndarray] = {}
HELD: np.ndarray | None = None


@functools.cache
def _array() -> jax.Array:
    return jax.jit(lambda: jax.numpy.full((64, 16), 2.0), out_shardings=parts.on(0))()


def _find() -> str:
    start = _array().unsafe_buffer_pointer()
    return "; ".join(holders.find([(start, start + _array().nbytes)], ignored=_array()))


def _view() -> np.ndarray:
    return np.asarray(_array())


def test_nobody() -> None:
    assert _find() == ""


def test_a_local() -> None:
    mine = _view()
    assert "local `mine` of test_a_local (test_holders.py:" in _find()
    assert mine.size == 1024


def test_a_global(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.memory.test_holders.HELD", _view())
    assert "globals of tests.memory.test_holders at 'HELD': numpy array float32[64, 16]" in _find()


def test_a_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KEPT, "page", _view()[3:5])
    assert "a dict held as `KEPT` at 'page': numpy array float32[2, 16]" in _find()


def test_a_list() -> None:
    pages = [0, _view()]
    assert "element of a list of 2 held as `pages`" in _find()
    assert len(pages) == 2


def test_a_closure() -> None:
    def reader(page: np.ndarray) -> Callable[[], float]:
        return lambda: float(page[0, 0])

    read = reader(_view())
    assert "variable of a closure" in _find()
    assert read() == 2.0


def test_slots() -> None:
    class Packed:
        __slots__ = ("page",)

    packed = Packed()
    packed.page = _view()
    assert "inside a test_slots.<locals>.Packed" in _find()


def test_another_threads_local() -> None:
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        theirs = _view()
        ready.set()
        done.wait(10)
        assert theirs.size == 1024

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(10)
    found = _find()
    done.set()
    thread.join()
    assert "local `theirs` of test_another_threads_local.<locals>.hold" in found


def test_another_jax_array() -> None:
    alias = jax.dlpack.from_dlpack(_array())
    alias.block_until_ready()
    assert "local `alias` of test_another_jax_array" in _find()


def test_other_memory_is_no_offence() -> None:
    copy = np.array(_array())
    assert _find() == ""
    assert copy.size == 1024
