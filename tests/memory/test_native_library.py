"""Typed calls of the native library: values that arrive and come back, refusals, waiting."""

from __future__ import annotations

import pathlib
import threading
import time

import pytest

from aqua_jax.control import errors
from aqua_jax.memory import native_library
from tests import processes
from tests.memory import fake_native, parts

pytestmark = fake_native.needs_compiler

FOREVER = 30.0  # seconds; a test that waits this long fails


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return fake_native.build(tmp_path_factory.mktemp("fake"))


@pytest.fixture
def library(path: pathlib.Path) -> native_library.Library:
    return native_library.Library(path)


def test_what_it_says_of_its_build(library: native_library.Library) -> None:
    assert library.build == native_library.BuildInfo(1, (0, 3), "", "cpu", None)


def test_a_description_that_is_not_what_was_promised(tmp_path: pathlib.Path) -> None:
    path = fake_native.build(tmp_path, info='{"abi": 1}')
    with pytest.raises(errors.NativeError, match=r"""describes itself as b'{"abi": 1}', which"""):
        native_library.Library(path)


def test_lists_arrive_in_order_and_whole(library: native_library.Library) -> None:
    ticket = library.copy_open(1, 2, sources=[3, 4], targets=[5, 6], pool=7)
    assert ticket == 127_0000 + 7_00 + 11
    assert library.fence_open(1, [9, 2**40], seconds=2.5) == 2**40 + 2


def test_lists_of_two_lengths_are_refused(library: native_library.Library) -> None:
    with pytest.raises(errors.NativeError, match="INVALID: a copy of 2 sources to 1 targets"):
        library.copy_open(1, 2, sources=[3, 4], targets=[5])
    with pytest.raises(errors.NativeError, match="store 'pool': 2 bases for 1 devices"):
        library.store_register("pool", [16, 32], devices=[-1], pages=4, page_bytes=16)


def test_an_integer_is_never_cut_off(library: native_library.Library) -> None:
    assert library.store_slot(2**31 - 1) == 2**31 - 1
    with pytest.raises(errors.NativeError, match=r"argument 1 of aqua_store_slot is 2147483648"):
        library.store_slot(2**31)
    assert library.memory_live_bytes() == 2**40
    assert library.tickets_open() == 3


def test_a_refusal_is_raised_with_its_place(library: native_library.Library) -> None:
    with pytest.raises(errors.NativeError, match="OUT_OF_RANGE: refused to allocate") as raised:
        library.memory_allocate(native_library.MemoryKind.HOST, 4096)
    assert raised.value.code == native_library.Code.OUT_OF_RANGE
    assert (raised.value.file, raised.value.line) == ("fake.cc", 7)
    with pytest.raises(errors.NativeError, match=r"refused to because \(fake.cc:7\)"):
        library.ticket_abandon(3, "because")


def test_pages_are_read_and_written_whole(library: native_library.Library) -> None:
    store = library.store_register("s", [16, 0x1000], devices=[-1, -1], pages=4, page_bytes=16)
    assert store == library.store_at(0x1000) == 5
    assert library.store_read(store, part=1, page=3) == bytes([13] * 16)
    library.store_write(store, b"0123456789abcdef", part=0, page=0)
    with pytest.raises(errors.NativeError, match=r"15 bytes for page 0 of store 5, .* have 16"):
        library.store_write(store, bytes(15), part=0, page=0)
    with pytest.raises(errors.NativeError, match="refused to clear"):
        library.store_clear(store)
    library.store_retire(store, "done")
    with pytest.raises(errors.NativeError, match=r"STALE: store 5 is not registered, or has ret"):
        library.store_read(store, part=0, page=0)


def test_completions_come_with_their_errors(library: native_library.Library) -> None:
    copied, failed = library.wait(0.0)
    assert copied == native_library.Completion(2**33, 64, 100, 110, 120, None)
    assert (failed.ticket, failed.bytes) == (2, 0)
    assert str(failed.error) == "OUT_OF_RANGE: refused to copy (fake.cc:7)"


def test_others_run_while_one_waits(library: native_library.Library) -> None:
    waiter = threading.Thread(target=library.wait, args=[FOREVER])
    began = time.monotonic()
    waiter.start()
    library.wake()  # would come too late if the wait kept the interpreter to itself
    waiter.join(FOREVER)
    assert time.monotonic() - began < FOREVER / 2


@parts.needs_native
def test_the_real_library_copies_pages_between_memories() -> None:
    # In a process of its own: the library of this one is other tests' to start and close.
    program = """
from aqua_jax.control import errors
from aqua_jax.memory import native

library = native.load("cpu")
library.start(1)
memory = library.memory_allocate(1, 3 * 4096)
base = library.memory_address(memory)
sizes = {"devices": [-1], "page_bytes": 4096, "memory": memory}
here = library.store_register("here", [base], pages=2, **sizes)
there = library.store_register("there", [base + 2 * 4096], pages=1, **sizes)
library.store_write(here, bytes(range(256)) * 16, part=0, page=1)
ticket = library.copy_open(here, there, sources=[1], targets=[0])
(completion,) = library.wait(30.0)
assert (completion.ticket, completion.bytes, completion.error) == (ticket, 4096, None)
assert 0 < completion.opened_ns <= completion.started_ns <= completion.finished_ns
assert library.store_read(there, part=0, page=0) == bytes(range(256)) * 16
try:
    library.copy_open(here, there, sources=[2], targets=[0])
except errors.NativeError as error:
    assert error.file.endswith(".cc") and error.line, error
    print(error)
library.store_retire(here, "done")
library.store_retire(there, "done")
library.memory_free(memory)
assert library.memory_live_bytes() == 0
# Not closed: the interpreter does it.
"""
    assert "OUT_OF_RANGE: " in processes.python(program)


@parts.needs_native
def test_long_pages_arrive_whole_wherever_they_lie() -> None:
    """Long ranges are copied in another way than short ones: no byte more, none less."""
    program = """
import numpy as np
from aqua_jax.memory import native
library = native.load()
library.start(1)
rng = np.random.default_rng(0)
for page_bytes in (16 << 10, (16 << 10) + 1, 70_001, (1 << 20) + 77):
    for shift in (0, 1, 16, 63):
        source = rng.integers(0, 256, 2 * page_bytes + 64, np.uint8)
        target = np.full(2 * page_bytes + 192, 7, np.uint8)
        sizes = {"devices": [-1], "pages": 2, "page_bytes": page_bytes}
        here = library.store_register("here", [source.ctypes.data + 5], **sizes)
        there = library.store_register("there", [target.ctypes.data + 64 + shift], **sizes)
        library.copy_open(here, there, sources=[0, 1], targets=[1, 0])
        (completion,) = library.wait(30.0)
        assert completion.error is None
        first, second = source[5:][:page_bytes], source[5 + page_bytes :][:page_bytes]
        expected = np.full_like(target, 7)
        expected[64 + shift :][: 2 * page_bytes] = np.concatenate([second, first])
        assert np.array_equal(target, expected), (page_bytes, shift)
        library.store_retire(here, "done")
        library.store_retire(there, "done")
print("whole")
"""
    assert "whole" in processes.python(program)
