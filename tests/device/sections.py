"""The sections of the GPU check after the build, each in a process of its own.

    python3 -m tests.device.sections NAME FILE [--rehearse]

writes the lines of section NAME to FILE as they come.
"""

from __future__ import annotations

import argparse
import ctypes
import pathlib
import traceback
from collections.abc import Callable

import jax

from aqua_jax.memory import native
from tests.device import (
    checks_attention,
    checks_memory,
    checks_moves,
    generate,
    measure_attention,
    measure_moves,
    processes,
)
from tests.device import place as places
from tests.device import report as reports


def load(place: places.Place, report: reports.Report) -> None:
    """The library opens, fits this jax and registers; its threads start and end."""
    build = place.library.build
    report.passed("library", f"{place.library.path.name} for CUDA {build.cuda}, {build.compiler}")
    report.passed("jax", f"{jax.__version__} on {place.device.device_kind}")
    report.check("transfer threads start and end", lambda: _start_and_end(place.library))
    report.passed("devices", f"{len(jax.devices())}; peer access: {_peers(place)}")


def check(place: places.Place, report: reports.Report) -> None:
    """The tests that are marked `device`, without pytest."""
    for module in (checks_memory, checks_moves, checks_attention):
        for body in module.CHECKS:
            name = body.__name__.removeprefix("check_").replace("_", " ")
            report.check(name, lambda body=body: body(place))


SECTIONS: dict[str, Callable[[places.Place, reports.Report], None]] = {
    "load": load,
    "checks": check,
    "links": measure_moves.measure_links,
    "batches": measure_moves.measure_batches,
    "movers": measure_moves.measure_movers,
    "overlap": measure_moves.measure_overlap,
    "attention": measure_attention.measure_attention,
    "processes": processes.share_arenas,
    "text": generate.generate,
}


def main() -> None:
    """Runs one section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SECTIONS)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    place = places.Place("cpu" if given.rehearse else "CUDA", tiny=given.rehearse)
    report = reports.Report(given.name, given.file)
    try:
        _ = place.library  # registered before any program that calls it is compiled
        SECTIONS[given.name](place, report)
    except Exception as error:
        traceback.print_exc()
        report.failed("the rest of the section", f"{type(error).__name__}: {error}"[:400])


def _start_and_end(library: native.Library) -> None:
    library.start(1)
    library.close(5.0)


def _peers(place: places.Place) -> str:
    """Which pairs of GPUs reach each other, as the driver says."""
    if place.platform != "CUDA":
        return "none, no GPU"
    driver = ctypes.CDLL("libcuda.so.1")
    count = len(jax.devices())
    found = []
    for one in range(count):
        for other in range(count):
            can = ctypes.c_int(0)
            if one != other and driver.cuDeviceCanAccessPeer(ctypes.byref(can), one, other) == 0:
                found += [f"{one}-{other}"] if can.value else []
    return ", ".join(found) or "none"


if __name__ == "__main__":
    main()
