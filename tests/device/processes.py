"""Section of the GPU check: two processes share an arena, by a descriptor over a Unix socket.

Run as a module it is the borrower: it maps what the lender sent, looks, writes, and says so.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
from typing import Any

import numpy as np

from aqua_jax.control import errors
from aqua_jax.memory import native_library
from tests.device import place as places
from tests.device import report as reports
from tests.device.place import DEVICE, SHARED

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PAGES, _PAGE_BYTES = 4, 64 << 10
_SECONDS = 40.0


def share_arenas(place: places.Place, report: reports.Report) -> None:
    """Both kinds of memory that may leave a process. What the machine forbids is not available."""
    for space in (SHARED, DEVICE):
        kind = places.KINDS[space]
        try:
            arena = place.arena(space, _PAGES, (_PAGE_BYTES,), np.uint8)
        except errors.NativeError as error:
            report.refused(f"{kind} arena", error.code, str(error))
            continue
        try:
            _share(place, report, kind, arena)
        finally:
            arena.close()


def _share(place: places.Place, report: reports.Report, kind: str, arena: Any) -> None:
    name = f"{kind} arena in two processes"
    pattern = _pattern(1)
    arena.write(range(_PAGES), pattern)
    try:
        descriptor = arena.export()
    except errors.NativeError as error:
        report.refused(name, error.code, str(error))
        return
    try:
        answer = _lend(place, kind, arena.nbytes, descriptor)
    finally:
        os.close(descriptor)
    if "unavailable" in answer:
        report.unavailable(name, answer["unavailable"][:300])
        return
    if "error" in answer:
        report.refused(name, answer.get("code"), answer["error"])
        return
    arrived = bool(answer.get("same", False))
    report.expect(f"{name}: the lender's bytes arrive", arrived, str(answer)[:200])
    returned = np.array_equal(arena.snapshot(range(_PAGES)), _pattern(2))
    report.expect(f"{name}: the borrower's bytes are there", returned, f"{_PAGES} pages compared")


def _lend(place: places.Place, kind: str, nbytes: int, descriptor: int) -> dict[str, Any]:
    """Sends the memory to another process; its answer."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.settimeout(_SECONDS)
    command = [sys.executable, "-m", "tests.device.processes"]
    command += [str(theirs.fileno()), str(place.library.path), kind, str(nbytes)]
    with ours, theirs:
        borrower = subprocess.Popen(command, cwd=_ROOT, pass_fds=[theirs.fileno()])
        try:
            theirs.close()
            try:
                socket.send_fds(ours, [b"memory"], [descriptor])
            except OSError as error:
                return {"unavailable": f"descriptors cannot be sent: errno {error.errno} ({error})"}
            text = ours.makefile().readline()
            return json.loads(text) if text else {"error": f"no answer, rc {borrower.wait(10)}"}
        finally:
            try:
                borrower.wait(10)
            except subprocess.TimeoutExpired:
                borrower.kill()
                borrower.wait()


def borrow(channel: socket.socket, path: str, kind: str, nbytes: int) -> dict[str, Any]:
    """What the borrower found; the memory holds the second pattern afterwards."""
    try:
        _, descriptors, _, _ = socket.recv_fds(channel, 16, 1)
    except OSError as error:
        return {"unavailable": f"descriptors cannot be received: errno {error.errno} ({error})"}
    if not descriptors:
        return {"unavailable": "the message came without its descriptor"}
    library = native_library.Library(pathlib.Path(path))
    on_device = kind == "device" and library.build.platform == "cuda"
    ordinal = 0 if on_device else -1
    try:
        memory = library.memory_import(
            native_library.MemoryKind[kind.upper()], descriptors[0], nbytes, device=ordinal
        )
    except errors.NativeError as error:
        return {"error": str(error), "code": error.code}
    store = library.store_register(
        "borrowed",
        [library.memory_address(memory)],
        devices=[ordinal],
        pages=_PAGES,
        page_bytes=_PAGE_BYTES,
        memory=memory,
    )
    found = [library.store_read(store, part=0, page=page) for page in range(_PAGES)]
    same = all(bytes(page) == want.tobytes() for page, want in zip(found, _pattern(1), strict=True))
    for page, values in enumerate(_pattern(2)):
        library.store_write(store, values.tobytes(), part=0, page=page)
    library.store_retire(store, "looked at")
    library.memory_free(memory)
    return {"same": same}


def _pattern(seed: int) -> np.ndarray:
    shape = (_PAGES, _PAGE_BYTES)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        answer = borrow(channel, sys.argv[2], sys.argv[3], int(sys.argv[4]))
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    channel.sendall(json.dumps(answer).encode() + b"\n")
    channel.close()


if __name__ == "__main__":
    _main()
